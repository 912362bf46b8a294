"""Checkpoints of the upstream: declared tensors and a fingerprint, audited on loading, in whatever loop saves them."""

import io

import pytest
import torch
from torch import nn

from tests.experts import changed, equal, make_expert, snapshot, states_of, train_step, waves
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.state_dict import META

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
WAVS = waves(2900, 4000)


class Parent(nn.Module):
    """A module that contains the expert, like S3PRLUpstream or a user's model, next to another module."""

    def __init__(self, expert):
        super().__init__()
        self.upstream = expert
        self.head = nn.Linear(4, 2)


def test_in_a_parent_only_declared_tensors_are_saved():
    expert = make_expert("wavlm-base", "elp")
    state = Parent(expert).state_dict()
    assert set(state) == {f"upstream.{n}" for n in [*expert.injection.declared, META]} | {"head.weight", "head.bias"}


def test_a_parent_loads_what_it_saved():
    parent, other = Parent(make_expert("hubert-base", "elp", noise=0.1)), Parent(make_expert("hubert-base", "elp"))
    result = other.load_state_dict(parent.state_dict())
    assert result.missing_keys == [] and result.unexpected_keys == []
    assert equal(states_of(other.upstream, WAVS), states_of(parent.upstream, WAVS))
    assert torch.equal(other.head.weight, parent.head.weight)


def test_a_parents_own_keys_are_still_audited():
    parent = Parent(make_expert("wavlm-base", "le"))
    state = parent.state_dict()
    del state["head.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*head\.weight"):
        parent.load_state_dict(state)
    state = {**parent.state_dict(), "head.extra": torch.zeros(1)}
    with pytest.raises(RuntimeError, match=r"Unexpected key.*head\.extra"):
        parent.load_state_dict(state)


def test_two_experts_in_one_parent():
    pair = nn.ModuleDict({"a": make_expert("wavlm-base", "le", noise=0.1), "b": make_expert("hubert-base", "l_only")})
    other = nn.ModuleDict({"a": make_expert("wavlm-base", "le"), "b": make_expert("hubert-base", "l_only", seed=3)})
    other.load_state_dict(pair.state_dict())
    for name in pair:
        assert equal(states_of(other[name], WAVS), states_of(pair[name], WAVS))


def test_s3prl_upstream_saves_and_loads_it():
    import upstream_elp
    from tests.toys import tiny_backbone

    upstream_elp.register()
    from s3prl.nn import S3PRLUpstream

    path = str(tiny_backbone(None, "wavlm"))
    first, second = (S3PRLUpstream("elp_local", path, extra_conf={"model_config": "le"}) for _ in range(2))
    train_step(first.upstream, WAVS)
    assert all("backbone" not in key.removeprefix("upstream.") or key.endswith(META) for key in first.state_dict())
    second.load_state_dict(first.state_dict())
    assert equal(states_of(second.upstream.eval(), WAVS), states_of(first.upstream.eval(), WAVS))


def _without(state, name):
    return {key: value for key, value in state.items() if key != name}


BAD_STATES = {
    "missing": (lambda s: _without(s, "l_adapter.1.norm.bias"), r"lacks tensors l_adapter\.1\.norm\.bias"),
    "unknown": (lambda s: {**s, "lora.0": torch.zeros(1)}, r"unknown tensors lora\.0"),
    "shape": (
        lambda s: {**s, "l_adapter.1.norm.bias": torch.zeros(3)},
        r"l_adapter\.1\.norm\.bias has the shape \(3,\), but this configuration needs \(24,\)",
    ),
    "backbone": (lambda s: {**s, META: torch.zeros(32, dtype=torch.uint8)}, "trained on another backbone"),
    "broken fingerprint": (lambda s: {**s, META: torch.zeros(3)}, "trained on another backbone"),
    "empty": (lambda s: {}, "lacks tensors .* and [0-9]+ more"),
}


@pytest.mark.parametrize("problem", BAD_STATES)
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("inside", [False, True])
def test_bad_states_change_nothing(problem, strict, inside):
    damage, message = BAD_STATES[problem]
    expert = make_expert("wavlm-base", "le", noise=0.1)
    bad = damage(dict(make_expert("wavlm-base", "le", seed=9).state_dict()))
    before = snapshot(expert)
    model = Parent(expert) if inside else expert
    if inside:
        bad = {**{f"upstream.{key}": value for key, value in bad.items()}, **model.head.state_dict(prefix="head.")}
    with pytest.raises(ElpError, match=message):
        model.load_state_dict(bad, strict=strict)
    assert not changed(expert, before)
    assert not expert.trained


