"""Methods that change the backbone's own tensors, compared with plain code in float64: outputs, gradients, training."""

import pytest
import torch
from torch.func import functional_call

from tests.experts import (
    add_noise,
    distance,
    equal,
    in_float64,
    make_expert,
    random_loss,
    states_of,
    stock_expert,
    waves,
)
from tests.mutants import wrap_q_proj
from tests.toys import BACKBONES, S3PRL_STYLE
from upstream_elp.adapters.encoder import Encoder
from upstream_elp.adapters.registry import method_names
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.inject import eject

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
TOLERANCE = 1e-9
STEPS, LR = 4, 1e-2
WAVS = waves(4000, 2900, dtype=torch.float64)
WAVES = waves(4000, 2900)
TARGETS = ["q", "k", "v", "out", "fc1", "fc2"]


def _train(parameters, run):
    """Losses of a few Adam steps on the named parameters, and the gradients of the first two."""
    optimizer = torch.optim.Adam(parameters.values(), lr=LR)
    losses, gradients = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = random_loss(run())
        loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in parameters.items()})
        losses.append(loss.item())
        optimizer.step()
    return losses, gradients[:2]


def _assert_same(first, second, skip=()):
    (losses, gradients), (wanted_losses, wanted) = first, second
    assert losses == pytest.approx(wanted_losses, rel=TOLERANCE)
    assert losses[-1] != pytest.approx(losses[0], rel=1e-3)  # something was learned
    for ours, theirs in zip(gradients, wanted, strict=True):
        assert ours.keys() == theirs.keys()
        scale = max(float(gradient.abs().max()) for gradient in theirs.values())
        for name in ours.keys() - set(skip):
            assert (ours[name] - theirs[name]).abs().max() < TOLERANCE * scale, name


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(
    ("targets", "rank", "alpha"),
    [(["q", "k"], 8, 1), (TARGETS, 3, 6), (["v", "fc1"], {1: 2, 2: 5}, 3)],
    ids=["lora_qk8", "all-r3-a6", "by-layer"],
)
def test_lora_is_the_weight_plus_the_scaled_product(backbone, targets, rank, alpha):
    config = {"features": "layers", "lora": {"targets": targets, "rank": rank, "alpha": alpha, "layers": "1-2"}}
    expert, stock = in_float64(make_expert(backbone, config)), in_float64(stock_expert(backbone))
    family = expert.injection.family
    ours = expert.injection.parameters(expert)
    by_hand = {name: tensor.detach().clone().requires_grad_(True) for name, tensor in ours.items()}
    assert set(ours) == {f"lora.{i}.{t}.{part}" for i in (1, 2) for t in targets for part in ("down", "up")}

    def run():
        changed = {}
        for name in targets:
            for index in (1, 2):
                key = f"model.{family.layers}.{index}.{getattr(family, name)}.weight"
                down, up = by_hand[f"lora.{index}.{name}.down"], by_hand[f"lora.{index}.{name}.up"]
                own = rank[index] if isinstance(rank, dict) else rank
                assert down.shape[0] == up.shape[1] == own
                changed[key] = stock.get_parameter(key) + alpha / own * up @ down
        return functional_call(stock, changed, (WAVS,))["hidden_states"]

    _assert_same(_train(ours, lambda: expert(WAVS)["hidden_states"]), _train(by_hand, run))
    for name, tensor in ours.items():
        assert (tensor - by_hand[name]).abs().max() < 1e-7, name
    with torch.no_grad():
        assert distance(states_of(expert, WAVS), run()) < TOLERANCE
        assert distance(states_of(expert, WAVS), states_of(stock, WAVS)) > 1e-3


@pytest.mark.parametrize("backbone", S3PRL_STYLE)
def test_wrapping_a_projection_instead_is_caught(backbone, monkeypatch):
    wrap_q_proj(monkeypatch)
    with pytest.raises(ElpError, match=r"layers\.0\.self_attn\.q_proj\.update is never entered"):
        make_expert(backbone, {"features": "layers", "lora": {"targets": ["q"]}}, check=True)


def test_lora_starts_like_loralib():
    """A uniform within 1 / sqrt(fan-in), B zero, and a scale of alpha / rank with alpha 1."""
    expert = make_expert("hubert-base", "lora_qk8", dim=128)
    update = expert.backbone.model.encoder.layers[0].self_attn.q_proj.parametrizations.weight[0]
    assert update.down.shape == (8, 128) and update.up.shape == (128, 8)
    assert update.scale == 1 / 8
    assert 0.9 < float(update.down.detach().abs().max()) * 128**0.5 <= 1
    assert update.up.abs().max() == 0


@pytest.mark.parametrize("backbone", BACKBONES)
def test_bitfit_is_training_the_biases_in_place(backbone):
    expert = in_float64(make_expert(backbone, {"features": "layers", "bias": {"layers": ":-1"}}))
    stock = in_float64(stock_expert(backbone))
    layers = stock.model.encoder.layers
    in_place = {
        f"bias.{index}.{key}": parameter.requires_grad_(True)
        for index in range(len(layers) - 1)
        for key, parameter in layers[index].named_parameters()
        if key.endswith(".bias")
    }
    ours = expert.injection.parameters(expert)
    assert list(ours) == list(in_place)
    assert any("grep_linear" in name for name in ours) is backbone.startswith("wavlm")
    trained = _train(in_place, lambda: stock(WAVS)["hidden_states"])
    # Adam makes steps of the learning rate of a key bias's gradient, which is only rounding, in either sign
    keys = [name for name in ours if name.endswith("k_proj.bias")]
    _assert_same(_train(ours, lambda: expert(WAVS)["hidden_states"]), trained, skip=keys)
    for name in ours.keys() - set(keys):
        assert (ours[name] - in_place[name]).abs().max() < 1e-7, name


