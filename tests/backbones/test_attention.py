"""The arithmetic of attention against the same formula in float64, and Hugging Face's WavLM against the original."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.experts import in_float64, make_expert, random_loss, states_of, stock_expert, waves
from upstream_elp.backbones.attention import attention, project
from upstream_elp.backbones.huggingface_attention import LeanAttention

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
BATCH, HEADS, FRAMES, STEPS, WIDTH = 3, 4, 9, 11, 8
BLOCKED = torch.zeros(BATCH, 1, 1, STEPS, dtype=torch.bool)
BLOCKED[1, ..., 7:] = True


def _drawn(*shape, dtype):
    return torch.randn(*shape, dtype=torch.float64).to(dtype).requires_grad_()


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("blocked", [None, BLOCKED], ids=["single", "padded"])
@pytest.mark.parametrize("biases", [1, BATCH])
def test_fused_attention_and_its_gradients_follow_the_formula(biases, blocked, gated, dtype, tolerance):
    torch.manual_seed(0)
    query = _drawn(BATCH, HEADS, FRAMES, WIDTH, dtype=dtype)
    key, value = (_drawn(BATCH, HEADS, STEPS, WIDTH, dtype=dtype) for _ in range(2))
    bias = _drawn(biases, HEADS, FRAMES, STEPS, dtype=dtype)
    gate = _drawn(BATCH, HEADS, FRAMES, 1, dtype=dtype) if gated else None
    inputs = [query, key, value, bias, *([gate] if gated else [])]
    ours = attention(query, key, value, bias=bias, gate=gate, blocked=blocked)
    q, k, v, b = (tensor.double() for tensor in inputs[:4])
    scores = q @ k.transpose(2, 3) / WIDTH**0.5 + (b if gate is None else gate.double() * b)
    if blocked is not None:
        scores = scores.masked_fill(blocked, float("-inf"))
    wanted = scores.softmax(-1) @ v
    assert (ours - wanted).abs().max() < tolerance
    gradient = torch.randn(wanted.shape, dtype=torch.float64)
    pairs = zip(
        torch.autograd.grad(ours, inputs, gradient.to(dtype)),
        torch.autograd.grad(wanted, inputs, gradient),
        strict=True,
    )
    for got, expected in pairs:
        assert got.dtype == dtype and (got - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("contiguous", [True, False])
def test_a_projection_of_frames_is_torchs_own(contiguous):
    """In low precision torch multiplies with copies of a frozen weight unless the weight is trained."""
    torch.manual_seed(0)
    x = torch.randn(5, 7, 16).transpose(0, 1)  # (frames, batch, dim)
    x = x.contiguous() if contiguous else x
    linear = nn.Linear(16, 12).requires_grad_(requires_grad=False)
    weight, bias = linear.weight.detach().clone(), linear.bias
    assert torch.equal(project(x, linear), F.linear(x, weight, bias))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(project(x, linear), F.linear(x, weight.requires_grad_(), bias))
        linear.weight.requires_grad_(requires_grad=True)
        assert torch.equal(project(x, linear), F.linear(x, weight, bias))


@pytest.mark.parametrize("backbone", ["hf_wavlm-base", "hf_wavlm-large"])
def test_lean_attention_is_hugging_faces_own(backbone):
    """The original keeps its copies of the position bias, so it takes one copy per utterance from the first layer."""
    results = []
    for lean in (True, False):
        expert = in_float64(stock_expert(backbone))
        layers = expert.model.encoder.layers
        assert all(isinstance(layer.attention, LeanAttention) for layer in layers)
        for layer in layers if not lean else ():
            layer.attention.__class__ = type(layer.attention).__bases__[1]
        expert.requires_grad_(True)
        states = expert(waves(4000, 2900, dtype=torch.float64))["hidden_states"]
        random_loss(states).backward()
        gradients = {name: p.grad for name, p in expert.named_parameters() if p.grad is not None}
        results.append((states, gradients))
    (ours, got), (original, wanted) = results
    assert all((a - b).abs().max() < 1e-12 for a, b in zip(ours, original, strict=True))
    assert got.keys() == wanted.keys()
    assert all((got[name] - wanted[name]).abs().max() < 1e-10 * (1 + wanted[name].abs().max()) for name in got)


@pytest.mark.parametrize("backbone", ["wavlm-base", "wavlm-large", "hubert-base"])
@pytest.mark.parametrize("config", ["elp", "full_finetune", "prefixes-together"])
def test_fused_training_has_the_same_gradients_and_the_states_of_evaluation(config, backbone):
    wavs = waves(4000, 2900, dtype=torch.float64)
    gradients = []
    for fused in (False, True):
        expert = in_float64(make_expert(backbone, config, noise=0.1))
        if fused:
            expert.fuse_attention()
        states = expert(wavs)["hidden_states"]
        random_loss(states).backward()
        gradients.append({name: p.grad for name, p in expert.injection.parameters(expert).items()})
    if backbone.startswith("wavlm"):
        assert all(map(torch.equal, states, states_of(expert, wavs)))
    one, other = gradients
    for name in one:
        assert (one[name] - other[name]).abs().max() < 1e-9 * (1 + one[name].abs().max()), name


def test_fused_attention_keeps_no_scores():
    """No saved tensor has a row of frames per frame, except the position bias, which all layers share."""
    kept = {}
    for fused in (False, True):
        expert = make_expert("wavlm-base", "le")
        if fused:
            expert.fuse_attention()
        square = []

        def note(tensor, square=square):
            if tensor.dim() == 4 and tensor.shape[-1] == tensor.shape[-2] and len(tensor) > 1:
                square.append(tensor.shape)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            expert(waves(16000, 15000))
        kept[fused] = len(square)
    assert kept[False] > 0 == kept[True]