def test_another_backbones_checkpoint_is_refused():
    state = make_expert("wavlm-base", "le").state_dict()
    with pytest.raises(ElpError, match="another backbone"):
        make_expert("hubert-base", "le").load_state_dict(state)


def test_loading_leaves_the_callers_state_alone():
    expert = make_expert("wavlm-base", "le")
    state = expert.state_dict()
    keys = list(state)
    expert.load_state_dict(state)
    assert list(state) == keys


def test_weighted_sum_saves_nothing_but_the_fingerprint():
    expert = make_expert("wavlm-base", "weighted_sum")
    assert set(expert.state_dict()) == {META}
    expert.load_state_dict(expert.state_dict())


@pytest.mark.parametrize("config", ["le", "elp", "conventional", "full_finetune"])
def test_training_checkpoints_are_small(config):
    """At most 1.05 x 12 bytes per trainable value: the tensor and Adam's two moments, in float32."""
    expert = make_expert("wavlm-base", config, dim=256, layers=2)
    optimizer = torch.optim.Adam(expert.parameters())
    expert.train()(WAVS)["hidden_states"][-1].sum().backward()
    optimizer.step()
    for state in optimizer.state.values():
        assert set(state) == {"step", "exp_avg", "exp_avg_sq"}
    file = io.BytesIO()
    torch.save({"Upstream": expert.state_dict(), "Optimizer": optimizer.state_dict()}, file)
    trainable = sum(parameter.numel() for parameter in expert.parameters() if parameter.requires_grad)
    assert trainable == sum(expert.injection.counts(expert).values())
    assert file.tell() <= 1.05 * 12 * trainable


def test_checkpoints_load_without_unpickling_code():
    expert = make_expert("wavlm-base", "elp")
    file = io.BytesIO()
    torch.save(expert.state_dict(), file)
    file.seek(0)
    expert.load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("preset", ["le", "lora-everywhere", "weighted_sum"])
@pytest.mark.parametrize("copies", [1, 2, 10, 100])
def test_the_average_of_checkpoints_can_be_loaded(preset, copies):
    """As ESPnet (sum, then divide all but torch.int*) and WeSpeaker (sum in place, then true_divide) average them."""
    expert = make_expert("wavlm-base", preset, noise=0.1)
    state = {key: value.clone() for key, value in expert.state_dict().items()}
    total = {key: value.clone() for key, value in state.items()}
    for _ in range(copies - 1):
        for key in total:
            total[key] += state[key]
    mean = {
        key: value if str(value.dtype).startswith("torch.int") else torch.true_divide(value, copies)
        for key, value in total.items()
    }
    other = make_expert("wavlm-base", preset)
    other.load_state_dict(mean)
    ours, theirs = other.state_dict(), expert.state_dict()
    assert all(torch.allclose(ours[key], theirs[key], rtol=1e-5) for key in theirs)


def test_a_fingerprint_in_bytes_can_be_loaded():
    """Earlier versions wrote it so."""
    expert = make_expert("wavlm-base", "le")
    state = expert.state_dict()
    expert.load_state_dict({**state, META: state[META].to(torch.uint8)})


def _initialise(model):
    """What ESPnet's ``init: xavier_uniform`` does with every parameter of a model."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter.data)


def _one_layer(model):
    nn.init.normal_(max(model.upstream.backbone.parameters(), key=torch.numel).data)


@pytest.mark.parametrize("preset", ["le", "lora-everywhere", "weighted_sum"])
@pytest.mark.parametrize("overwrite", [_initialise, _one_layer])
def test_an_overwritten_backbone_is_refused(preset, overwrite):
    model = Parent(make_expert("wavlm-base", preset))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    overwrite(model)
    with pytest.raises(ElpError, match="frozen weights of the backbone were overwritten"):
        model.load_state_dict(state)


@pytest.mark.parametrize("preset", ["le", "lora-everywhere", "full_finetune", "top-layer-tuned", "bitfit"])
def test_training_does_not_count_as_overwriting(preset):
    expert = make_expert("wavlm-base", preset)
    state = {key: value.clone() for key, value in expert.state_dict().items()}
    train_step(expert.train(), WAVS)
    expert.load_state_dict(state)
