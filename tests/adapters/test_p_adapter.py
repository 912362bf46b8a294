"""The P-adapter: pseudo frames have an effect, train and never change lengths, and batching does not matter."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import reference
from tests.experts import distance, equal, in_float64, make_expert, states_of, stock_expert, waves
from tests.toys import BACKBONES, S3PRL_STYLE
from upstream_elp.adapters.p_adapter import PseudoFeatures

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
#: their features do not see an utterance's padding; data2vec's do, by the norms between its positional convolutions
LARGE = [name for name in S3PRL_STYLE if name.endswith("large") and not name.startswith("data2vec")]
KINDS = [("end", "projected"), ("start", "projected"), ("end", "cnn"), ("start", "cnn")]
TOLERANCE = 1e-10


def _config(position="end", site="projected", length=5):
    return {"base": "le", "p_adapter": {"position": position, "site": site, "length": length}}


@pytest.fixture(scope="module")
def pairs():
    """Expert and stock expert in float64 per backbone and kind of P-adapter, made once."""
    made = {}

    def pair(backbone, position, site):
        key = backbone, position, site
        if key not in made:
            expert = in_float64(make_expert(backbone, _config(position, site), noise=0.1))
            made[key] = expert, in_float64(stock_expert(backbone))
        return made[key]

    return pair


def _alone(expert, stock, wav, position, site):
    tensors = {name: value.detach() for name, value in expert.injection.parameters(expert).items()}
    with torch.no_grad():
        return reference.states_with_pseudo_frames(stock, wav, tensors, position=position, site=site)


@pytest.mark.parametrize(("position", "site"), KINDS)
@pytest.mark.parametrize("backbone", LARGE)
@given(data=st.data())
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_a_batch_as_concatenated_by_itself(pairs, backbone, position, site, data):
    """Many random lengths, with a front end that does not see padding; the host's own mask would fail for most."""
    lengths = data.draw(st.lists(st.integers(400, 6000), min_size=1, max_size=3))
    expert, stock = pairs(backbone, position, site)
    wavs = waves(*lengths, dtype=torch.float64)
    states = states_of(expert, wavs, "backbone_hidden_states")
    for index, wav in enumerate(wavs):
        wanted = _alone(expert, stock, wav, position, site)
        frames = wanted[0].shape[0]
        assert distance([state[index, :frames] for state in states], wanted) < TOLERANCE, (lengths, index)