@pytest.mark.parametrize("backbone", BACKBONES)
def test_full_fine_tuning_trains_what_pytorch_reaches(backbone):
    """In the stock model with everything trainable and CNN gradients on, the declared tensors get gradients."""
    expert, stock = in_float64(make_expert(backbone, "full_finetune_all")), in_float64(stock_expert(backbone))
    stock.requires_grad_(True)
    stock.model.feature_grad_mult = 1.0
    random_loss(stock(WAVS)["hidden_states"][-1:]).backward()
    reached = {name: parameter.grad for name, parameter in stock.named_parameters() if parameter.grad is not None}
    random_loss(expert(WAVS)["hidden_states"]).backward()
    paths = {item.path.removeprefix("backbone."): expert.get_parameter(item.path) for item in _declared(expert)}
    assert paths.keys() == reached.keys()
    assert any(path.startswith("model.feature_extractor") for path in paths)
    for path, gradient in reached.items():
        assert (paths[path].grad - gradient).abs().max() <= TOLERANCE * gradient.abs().max() + TOLERANCE, path


def _declared(expert):
    return expert.injection.declared.values()


def test_what_stands_around_the_top_layers_trains_and_the_rest_does_not():
    expert = make_expert("hubert-base", {"base": "topk_finetune"})
    paths = [item.path.removeprefix("backbone.model.") for item in _declared(expert)]
    assert {path.split(".")[2] for path in paths if path.startswith("encoder.layers.")} == {"1", "2"}
    around = {path for path in paths if not path.startswith("encoder.layers.")}
    assert around == {
        *("layer_norm.weight", "layer_norm.bias", "post_extract_proj.weight", "post_extract_proj.bias"),
        *(f"encoder.pos_conv.0.{name}" for name in ("bias", "weight_g", "weight_v")),
        *("encoder.layer_norm.weight", "encoder.layer_norm.bias"),
    }
    assert expert.backbone.model.feature_grad_mult == 0


@pytest.mark.parametrize("backbone", BACKBONES)
def test_adapters_stay_themselves_with_full_fine_tuning(backbone):
    """Fine-tuning declares the model's own tensors, and each adapter's tensors belong to its own method."""
    methods = {name: {} for name in method_names() if name not in ("encoder", *Encoder.conflicts)}
    assert len(methods) >= 6
    expert = make_expert(backbone, {"features": "l", **methods, "encoder": {"scope": "all"}}, check=True)
    plain = make_expert(backbone, "full_finetune_all")
    own = [name for name in expert.injection.declared if name.startswith("encoder.")]
    assert own == list(plain.injection.declared)
    assert len({item.path for item in _declared(expert)}) == len(expert.injection.declared)


@pytest.mark.parametrize("omitted", ["layer_norm", "bias"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_everything_that_goes_together_goes_together(backbone, omitted):
    methods = {name: {} for name in method_names() if name not in ("encoder", omitted)}
    expert = make_expert(backbone, {"features": "l", **methods}, check=True)
    add_noise(expert)
    assert equal(states_of(eject(expert), WAVES), states_of(stock_expert(backbone), WAVES))


def test_taking_lora_out_frees_the_weights():
    plain, ejected = stock_expert("wavlm-base"), eject(make_expert("wavlm-base", "many-methods", noise=0.1))
    for (name, parameter), (wanted, value) in zip(ejected.named_parameters(), plain.named_parameters(), strict=True):
        assert name == wanted and torch.equal(parameter, value) and not parameter.requires_grad


@pytest.mark.parametrize("config", ["adapterbias", {"base": "adapterbias", "adapter_bias": {"init": "zero"}}])
def test_adapter_bias_can_leave_its_start(config):
    """Before a norm, v = 1 shifts nothing, so alpha has no gradient yet; v has one, also at v = 0."""
    expert = in_float64(make_expert("hubert-base", config))
    parameters = expert.injection.parameters(expert)
    _, gradients = _train(parameters, lambda: expert(WAVS)["hidden_states"])
    first, second = ({name: float(g.abs().max()) for name, g in step.items()} for step in gradients)
    vectors = [name for name in first if name.endswith("vector")]
    assert all(first[name] > 1e-3 for name in vectors)
    assert all(first[name] < 1e-9 < 1e-6 < second[name] for name in first.keys() - set(vectors))


def test_adapter_bias_keeps_nothing_of_a_forward_pass():
    expert = make_expert("hubert-base", "adapterbias", noise=0.1)
    expert(waves(4000))
    sites = [expert.get_submodule(path) for path in expert.injection.sites]
    assert all(site.tap._seen is None for site in sites)
    expert.enabled = False
    expert(waves(4000))
    assert all(site.tap._seen is None for site in sites)
    with pytest.raises(RuntimeError, match="before the module had run"):
        sites[0].tap.take()
