"""Prefixes in the attention: the swapped class against the original module, and against explicit concatenation."""

import copy

import pytest
import torch

from tests import reference
from tests.experts import equal, in_float64, make_expert, random_loss, states_of, stock_expert, waves
from tests.toys import BACKBONES, S3PRL_STYLE
from upstream_elp.adapters import attention as attention_module
from upstream_elp.adapters.attention import KINDS, FairseqAttention, attend
from upstream_elp.adapters.deep_prompt import LearnedFrames
from upstream_elp.adapters.prefix_kv import LearnedKeysValues
from upstream_elp.adapters.primitives import mix_in, take_out_mixin
from upstream_elp.upstream.inject import find_family

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
TOLERANCE = 1e-10
PADDING = [None, torch.tensor([[False] * 7, [False] * 4 + [True] * 3])]


class Case:
    """The attention modules of layers 0 and 1 of a tiny backbone in float64, with the same call for every kind."""

    def __init__(self, backbone):
        self.stock = in_float64(stock_expert(backbone))
        self.family, _ = find_family(self.stock)
        layers = self.stock.model.get_submodule(self.family.layers)
        self.first, self.second = (layer.get_submodule(self.family.attention) for layer in layers[:2])
        self.kind = KINDS[self.family.attention_kind]
        self.bias = None
        if hasattr(self.first, self.kind.position_table or ""):
            self.bias = self.first.compute_bias(7, 7).repeat(2, 1, 1).detach()

    def __call__(self, attention, x, padding):
        """Output for x, both (batch, frames, dim), and the rest; padding is (batch, frames), true on padding."""
        handed = None if attention is self.first or self.bias is None else self.bias
        if self.kind is FairseqAttention:
            t = x.transpose(0, 1)
            options = {"position_bias": handed} if hasattr(attention, "gru_rel_pos") else {}
            output, *rest = attention(t, t, t, key_padding_mask=padding, need_weights=False, **options)
            return output.transpose(0, 1), rest
        mask = None if padding is None else ~padding
        if self.kind.position_table:
            output, *rest = attention(x, attention_mask=mask, position_bias=handed)
        else:
            mask = None if mask is None else mask[:, None, None].expand(-1, 1, x.shape[1], -1)
            output, *rest = attention(x, attention_mask=mask)
        return output, rest

    def options(self, attention, x, padding):
        """Keyword arguments of `attend`."""
        mixed = copy.copy(attention)
        mix_in(mixed, self.kind)
        blocked = None if padding is None else padding[:, None, None]
        return {"blocked": blocked, "bias": self.bias, "gate": mixed._gate(x)}


def _gradients(module, output, x):
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.autograd.grad(random_loss([output]), [x, *parameters], allow_unused=True)


@pytest.mark.parametrize("padding", PADDING, ids=["single", "padded"])
@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name.endswith("base")])
def test_without_a_prefix_it_is_the_original_attention(backbone, padding):
    """The computation itself, forward and gradients; switched off, the original's own forward runs instead."""
    case = Case(backbone)
    for attention in (case.first, case.second):
        attention.requires_grad_(True)
        x = torch.randn(2, 7, 32, dtype=torch.float64, requires_grad=True)
        original, _ = case(attention, x, padding)
        options = case.options(attention, x, padding)
        if attention is case.first and case.bias is not None:  # here the original makes the bias, with gradients
            options["bias"] = attention.compute_bias(7, 7).repeat(2, 1, 1)
        ours = attend(attention, [], x, **options)
        assert (ours - original).abs().max() < TOLERANCE
        for got, wanted in zip(_gradients(attention, ours, x), _gradients(attention, original, x), strict=True):
            assert (got is None) == (wanted is None)
            assert got is None or (got - wanted).abs().max() < TOLERANCE


