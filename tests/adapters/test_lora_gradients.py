"""LoRA's own backward pass: the outputs and gradients of plain LoRA, without the gradient of a whole weight."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.experts import add_noise, equal, in_float64, make_expert, random_loss, waves
from tests.toys import BACKBONES
from upstream_elp.adapters.lora import LowRankLinear, LowRankProduct
from upstream_elp.upstream.inject import eject

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
TARGETS = ["q", "k", "v", "out", "fc1", "fc2"]
CONFIGS = {
    "lora_qv8": {"base": "lora_qv8"},
    "everywhere": {"features": "layers", "lora": {"targets": TARGETS, "rank": {"top:2": 3, "0": 1}, "alpha": 6}},
    "with biases": {"features": "layers", "lora": {"targets": TARGETS, "rank": 2}, "bias": {}},
    "with prefixes": {"features": "layers", "lora": {"rank": 2}, "prefix_kv": {"length": 2}, "e_adapter": {}},
}


def plain(patch):
    """LoRA with torch's gradients: that of the whole weight first."""
    patch.setattr(LowRankLinear, "product", lambda self, x, weight, bias: F.linear(x, weight, bias))


class Shapes(TorchDispatchMode):
    """Shapes of the matrix products that are computed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.addmm):
            self.seen.append(tuple(result.shape))
        return result


def run(expert, wavs, *, autocast=None):
    """The outputs, the gradients by name, and the shapes of the backward pass's matrix products."""
    with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
        states = expert(wavs)["hidden_states"]
    loss = random_loss([state.double() for state in states])
    with Shapes() as shapes:
        parameters = expert.injection.parameters(expert)
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return [state.detach() for state in states], dict(zip(parameters, gradients, strict=True)), shapes.seen


def both(expert, monkeypatch, wavs, **options):
    own = run(expert, wavs, **options)
    with monkeypatch.context() as patch:
        plain(patch)
        return own, run(expert, wavs, **options)


def furthest(gradients, wanted):
    """The largest difference, relative to the largest gradient of the same tensor."""
    assert gradients.keys() == wanted.keys()
    assert [name for name in wanted if gradients[name] is None] == [name for name in wanted if wanted[name] is None]
    names = [name for name in wanted if wanted[name] is not None and not name.endswith("k_proj.bias")]
    return max(float((gradients[n] - wanted[n]).abs().max() / wanted[n].abs().max()) for n in names)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_outputs_are_bit_equal_and_gradients_the_same(config, backbone, monkeypatch):
    """Also with gradient checkpointing, which runs the forward pass twice."""
    expert = in_float64(make_expert(backbone, CONFIGS[config], noise=0.1)).train()
    if config == "everywhere":
        expert.checkpoint_layers()
    (states, gradients, _), (wanted_states, wanted, _) = both(
        expert, monkeypatch, waves(4000, 2900, dtype=torch.float64)
    )
    assert equal(states, wanted_states)
    assert furthest(gradients, wanted) < 1e-10
    single = expert.float()
    (states, gradients, shapes), (wanted_states, wanted, plain_shapes) = both(single, monkeypatch, waves(4000, 2900))
    assert equal(states, wanted_states)
    assert furthest(gradients, wanted) < 1e-3
    assert len(shapes) > 0 and shapes != plain_shapes


