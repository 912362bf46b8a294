"""Prefixes in the attention: the swapped class against the original module, and against explicit concatenation."""

import copy

import pytest
import torch

from tests import reference
from tests.experts import BACKBONES, equal, in_float64, make_expert, random_loss, states_of, stock_expert, waves
from upstream_elp.adapters import prefix as prefix_module
from upstream_elp.adapters.prefix import LearnedFrames, LearnedKeysValues, PrefixAttention, _attend
from upstream_elp.adapters.primitives import mix_in, take_out_mixin

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
TOLERANCE = 1e-10
PADDING = [None, torch.tensor([[False] * 7, [False] * 4 + [True] * 3])]


def _attentions(backbone):
    """The attention modules of layers 0 and 1 in float64, and what WavLM's layer 0 hands on."""
    layers = in_float64(stock_expert(backbone)).model.encoder.layers
    return [layer.self_attn for layer in layers[:2]]


def _options(attention, bias):
    return {"position_bias": bias} if hasattr(attention, "gru_rel_pos") else {}


def _position_bias(first, frames=7, batch=2):
    if not getattr(first, "has_relative_attention_bias", False):
        return None
    return first.compute_bias(frames, frames).repeat(batch, 1, 1)


def _gradients(module, output, x):
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.autograd.grad(random_loss([output]), [x, *parameters], allow_unused=True)


@pytest.mark.parametrize("padding", PADDING, ids=["alone", "padded"])
@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name.endswith("base")])
def test_without_a_prefix_it_is_the_original_attention(backbone, padding):
    """The computation itself, forward and gradients; switched off, the original's own forward runs instead."""
    first, second = _attentions(backbone)
    for attention in (first, second):
        attention.requires_grad_(True)
        bias = _position_bias(first)
        if bias is not None:
            bias = bias.detach()
        x = torch.randn(7, 2, 32, dtype=torch.float64, requires_grad=True)
        original, *_ = attention(x, x, x, key_padding_mask=padding, need_weights=False, **_options(attention, bias))
        ours = _attend(attention, [], x, padding, bias)
        assert (ours - original).abs().max() < TOLERANCE
        for got, wanted in zip(_gradients(attention, ours, x), _gradients(attention, original, x), strict=True):
            assert (got is None) == (wanted is None)
            assert got is None or (got - wanted).abs().max() < TOLERANCE


@pytest.mark.parametrize("backbone", BACKBONES)
def test_switched_off_it_is_the_original_forward_bitwise(backbone):
    attention = stock_expert(backbone).model.encoder.layers[0].self_attn
    swapped = copy.deepcopy(attention)
    mix_in(swapped, PrefixAttention)
    x = torch.randn(7, 2, 32)
    arguments = {"key": x, "value": x, "key_padding_mask": PADDING[1], "need_weights": False}
    plain = attention(x, **arguments)
    assert torch.equal(swapped(x, **arguments)[0], plain[0])
    swapped.prefix_kv = LearnedKeysValues(3, 32)
    assert not torch.equal(swapped(x, **arguments)[0], plain[0])
    swapped.prefix_kv.enabled = False
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(swapped(x, **arguments), plain, strict=True))
    assert isinstance(swapped, type(attention)) and copy.deepcopy(swapped).__class__ is swapped.__class__
    take_out_mixin(swapped)
    assert type(swapped) is type(attention)


def _explicit(attention, x, keys, values, padding, bias):
    """Attention over concatenated keys and values, head by head and utterance by utterance, written out."""
    frames, batch, dim = x.shape
    width = dim // attention.num_heads
    length = keys.shape[0]
    result = torch.empty_like(x)
    for b in range(batch):
        k = torch.cat([keys, x[:, b] @ attention.k_proj.weight.T + attention.k_proj.bias])
        v = torch.cat([values, x[:, b] @ attention.v_proj.weight.T + attention.v_proj.bias])
        q = x[:, b] @ attention.q_proj.weight.T + attention.q_proj.bias
        for h in range(attention.num_heads):
            part = slice(h * width, (h + 1) * width)
            scores = q[:, part] @ k[:, part].T / width**0.5  # (frames, length + frames)
            if bias is not None:
                shift = bias[b * attention.num_heads + h]  # (frames, frames)
                pair = attention.grep_linear(x[:, b, part]).view(frames, 2, 4).sum(-1).sigmoid()
                gate = pair[:, 0] * (pair[:, 1] * attention.grep_a[0, h, 0, 0] - 1) + 2
                scores[:, length:] += gate.unsqueeze(1) * shift
            if padding is not None:
                scores[:, length:][:, padding[b]] = float("-inf")
            result[:, b, part] = scores.softmax(-1) @ v[:, part]
    return result @ attention.out_proj.weight.T + attention.out_proj.bias


