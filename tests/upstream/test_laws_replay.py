"""Laws of the replay: whatever lies below the lowest trained tensor may come from a record of each utterance."""

import copy

import pytest
import torch

from tests.experts import CONFIGS, make_expert
from tests.toys import BACKBONES, LAW_BACKBONES
from upstream_elp.adapters.lowest import (
    CNN_OUTPUT,
    ENCODER_INPUT,
    STATES,
    layer_input,
    lowest_trained,
)
from upstream_elp.upstream.replay import Replay

SAMPLES = (2600, 1700, 3020, 2941, 81)
"""Lengths that leave different remainders, for a front end with a stride of 20 or 40 samples."""
STACKED = [name for name in BACKBONES if name.startswith("data2vec")]
"""Backbones whose positional convolutions see the padding, wherever the encoder's input comes from."""


def places(expert):
    """Every place up to the lowest trained tensor of an expert."""
    lowest = lowest_trained(expert.injection)
    every = [CNN_OUTPUT, ENCODER_INPUT, *(layer_input(index) for index in range(expert.injection.layers)), STATES]
    return [place for place in every if place <= lowest]


def waves(expert, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    least = expert.min_samples
    return [torch.randn(max(least, samples), generator=generator).to(dtype) for samples in SAMPLES]


def loss_of(features):
    """A value that depends on every frame of every utterance: a list of lists of (frames, dim)."""
    generator = torch.Generator().manual_seed(4)
    return sum(
        (frames * torch.randn(frames.shape, generator=generator).to(frames)).sum()
        for utterance in features
        for frames in utterance
    )


def by_itself(expert, wavs):
    """The features of each utterance, computed by itself without any replay."""
    features = []
    for wav in wavs:
        frames = int(expert.injection.frame_len(torch.tensor([len(wav)])))
        features.append([state[0, :frames] for state in expert([wav])["hidden_states"]])
    return features


def replayed(expert, wavs, place):
    expert.replay = replay = Replay(expert, place, states=range(expert.injection.layers + 1))
    parts = [replay.record(expert, wav) for wav in wavs]
    _, output = replay.run(expert, parts)
    assert replay.batch is None
    return replay, [
        [state[row, : parts[row].shape[1]] for state in output["hidden_states"]] for row in range(len(wavs))
    ]


def gradients(expert, features):
    parameters = expert.injection.parameters(expert)
    loss = loss_of(features)
    if not loss.requires_grad:
        return {}
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(parameters, found, strict=True) if gradient is not None}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("backbone", LAW_BACKBONES)
def test_features_and_gradients_are_those_of_each_utterance_by_itself(backbone, config):
    plain = make_expert(backbone, config, noise=0.1).double().eval()
    wavs = waves(plain)
    expected = by_itself(plain, wavs)
    wanted = gradients(plain, expected)
    for place in places(plain):
        if place < layer_input(0) and backbone in STACKED:
            continue
        expert = copy.deepcopy(plain)
        _, features = replayed(expert, wavs, place)
        for one, other in zip(expected, features, strict=True):
            for state, again in zip(one, other, strict=True):
                torch.testing.assert_close(again, state, rtol=1e-10, atol=1e-10)
        found = gradients(expert, features)
        assert found.keys() == wanted.keys()
        size = max((1.0, *(float(gradient.abs().max()) for gradient in wanted.values())))
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-10 * size)
