"""The check at start: every declared tensor is reached, every site acts, and the rest stays frozen.

It runs on a few tenths of a second of noise and leaves model, buffers and random states bit by bit as they were.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from upstream_elp.errors import ElpError

if TYPE_CHECKING:
    from upstream_elp.expert import ElpExpert

PROBE_SAMPLES = (4000, 2900)
"""Two waves of different length, so that padding is part of the check."""
PERTURBATION = 0.05


@contextmanager
def preserved_random_state(device: torch.device) -> Iterator[None]:
    """Restore python's, numpy's and torch's random states (WavLM draws from numpy in every forward pass)."""
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    random.setstate(python)
    np.random.set_state(numpy_state)


class Probe:
    """A fixed batch of noise, and the hidden states that the plain backbone gives for it.

    Args:
        backbone: S3PRL's stock expert before injection, frozen and in eval mode.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.device = next(backbone.parameters()).device
        generator = torch.Generator().manual_seed(0)
        self.wavs = [0.1 * torch.randn(n, generator=generator).to(self.device) for n in PROBE_SAMPLES]
        self.states = self.run(backbone)

    def run(self, module: nn.Module, key: str = "hidden_states") -> list[Tensor]:
        """The module's states for the probe, without gradients."""
        with preserved_random_state(self.device), torch.no_grad():
            return [state.clone() for state in module(self.wavs)[key]]


def self_check(expert: ElpExpert, probe: Probe) -> None:
    """Check an expert that adapters were just injected into.

    Args:
        expert: the expert; its mode, tensors and counters are restored.
        probe: what the plain backbone gave.

    Raises:
        ElpError: naming the tensor or site that fails.
    """
    was_training, trained, calls = expert.training, expert.trained, expert._frozen_calls
    expert.eval()
    saved = {name: parameter.detach().clone() for name, parameter in expert.injection.parameters(expert).items()}
    buffers = {name: buffer.clone() for name, buffer in expert.named_buffers()}
    try:
        _check_off(expert, probe)
        if saved:
            _check_reached(expert, probe)
    finally:
        with torch.no_grad():
            for name, parameter in expert.injection.parameters(expert).items():
                parameter.copy_(saved[name])
            for name, buffer in expert.named_buffers():
                buffer.copy_(buffers[name])
        expert.train(was_training)
        expert.trained, expert._frozen_calls = trained, calls


def _check_off(expert: ElpExpert, probe: Probe) -> None:
    # torch picks another attention kernel where a weight requires a gradient, so the comparison is made without any
    parameters = list(expert.injection.parameters(expert).values())
    for parameter in parameters:
        parameter.requires_grad_(False)
    if expert.injection.switchable:
        expert.enabled = False
    states = probe.run(expert, "backbone_hidden_states")
    expert.enabled = True
    for parameter in parameters:
        parameter.requires_grad_(True)
    same = len(states) == len(probe.states) and all(map(torch.equal, states, probe.states))
    if not same:
        raise ElpError("self-check: with the adapters off, the backbone does not give what it gave without adapters")


def _check_reached(expert: ElpExpert, probe: Probe) -> None:
    entered: set[str] = set()

    def note(path: str) -> object:
        return expert.get_submodule(path).register_forward_hook(lambda *_: entered.add(path))

    handles = [note(path) for path in expert.injection.sites]
    try:
        gradients = _perturbed_gradients(expert, probe)
    finally:
        for handle in handles:
            handle.remove()
    if skipped := [path for path in expert.injection.sites if path not in entered]:
        raise ElpError(f"self-check: the site {skipped[0]} is never entered in a forward pass")
    for name, gradient in gradients.items():
        if expert.injection.declared[name].zero_gradient:
            continue
        if gradient is None or not bool(gradient.abs().max() > 0):
            raise ElpError(f"self-check: the tensor {name} receives no gradient, so it would stay untrained")


def _perturbed_gradients(expert: ElpExpert, probe: Probe) -> dict[str, Tensor | None]:
    """Gradients of a random projection of the head's features, at noisy weights: zero inits have zero gradients."""
    parameters = expert.injection.parameters(expert)
    trainable = {id(parameter) for parameter in expert.parameters() if parameter.requires_grad}
    if extra := trainable - {id(parameter) for parameter in parameters.values()}:
        names = [name for name, parameter in expert.named_parameters() if id(parameter) in extra]
        raise ElpError(f"self-check: {names[0]} is trainable, but no method declares it")
    generator = torch.Generator().manual_seed(1)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    with preserved_random_state(probe.device), torch.enable_grad():
        with torch.no_grad():
            for parameter in parameters.values():
                parameter.add_(PERTURBATION * noise(parameter))
        features = expert(probe.wavs)["hidden_states"]
        loss = sum((feature * noise(feature)).sum() for feature in features)
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, gradients, strict=True))