@pytest.mark.parametrize("padding", PADDING, ids=["alone", "padded"])
@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name.endswith("base")])
def test_learned_keys_and_values_are_concatenated(backbone, padding):
    first, second = _attentions(backbone)
    bias = _position_bias(first)
    for attention in (first, second):
        mix_in(attention, PrefixAttention)
        attention.prefix_kv = LearnedKeysValues(3, 32, std=1.0).double()
        x = torch.randn(7, 2, 32, dtype=torch.float64, requires_grad=True)
        given = None if attention is first else bias
        arguments = {"key_padding_mask": padding, "need_weights": False, **_options(attention, given)}
        ours, weights, *rest = attention(x, x, x, **arguments)
        keys, values = attention.prefix_kv.keys, attention.prefix_kv.values
        explicit = _explicit(attention, x, keys, values, padding, bias)
        assert weights is None and (ours - explicit).abs().max() < TOLERANCE
        if rest and rest[0] is not None:
            assert torch.equal(rest[0], bias)  # what WavLM's next layer gets has no prefix in it
        for got, wanted in zip(_gradients(attention, ours, x), _gradients(attention, explicit, x), strict=True):
            assert (got - wanted).abs().max() < TOLERANCE


def test_unusual_calls_are_refused():
    attention = stock_expert("hubert-base").model.encoder.layers[0].self_attn
    mix_in(attention, PrefixAttention)
    attention.prefix_kv = LearnedKeysValues(3, 32)
    x = torch.randn(7, 2, 32)
    for arguments in ({}, {"need_weights": False, "attn_mask": torch.zeros(7, 7)}):
        with pytest.raises(ValueError, match="knows neither weights"):
            attention(x, x, x, **arguments)


@pytest.mark.parametrize("layers", ["all", "1-2", [0]])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_deep_prompts_are_frames_that_are_put_in_and_stripped(backbone, layers):
    """Whole layers run over the longer sequence: HuBERT's padding to two frames, masks and WavLM's bias included."""
    config = {"features": "layers", "deep_prompt": {"length": 3, "layers": layers}}
    expert, stock = in_float64(make_expert(backbone, config, noise=0.5)), in_float64(stock_expert(backbone))
    vectors = {name: value.detach() for name, value in expert.injection.parameters(expert).items()}
    for lengths in ((4000, 2900), (3700,)):
        wavs = waves(*lengths, dtype=torch.float64)
        x, mask = reference.encoder_inputs(stock, wavs)
        with torch.no_grad():
            wanted = reference.states_with_deep_prompts(stock.model.encoder, x, mask, vectors)
        ours = states_of(expert, wavs)
        for got, explicit, row_mask in zip(ours, wanted, [mask] * len(ours), strict=True):
            real = slice(None) if row_mask is None else ~row_mask
            assert got.shape == explicit.shape and (got[real] - explicit[real]).abs().max() < TOLERANCE


def test_only_the_backbone_that_has_positions_gives_them():
    for backbone, has in (("wavlm-base", True), ("hubert-base", False), ("wav2vec2-large", False)):
        expert = make_expert(backbone, "deep_prompt")
        prompts = [module for module in expert.modules() if isinstance(module, LearnedFrames)]
        assert len(prompts) == 3 and all((prompt.bias(4) is not None) is has for prompt in prompts)


def test_prefix_frames_stay_equal_only_by_chance():
    """Every single key and value acts and trains."""
    expert = make_expert("wavlm-large", "prefix_kv")
    random_loss(expert(waves(4000, 2900))["hidden_states"]).backward()
    for parameter in expert.injection.parameters(expert).values():
        assert parameter.shape == (10, 32) and (parameter.grad.abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize("config", ["prefix_kv", "deep_prompt", "prefix_tokens"])
def test_a_copy_computes_with_its_own_modules(config):
    expert = make_expert("wavlm-large", config, noise=0.1)
    clone = copy.deepcopy(expert)
    wanted = states_of(expert, waves(4000, 2900))
    with torch.no_grad():
        for parameter in expert.backbone.model.encoder.parameters():
            parameter.zero_()
    assert equal(states_of(clone, waves(4000, 2900)), wanted)


def test_the_attention_is_entered_once(monkeypatch):
    calls = []
    monkeypatch.setattr(prefix_module, "_attend", lambda *arguments: calls.append(1) or _attend(*arguments))
    states_of(make_expert("hubert-base", {"features": "last", "prefix_kv": {}, "deep_prompt": {}}), waves(4000))
    assert len(calls) == 3


def test_initial_values():
    """Xavier's bound for a tensor (1, length, width) is the root of 6 / (width (length + 1)), as in peft-ser."""
    bound = (6 / (768 * 6)) ** 0.5
    vectors = LearnedFrames(5, 768).vectors
    assert 0.98 * bound < vectors.abs().max() <= bound
    assert 0.019 < LearnedFrames(10, 768, init="normal").vectors.std() < 0.021
    assert 0.019 < LearnedKeysValues(10, 768).keys.std() < 0.021
