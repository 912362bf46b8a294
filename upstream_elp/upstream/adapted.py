"""The base of the upstream's modules: a backbone with adapters inside."""

from __future__ import annotations

from torch import Tensor, nn

from upstream_elp.adapters.config import AdapterConfig
from upstream_elp.adapters.injection import Injection
from upstream_elp.backbones.fingerprint import Fingerprint
from upstream_elp.base.errors import ElpError


class AdaptedModule(nn.Module):
    """A backbone with adapters, and the facts about it on which saving, loading and checking rely."""

    backbone: nn.Module
    name: str | None
    """Hub name of the backbone; None for a local checkpoint."""
    trained: bool
    """Whether the adapters were loaded from a checkpoint or have seen a training step."""
    fingerprint: Fingerprint
    """Fingerprint of the backbone, taken before the injection."""
    frozen: Tensor
    """Some values of the tensors that are not trained, taken after the injection."""
    injection: Injection
    config: AdapterConfig
    """The adapter configuration."""

    @property
    def enabled(self) -> bool:
        """Whether the adapters inside the backbone are active.

        If not, ``backbone_hidden_states`` are bit-equal to those of the backbone without adapters. L-adapters follow
        the backbone and still compute the head's ``hidden_states`` from them.
        """
        return all(switch.enabled for switch in self.injection.switches(self))

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if not value and not self.injection.switchable:
            raise ElpError("this preset fine-tunes the backbone in place, so it cannot be switched off")
        for switch in self.injection.switches(self):
            switch.enabled = value
