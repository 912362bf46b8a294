"""The self-check at the start: every declared tensor is reached, every site has an effect, and the rest stays frozen.

It uses a few tenths of a second of noise and leaves the model, its buffers and all random states bit-equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from upstream_elp.backbones.recognition import find_family, front_end
from upstream_elp.base.errors import ElpError
from upstream_elp.base.randomness import preserved
from upstream_elp.upstream.adapted import AdaptedModule

PERTURBATION = 0.05


class Probe:
    """A fixed batch of noise, and the plain backbone's hidden states for it.

    Args:
        backbone: S3PRL's stock expert before the injection, frozen and in eval mode.

    Raises:
        ElpError: the hidden states are not finite.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.device = next(backbone.parameters()).device
        generator = torch.Generator().manual_seed(0)
        self.wavs = [0.1 * torch.randn(n, generator=generator).to(self.device) for n in _probe_samples(backbone)]
        self.states = self.run(backbone)
        if not all(state.isfinite().all() for state in self.states):
            raise ElpError(
                "the backbone's hidden states for a wave of noise are not finite, even without adapters: "
                "its checkpoint is damaged; download it again"
            )

    def run(self, module: nn.Module, key: str = "hidden_states") -> list[Tensor]:
        """Return the module's states for the probe, computed without gradients."""
        with preserved(self.device), torch.no_grad():  # WavLM draws from numpy in every forward pass
            return [state.clone() for state in module(self.wavs)[key]]


def _probe_samples(backbone: nn.Module) -> tuple[int, int]:
    """Return two lengths, so that the check includes padding; 4000 and 2900 samples with the usual front end."""
    family, path = find_family(backbone)
    front = front_end(backbone.get_submodule(path), family)
    return front.samples(12) + front.stride // 4, front.samples(8) + 13 * front.stride // 16


def self_check(expert: AdaptedModule, probe: Probe) -> None:
    """Check an expert right after the injection.

    Args:
        expert: the expert; its tensors, modes, switches and counters are restored afterwards.
        probe: the results of the plain backbone.

    Raises:
        ElpError: a tensor or a site fails; the message names it.
    """
    _check_trainable(expert)
    with _restored(expert):
        expert.eval()
        expert.trained = True  # so that the probe's passes do not count as use of untrained adapters
        _check_off(expert, probe)
        if expert.injection.declared:
            _check_reached(expert, probe)


@contextmanager
def _restored(expert: AdaptedModule) -> Iterator[None]:
    """Restore every declared tensor and its flag, every buffer, mode and switch."""
    parameters = list(expert.injection.parameters(expert).values())
    saved = [*parameters, *expert.buffers()]
    values = [tensor.detach().clone() for tensor in saved]
    modes = [(module, module.training) for module in expert.modules()]
    trained, enabled = expert.trained, expert.enabled
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(saved, values, strict=True):
                tensor.copy_(value)
        for parameter in parameters:
            parameter.requires_grad_(True)
        for module, mode in modes:
            module.training = mode
        for switch in expert.injection.switches(expert):
            switch.enabled = enabled
        expert.trained = trained


def _check_trainable(expert: AdaptedModule) -> None:
    declared = {id(parameter): name for name, parameter in expert.injection.parameters(expert).items()}
    for name, parameter in expert.named_parameters():
        if parameter.requires_grad and id(parameter) not in declared:
            raise ElpError(f"self-check: {name} is trainable, but no method declares it")
        if not parameter.requires_grad and id(parameter) in declared:
            raise ElpError(f"self-check: the tensor {declared[id(parameter)]} is frozen, so it would not be trained")


def _check_off(expert: AdaptedModule, probe: Probe) -> None:
    # torch picks another attention kernel if a weight requires a gradient, so no weight does during the comparison
    parameters = list(expert.injection.parameters(expert).values())
    for parameter in parameters:
        parameter.requires_grad_(False)
    if expert.injection.switchable:  # many adapters change nothing at their initial values, even if they stay on
        _perturb(parameters, torch.Generator().manual_seed(2))
    for switch in expert.injection.switches(expert):  # also with fine-tuning in place: nothing has been trained yet
        switch.enabled = False
    states = probe.run(expert, "backbone_hidden_states")
    expert.enabled = True
    for parameter in parameters:
        parameter.requires_grad_(True)
    same = len(states) == len(probe.states) and all(map(torch.equal, states, probe.states))
    if not same:
        raise ElpError("self-check: with the adapters off, the backbone's output differs from that without adapters")


@contextmanager
def every_site_entered(expert: AdaptedModule) -> Iterator[None]:
    """Check that the forward passes inside enter every adapter.

    This is what a model that is only used needs of the self-check. It costs nothing.

    Raises:
        ElpError: one is never entered.
    """
    entered: set[str] = set()

    def note(path: str) -> RemovableHandle:
        return expert.get_submodule(path).register_forward_hook(lambda *_: entered.add(path))

    handles = [note(path) for path in expert.injection.sites]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if skipped := [path for path in expert.injection.sites if path not in entered]:
        raise ElpError(f"self-check: the site {skipped[0]} is never entered in a forward pass")


def _check_reached(expert: AdaptedModule, probe: Probe) -> None:
    with every_site_entered(expert):
        gradients = _perturbed_gradients(expert, probe)
    for name, gradient in gradients.items():
        if expert.injection.declared[name].zero_gradient:
            continue
        if gradient is None or not bool(gradient.abs().max() > 0):
            raise ElpError(f"self-check: the tensor {name} receives no gradient, so it would not be trained")


def _perturbed_gradients(expert: AdaptedModule, probe: Probe) -> dict[str, Tensor | None]:
    """Return gradients of a random projection of the head's features, at noisy weights: zero inits block gradients."""
    parameters = expert.injection.parameters(expert)
    generator = torch.Generator().manual_seed(1)

    with preserved(probe.device), torch.enable_grad():
        _perturb(parameters.values(), generator)
        features = expert(probe.wavs)["hidden_states"]
        loss = sum((feature * _noise(feature, generator)).sum() for feature in features)
        if not loss.requires_grad:  # none of the declared tensors takes part
            return dict.fromkeys(parameters)
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, gradients, strict=True))


def _perturb(parameters: Iterable[nn.Parameter], generator: torch.Generator) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(PERTURBATION * _noise(parameter, generator))


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like)