@pytest.mark.parametrize(("position", "site"), KINDS)
@pytest.mark.parametrize("backbone", S3PRL_STYLE)
@pytest.mark.parametrize("samples", [400, 720, 1040, 1360])  # 1 to 4 frames: odd and even, before and after P's 5
def test_short_and_odd_utterances_by_themselves(pairs, backbone, position, site, samples):
    expert, stock = pairs(backbone, position, site)
    wavs = waves(samples, dtype=torch.float64)
    states = states_of(expert, wavs, "backbone_hidden_states")
    assert all(state.shape[1] == (samples - 400) // 320 + 1 for state in states)
    wanted = _alone(expert, stock, wavs[0], position, site)
    assert distance([state[0] for state in states], wanted) < TOLERANCE


@pytest.mark.parametrize("backbone", LARGE)
def test_only_the_hosts_mask_would_not_do(pairs, backbone):
    """16,000 samples are 49 frames; in a longer batch WavLM's and HuBERT's masks have 50, wav2vec 2.0's has 49."""
    _, stock = pairs(backbone, "end", "projected")
    _, mask = reference.encoder_inputs(stock, waves(16000, 16500, dtype=torch.float64))
    assert int((~mask[0]).sum()) == (49 if backbone.startswith("wav2vec2") else 50)


def test_frames_beyond_the_formula_are_masked(pairs):
    for position in ("end", "start"):
        expert, _ = pairs("wavlm-large", position, "projected")
        encoder = expert.backbone.model.encoder
        seen = {}
        handle = encoder.layers[0].register_forward_pre_hook(
            lambda module, args, kwargs, seen=seen: seen.update(mask=kwargs["self_attn_padding_mask"]), with_kwargs=True
        )
        states_of(expert, waves(16000, 16500, dtype=torch.float64))
        handle.remove()
        assert (~seen["mask"]).sum(1).tolist() == [49 + 5, 51 + 5]


@pytest.mark.parametrize(("position", "site"), KINDS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_pseudo_frames_act_and_train(backbone, position, site):
    expert = make_expert(backbone, _config(position, site))
    vectors = expert.injection.pseudo(expert).vectors
    assert vectors.shape == (5, 16 if site == "cnn" else 32)
    wavs = waves(4000, 2900)
    before = states_of(expert, wavs)
    expert(wavs)["hidden_states"][-1].square().sum().backward()
    assert (vectors.grad.abs().amax(dim=1) > 0).all()  # every single frame
    with torch.no_grad():
        vectors[3] += 0.5 * torch.randn(vectors.shape[1])
    assert distance(states_of(expert, wavs), before) > 1e-4


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_shallow_prompt_starts_at_one_and_its_vectors_part(backbone):
    """Equal vectors would stay equal without the positional convolution over them."""
    expert = in_float64(make_expert(backbone, {"base": "prompt"}))
    vectors = expert.injection.pseudo(expert).vectors
    assert vectors.shape == (10, 32) and bool((vectors == 1).all())
    expert(waves(4000, 2900, dtype=torch.float64))["hidden_states"][-1].square().sum().backward()
    gradients = vectors.grad
    assert (gradients.abs().amax(dim=1) > 0).all()
    assert all((gradients[i] - gradients[j]).abs().max() > 1e-9 for i in range(10) for j in range(i))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_lengths_are_the_hosts(backbone):
    """S3PRL's Featurizer and S3PRLUpstream see the lengths of the plain backbone."""
    from s3prl.upstream.interfaces import Featurizer

    expert, stock = make_expert(backbone, "elp"), stock_expert(backbone)
    featurizer = Featurizer(expert, upstream_device="cpu")
    for lengths in ((16000, 12345, 400), (8000,), (3201, 3199)):
        wavs = waves(*lengths)
        plain = states_of(stock, wavs)
        for key in ("hidden_states", "backbone_hidden_states"):
            assert [state.shape[:2] for state in states_of(expert, wavs, key)][:3] == [s.shape[:2] for s in plain][:3]
        with torch.no_grad():
            rows = featurizer(wavs, expert(wavs))
        wanted = [min(round(length / 320), plain[0].shape[1]) for length in lengths]
        assert [len(row) for row in rows] == wanted


def test_s3prl_upstream_takes_it():
    import upstream_elp
    from tests.toys import tiny_backbone

    upstream_elp.register()
    from s3prl.nn import S3PRLUpstream

    path = tiny_backbone(None, "hubert", pre_norm=True, layer_norm_front=True)
    upstream = S3PRLUpstream("elp_custom", str(path), extra_conf={"model_config": "elp"}).eval()
    stock = S3PRLUpstream("hubert_local", str(path)).eval()
    wavs, wavs_len = torch.nn.utils.rnn.pad_sequence(waves(16000, 9999, 500), batch_first=True), [16000, 9999, 500]
    with torch.no_grad():
        ours, lengths = upstream(wavs, torch.tensor(wavs_len))
        theirs, stock_lengths = stock(wavs, torch.tensor(wavs_len))
    assert all(torch.equal(length, stock_lengths[0]) for length in lengths)
    assert all(hidden.shape[:2] == theirs[0].shape[:2] for hidden in ours)
    assert upstream.hidden_sizes == [24] * 3 and upstream.downsample_rates == [320] * 3


def test_mask_none_stays_none():
    pseudo = PseudoFeatures(3, 4)
    x = torch.randn(2, 6, 4)
    pseudo.set_lengths(torch.tensor([6, 6]))
    (extended,), kwargs = pseudo(None, (x,), {"padding_mask": None, "layer": None})
    assert kwargs == {"padding_mask": None, "layer": None}
    assert torch.equal(extended[:, :6], x) and torch.equal(extended[1, 6:], pseudo.vectors)
    pseudo.set_lengths(None)
    with pytest.raises(RuntimeError, match="call the expert"):
        pseudo(None, (x,), {})


@given(
    frames=st.integers(1, 9),
    length=st.integers(1, 4),
    position=st.sampled_from(["end", "start"]),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_strip_undoes_insert(frames, length, position, data):
    """In between, there are the frames of each utterance and the vectors, in order."""
    batch = data.draw(st.lists(st.integers(1, frames + 1), min_size=1, max_size=3))
    pseudo = PseudoFeatures(length, 2, position=position)
    x = torch.randn(len(batch), frames, 2)
    lengths = torch.tensor(batch)
    pseudo.set_lengths(lengths)
    mask = torch.zeros(len(batch), frames, dtype=torch.bool)
    (extended,), kwargs = pseudo(None, (x,), {"padding_mask": mask})
    assert equal(pseudo.strip([extended], lengths), [x])
    for row, given_mask, own in zip(extended, kwargs["padding_mask"], lengths.clamp(max=frames).tolist(), strict=True):
        start = 0 if position == "start" else own
        assert torch.equal(row[start : start + length], pseudo.vectors)
        assert given_mask.tolist() == [step >= own + length for step in range(frames + length)]


def test_off_means_no_pseudo_frames():
    expert, stock = make_expert("hubert-base", "elp", noise=0.1), stock_expert("hubert-base")
    expert.enabled = False
    assert equal(states_of(expert, waves(5000, 3333), "backbone_hidden_states"), states_of(stock, waves(5000, 3333)))
