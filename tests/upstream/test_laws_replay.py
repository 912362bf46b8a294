"""Laws of the replay: whatever lies below the lowest trained tensor may come from a record of each utterance."""

import copy

import pytest
import torch

from tests.experts import CONFIGS, add_noise, make_expert
from tests.toys import BACKBONES
from upstream_elp.adapters.lowest import (
    CNN_OUTPUT,
    ENCODER_INPUT,
    LAYER_LEVEL,
    STATES,
    layer_input,
    lowest_trained,
)
from upstream_elp.upstream.inject import eject
from upstream_elp.upstream.passed_over import PassedOver
from upstream_elp.upstream.replay import BEGINNINGS, Begin, Replay

SAMPLES = (2600, 1700, 3020, 2941, 81)
"""Lengths that leave different remainders, for a front end with a stride of 20 or 40 samples."""
REPLAYED = [name if name == "wavlm-base" else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES]
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
@pytest.mark.parametrize("backbone", REPLAYED)
def test_features_and_gradients_are_those_of_each_utterance_by_itself(backbone, config, law):
    plain = make_expert(backbone, config, noise=0.1).double().eval()
    wavs = waves(plain)
    expected = by_itself(plain, wavs)
    wanted = gradients(plain, expected)
    # in pre-norm models, a norm divides the P-adapter's small vectors by their size, and rounding with them
    pre_norm_and_pseudo = "large" in backbone and "p_adapter" in plain.config.methods
    tolerance = 1e-9 if pre_norm_and_pseudo else 1e-10
    for place in places(plain):
        if place < layer_input(0) and backbone in STACKED:
            continue
        expert = copy.deepcopy(plain)
        _, features = replayed(expert, wavs, place)
        for one, other in zip(expected, features, strict=True):
            for state, again in zip(one, other, strict=True):
                torch.testing.assert_close(again, state, rtol=1e-10, atol=tolerance)
        found = gradients(expert, features)
        assert found.keys() == wanted.keys()
        size = max((1.0, *(float(gradient.abs().max()) for gradient in wanted.values())))
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=tolerance * size)
    law("features and gradients from a record are those of each utterance by itself")


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("backbone", REPLAYED)
def test_nothing_below_the_lowest_trained_tensor_depends_on_what_is_trained(backbone, config, law):
    """And what lies one place higher does, so nothing that could be recorded is missed."""
    plain = make_expert(backbone, config, noise=0.1)
    (wav,) = waves(plain, torch.float32)[:1]
    lowest = lowest_trained(plain.injection)
    higher = [place for place in (CNN_OUTPUT, ENCODER_INPUT, layer_input(0)) if place > lowest][:1]
    if lowest.level == LAYER_LEVEL:
        last = lowest.layer + 1 == plain.injection.layers
        higher = [STATES if last else layer_input(lowest.layer + 1)]
    for place, same in [*((place, True) for place in places(plain)), *((place, False) for place in higher)]:
        expert = copy.deepcopy(plain)
        replay = Replay(expert, place, states=range(expert.injection.layers + 1))
        before = replay.record(expert, wav)
        add_noise(expert, 0.3, seed=9)
        assert torch.equal(before, replay.record(expert, wav)) == same, place
    law("nothing below the lowest trained tensor depends on what is trained")


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("backbone", REPLAYED)
def test_a_record_may_begin_from_one_at_a_lower_place(backbone, config, law):
    plain = make_expert(backbone, config, noise=0.1).eval()
    possible = places(plain)
    for place in possible:
        expert = copy.deepcopy(plain)
        replay = Replay(expert, place, states=range(expert.injection.layers + 1))
        for lower in (beginning for beginning in BEGINNINGS if beginning < place):
            own = Replay(other := copy.deepcopy(plain), lower, states=())
            for wav in waves(expert, torch.float32):
                part = replay.record(expert, wav, until=lower)
                assert torch.equal(part, own.record(other, wav))  # so it may come from another run
                assert torch.equal(replay.record(expert, wav, begin=Begin(lower, part)), replay.record(expert, wav))
    law("a record may begin from one at a lower place")


@pytest.mark.parametrize("place", [CNN_OUTPUT, ENCODER_INPUT, layer_input(0), layer_input(2), STATES])
@pytest.mark.parametrize("backbone", ["wavlm-base", "hubert-base", "hf_wavlm-large", "hf_hubert-base"])
def test_a_removed_replay_leaves_the_expert_as_it_was(backbone, place):
    expert = make_expert(backbone, "weighted_sum")
    wavs = waves(expert, torch.float32)
    expected = expert(wavs)["hidden_states"]
    classes = [type(module) for module in expert.modules()]
    replay, _ = replayed(expert, wavs, place)
    assert all(map(torch.equal, expert(wavs)["hidden_states"], expected))  # nor does its presence change anything
    replay.remove(expert)
    expert.replay = None
    assert [type(module) for module in expert.modules()] == classes
    assert not any(hook for module in expert.modules() for hook in _hooks_of(module, replay))
    assert all(map(torch.equal, expert(wavs)["hidden_states"], expected))


def _hooks_of(module, replay):
    hooks = module._forward_pre_hooks.values()
    return [hook for hook in hooks if replay in (getattr(hook, "__self__", None), getattr(hook, "replay", None))]


def test_eject_removes_a_replay():
    expert = make_expert("wavlm-base", "le")
    wavs = waves(expert, torch.float32)
    expert.enabled = False
    expected = expert(wavs)["backbone_hidden_states"]
    replayed(expert, wavs, layer_input(0))
    plain = eject(expert)
    assert all(map(torch.equal, plain(wavs)["hidden_states"], expected))
    assert not any(isinstance(module, PassedOver) for module in plain.modules())


def test_gradient_checkpointing_and_a_replay_together():
    plain = make_expert("wavlm-base", "le", noise=0.1).double().train()
    wavs = waves(plain)
    expected = gradients(plain, replayed(plain, wavs, layer_input(0))[1])
    expert = make_expert("wavlm-base", "le", noise=0.1).double().train()
    expert.checkpoint_layers()
    found = gradients(expert, replayed(expert, wavs, layer_input(0))[1])
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)