@pytest.mark.parametrize("backbone", BACKBONES)
def test_no_product_has_the_size_of_a_weight(backbone, monkeypatch):
    """Frames, batch and rank differ from the model's width, so that only a weight's gradient has two such sides."""
    expert = make_expert(backbone, {"features": "layers", "lora": {"targets": TARGETS, "rank": 3}}, noise=0.1)
    family, index = expert.injection.family, 1
    layer = expert.get_submodule(f"{expert.injection.model_path}.{family.layers}.{index}")
    sizes = {tuple(layer.get_submodule(getattr(family, name)).weight.shape) for name in TARGETS}
    sizes |= {size[::-1] for size in sizes}
    (_, _, shapes), (_, _, plain_shapes) = both(expert, monkeypatch, waves(4000, 2900))
    assert sizes & set(plain_shapes) and not sizes & set(shapes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_in_mixed_precision(backbone, dtype, monkeypatch):
    expert = make_expert(backbone, CONFIGS["with biases"], noise=0.1)
    reference = in_float64(copy.deepcopy(expert))
    (states, gradients, _), (wanted_states, wanted, _) = both(expert, monkeypatch, waves(4000, 2900), autocast=dtype)
    assert equal(states, wanted_states)
    exact = run(reference, waves(4000, 2900, dtype=torch.float64))[1]
    names = [name for name in exact if name.startswith("lora.")]
    error, plain_error = (
        max(float((found[n] - exact[n]).abs().max() / exact[n].abs().max()) for n in names)
        for found in (gradients, wanted)
    )
    assert all(gradients[name].dtype == torch.float32 for name in names)
    assert error < 1.5 * plain_error


@pytest.mark.parametrize("shape", [(5,), (7, 5), (3, 4, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_derivatives_of_first_and_second_order(shape, bias):
    torch.manual_seed(0)
    x, frozen = torch.randn(shape, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    up, down = torch.randn(6, 2, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    inputs = [x, up, down, *([torch.randn(6, dtype=torch.float64)] if bias else [])]

    def function(x, up, down, bias=None):
        weight = torch.addmm(frozen, up, down, alpha=0.5)
        return LowRankProduct.apply(x, weight, bias, up, down, 0.5)

    inputs = [tensor.requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_gradients_of_every_row_by_vmap():
    torch.manual_seed(0)
    frozen, x = torch.randn(6, 5), torch.randn(4, 3, 5)
    up, down = torch.randn(6, 2), torch.randn(2, 5)

    def loss(up, x, *, own):
        weight = torch.addmm(frozen, up, down)
        y = LowRankProduct.apply(x, weight, None, up, down, 1.0) if own else F.linear(x, weight)
        return y.square().sum()

    each = [torch.func.vmap(torch.func.grad(loss), (None, 0))(up, x, own=own) for own in (True, False)]
    torch.testing.assert_close(*each)


@pytest.mark.parametrize("backbone", ["wavlm-base", "hf_hubert-base"])
def test_where_the_weight_itself_is_trained_or_read_torchs_gradients_stay(backbone):
    expert = make_expert(backbone, CONFIGS["lora_qv8"], noise=0.1)
    family = expert.injection.family
    layer = expert.get_submodule(f"{expert.injection.model_path}.{family.layers}.0")
    linear = layer.get_submodule(family.q)
    x = torch.randn(3, linear.in_features)
    chain = linear.parametrizations.weight
    assert "LowRankProduct" in type(linear(x).grad_fn).__name__
    read = F.linear(x, linear.weight, linear.bias)
    assert torch.equal(read, linear(x)) and "LowRankProduct" not in type(read.grad_fn).__name__
    for parameter in (chain[0].up, chain[0].down):
        read = F.linear(x, linear.weight, linear.bias)
        torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), parameter)[0] for y in (linear(x), read)))
    chain.original.requires_grad_(requires_grad=True)
    linear(x).sum().backward()
    assert chain.original.grad is not None and chain[0].up.grad is not None
    expert.enabled = False
    assert torch.equal(linear(x), F.linear(x, chain.original, linear.bias))
    with torch.no_grad():
        assert linear(x).grad_fn is None


def test_taken_out_the_layer_is_torchs_own():
    expert = make_expert("hf_hubert-base", CONFIGS["lora_qv8"])
    add_noise(expert)
    assert any(isinstance(module, LowRankLinear) for module in expert.modules())
    backbone = eject(expert)
    linears = [module for module in backbone.modules() if isinstance(module, nn.Linear)]
    assert linears and all(type(linear) is nn.Linear for linear in linears)
