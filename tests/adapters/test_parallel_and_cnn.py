"""Parallel bottlenecks and CNN adapters against plain references in float64."""

import copy
from types import MethodType

import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests import reference
from tests.experts import equal, in_float64, make_expert, random_loss, states_of, stock_expert, waves
from tests.toys import S3PRL_STYLE
from upstream_elp.upstream.inject import eject

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
TOLERANCE = 1e-10
WAVS = waves(4000, 2900, dtype=torch.float64)


def _tensors(expert):
    return {name: value.detach() for name, value in expert.injection.parameters(expert).items()}


@pytest.mark.parametrize("backbone", S3PRL_STYLE)
def test_parallel_is_a_bottleneck_of_the_layers_input(backbone):
    config = {"features": "layers", "parallel": {"layers": [0, 2], "bottleneck": 8}}
    expert, stock = in_float64(make_expert(backbone, config, noise=0.1)), in_float64(stock_expert(backbone))
    x, mask = reference.encoder_inputs(stock, WAVS)
    with torch.no_grad():
        wanted = reference.encode(stock.model.encoder, x, mask, _tensors(expert))
    real = slice(None) if mask is None else ~mask
    for got, explicit in zip(states_of(expert, WAVS), wanted, strict=True):
        assert (got[real] - explicit[real]).abs().max() < TOLERANCE


@pytest.mark.parametrize("backbone", ["wavlm-base", "hubert-large"])
def test_gradient_checkpointing_gives_the_same_gradients(backbone):
    """Both variants in use: repeating only a layer's forward, and calling the layer again with its hooks."""
    config = {"features": "layers", "parallel": {}, "deep_prompt": {}, "prefix_kv": {}}
    expert = make_expert(backbone, config, noise=0.1)

    def gradients(module):
        random_loss(module(waves(4000, 2900))["hidden_states"]).backward()
        return [parameter.grad for parameter in module.injection.parameters(module).values()]

    wanted = gradients(copy.deepcopy(expert))
    by_forward, by_call = copy.deepcopy(expert), copy.deepcopy(expert)
    for layer in by_forward.backbone.model.encoder.layers:
        layer.forward = MethodType(_checkpointed(type(layer).forward), layer)
    for layer in by_call.backbone.model.encoder.layers:
        layer._call_impl = MethodType(_checkpointed(type(layer)._call_impl), layer)
    assert all(map(torch.equal, gradients(by_forward), wanted))
    assert all(map(torch.equal, gradients(by_call), wanted))


def _checkpointed(method):
    return lambda layer, *args, **kwargs: checkpoint(method, layer, *args, use_reentrant=False, **kwargs)


def test_two_forwards_before_a_backward_keep_their_own_inputs():
    expert = in_float64(make_expert("wav2vec2-base", "parallel", noise=0.1))
    parameters = list(expert.injection.parameters(expert).values())
    batches = [waves(4000, dtype=torch.float64), waves(2900, dtype=torch.float64)]
    apart = [torch.autograd.grad(random_loss(expert(batch)["hidden_states"]), parameters) for batch in batches]
    together = torch.autograd.grad(sum(random_loss(expert(batch)["hidden_states"]) for batch in batches), parameters)
    for both, first, second in zip(together, *apart, strict=True):
        assert (both - first - second).abs().max() < 1e-9 * both.abs().max()


def _front_end(model, wavs, tensors, scale):
    """The waveform front end with its parallel copies, computed from the tensors only: (batch, channels, frames)."""
    x = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True).unsqueeze(1)
    for index, block in enumerate(model.feature_extractor.conv_layers):
        norms = [part for part in block.modules() if isinstance(part, torch.nn.GroupNorm | torch.nn.LayerNorm)]
        endings = ("0.weight", "0.bias", "2.weight", "2.bias", "2.1.weight", "2.1.bias")
        names = [f"cnn.{index}.{ending}" for ending in endings]

        def convolve(weight, bias, norm_weight, norm_bias, x=x, block=block, norms=norms):
            y = F.conv1d(x, weight, bias, stride=block[0].stride)
            if norms and isinstance(norms[0], torch.nn.GroupNorm):  # one group per channel: over time
                y = reference.layer_norm(y, norm_weight.unsqueeze(1), norm_bias.unsqueeze(1))
            elif norms:
                y = reference.layer_norm(y.transpose(1, 2), norm_weight, norm_bias).transpose(1, 2)
            return reference.activate(y, "gelu")

        plain = convolve(block[0].weight, block[0].bias, *([norms[0].weight, norms[0].bias] if norms else [None, None]))
        if names[0] in tensors:
            norm = [tensors[name] for name in names[2:] if name in tensors] or [None, None]
            plain = plain + scale * convolve(tensors[names[0]], tensors.get(names[1]), *norm)
        x = plain
    return x


@pytest.mark.parametrize("options", [{"scale": 0.01}, {"scale": 1.0, "layers": [0, 3, 6]}], ids=["all", "some"])
@pytest.mark.parametrize("backbone", S3PRL_STYLE)
def test_cnn_adapters_are_parallel_blocks(backbone, options):
    expert = in_float64(make_expert(backbone, {"features": "layers", "cnn": options}, noise=0.3))
    model, seen = expert.backbone.model, {}
    handle = model.feature_extractor.register_forward_hook(lambda _, args, output: seen.update(x=args[0], y=output))
    features = expert(WAVS)["hidden_states"]
    handle.remove()
    wavs = list(seen["x"].detach())
    parameters = {name.replace(".copy.", "."): p for name, p in expert.injection.parameters(expert).items()}
    explicit = _front_end(model, wavs, parameters, options["scale"])
    assert (seen["y"] - explicit).abs().max() < TOLERANCE
    ours = torch.autograd.grad(random_loss([seen["y"]]), list(parameters.values()), retain_graph=True)
    wanted = torch.autograd.grad(random_loss([explicit]), list(parameters.values()))
    for got, other in zip(ours, wanted, strict=True):
        assert (got - other).abs().max() <= 1e-8 * other.abs().max()
    random_loss(features).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in parameters.values())


@pytest.mark.parametrize("backbone", S3PRL_STYLE)
def test_cnn_adapters_let_gradients_through_and_leave_the_switch_as_it_was(backbone):
    stock = stock_expert(backbone)
    assert stock.model.feature_grad_mult == 0.0
    expert = make_expert(backbone, {"base": "chapter"}, noise=0.3)
    assert expert.backbone.model.feature_grad_mult == 1.0
    assert expert.injection.counts(expert)["cnn"] == sum(p.numel() for p in stock.model.feature_extractor.parameters())
    ejected = eject(expert)
    assert ejected.model.feature_grad_mult == 0.0
    assert equal(states_of(ejected, waves(4000, 2900)), states_of(stock, waves(4000, 2900)))