@pytest.mark.parametrize("backbone", BACKBONES)
def test_switched_off_it_is_the_original_forward_bitwise(backbone):
    case = Case(backbone)
    attention = case.first
    x = torch.randn(2, 7, 32, dtype=torch.float64)
    plain = case(attention, x, PADDING[1])
    cls = type(attention)
    mix_in(attention, case.kind)
    assert torch.equal(case(attention, x, PADDING[1])[0], plain[0])
    attention.prefix_kv = LearnedKeysValues(3, 32).double()
    assert not torch.equal(case(attention, x, PADDING[1])[0], plain[0])
    attention.prefix_kv.enabled = False
    output, rest = case(attention, x, PADDING[1])
    assert torch.equal(output, plain[0]) and len(rest) == len(plain[1])
    for got, wanted in zip(rest, plain[1], strict=True):  # the position bias need not be copied per utterance
        assert got is wanted is None or torch.equal(got.repeat(len(wanted) // len(got), 1, 1), wanted)
    assert isinstance(attention, cls) and copy.deepcopy(attention).__class__ is attention.__class__
    take_out_mixin(attention)
    assert type(attention) is cls


def _explicit(case, attention, x, keys, values, padding):
    """Attention over concatenated keys and values, head by head and utterance by utterance, written out."""
    batch, frames, dim = x.shape
    width = dim // attention.num_heads
    length = keys.shape[0]
    linear, constant = (
        getattr(attention, name or "", None) for name in (case.kind.gate_linear, case.kind.gate_constant)
    )
    result = torch.empty_like(x)
    for b in range(batch):
        k = torch.cat([keys, x[b] @ attention.k_proj.weight.T + attention.k_proj.bias])
        v = torch.cat([values, x[b] @ attention.v_proj.weight.T + attention.v_proj.bias])
        q = x[b] @ attention.q_proj.weight.T + attention.q_proj.bias
        for h in range(attention.num_heads):
            part = slice(h * width, (h + 1) * width)
            scores = q[:, part] @ k[:, part].T / width**0.5  # (frames, length + frames)
            if case.bias is not None:
                shift = case.bias[b * attention.num_heads + h]  # (frames, frames)
                pair = linear(x[b, :, part]).view(frames, 2, 4).sum(-1).sigmoid()
                gate = pair[:, 0] * (pair[:, 1] * constant[0, h, 0, 0] - 1) + 2
                scores[:, length:] += gate.unsqueeze(1) * shift
            if padding is not None:
                scores[:, length:][:, padding[b]] = float("-inf")
            result[b, :, part] = scores.softmax(-1) @ v[:, part]
    return result @ attention.out_proj.weight.T + attention.out_proj.bias


@pytest.mark.parametrize("padding", PADDING, ids=["single", "padded"])
@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name.endswith("base")])
def test_learned_keys_and_values_are_concatenated(backbone, padding):
    case = Case(backbone)
    for attention in (case.first, case.second):
        mix_in(attention, case.kind)
        attention.prefix_kv = LearnedKeysValues(3, 32, std=1.0).double()
        x = torch.randn(2, 7, 32, dtype=torch.float64, requires_grad=True)
        ours, (weights, *rest) = case(attention, x, padding)
        keys, values = attention.prefix_kv.keys, attention.prefix_kv.values
        explicit = _explicit(case, attention, x, keys, values, padding)
        assert weights is None and (ours - explicit).abs().max() < TOLERANCE
        if rest and rest[0] is not None:
            bias = rest[0].repeat(len(case.bias) // len(rest[0]), 1, 1)
            assert torch.equal(bias, case.bias)  # the bias for WavLM's next layer does not include the prefix
        for got, wanted in zip(_gradients(attention, ours, x), _gradients(attention, explicit, x), strict=True):
            assert (got is None) == (wanted is None)
            assert got is None or (got - wanted).abs().max() < TOLERANCE


def test_unusual_calls_are_refused():
    attention = stock_expert("hubert-base").model.encoder.layers[0].self_attn
    mix_in(attention, FairseqAttention)
    attention.prefix_kv = LearnedKeysValues(3, 32)
    x = torch.randn(7, 2, 32)
    for arguments in ({}, {"need_weights": False, "attn_mask": torch.zeros(7, 7)}):
        with pytest.raises(ValueError, match="supports neither weights"):
            attention(x, x, x, **arguments)
    refusals = {"hf_hubert-base": "supports neither weights", "hf_wavlm-base": "does not return weights"}
    for backbone, words in refusals.items():
        case = Case(backbone)
        mix_in(case.first, case.kind)
        case.first.prefix_kv = LearnedKeysValues(3, 32).double()
        with pytest.raises(ValueError, match=words):
            case.first(torch.randn(2, 7, 32, dtype=torch.float64), output_attentions=True)


@pytest.mark.parametrize("layers", ["all", "1-2", [0]])
@pytest.mark.parametrize("backbone", S3PRL_STYLE)
def test_deep_prompts_are_frames_that_are_put_in_and_stripped(backbone, layers):
    """Whole layers run over the longer sequence, including HuBERT's padding to two frames, masks and WavLM's bias."""
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
    for backbone, has in (
        ("wavlm-base", True),
        ("hubert-base", False),
        ("wav2vec2-large", False),
        ("hf_wavlm-large", True),
    ):
        expert = make_expert(backbone, "deep_prompt")
        prompts = [module for module in expert.modules() if isinstance(module, LearnedFrames)]
        assert len(prompts) == 3 and all((prompt.bias(4) is not None) is has for prompt in prompts)


def test_prefix_frames_stay_equal_only_by_chance():
    """Every single key and value has an effect and trains."""
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
    monkeypatch.setattr(attention_module, "attend", lambda *a, **options: calls.append(1) or attend(*a, **options))
    states_of(make_expert("hubert-base", {"features": "last", "prefix_kv": {}, "deep_prompt": {}}), waves(4000))
    assert len(calls) == 3


def test_initial_values():
    """Xavier's bound for a tensor (1, length, width) is the root of 6 / (width (length + 1)), as in peft-ser."""
    bound = (6 / (768 * 6)) ** 0.5
    vectors = LearnedFrames(5, 768).vectors
    assert 0.98 * bound < vectors.abs().max() <= bound
    assert 0.019 < LearnedFrames(10, 768, init="normal").vectors.std() < 0.021
    assert 0.019 < LearnedKeysValues(10, 768).keys.std() < 0.021
