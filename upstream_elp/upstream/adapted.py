"""What the parts of the upstream share: a module that holds a backbone with adapters inside."""

from __future__ import annotations

from torch import nn

from upstream_elp.adapters.config import AdapterConfig
from upstream_elp.adapters.injection import Injection
from upstream_elp.backbones.fingerprint import Fingerprint
from upstream_elp.base.errors import ElpError


class AdaptedModule(nn.Module):
    """The facts about a backbone with adapters on which saving, loading and checking rely."""

    backbone: nn.Module
    name: str | None
    """The backbone's hub name; None for a local checkpoint."""
    trained: bool
    """Whether the adapters came from a checkpoint or have seen a training step."""
    fingerprint: Fingerprint
    """The backbone's, taken before the injection."""
    injection: Injection
    config: AdapterConfig
    """The adapter configuration."""

    @property
    def enabled(self) -> bool:
        """Whether the adapters inside the backbone act.

        Off, ``backbone_hidden_states`` are what the backbone gives without any adapter, bit by bit. L-adapters stand
        behind the backbone and go on making the head's ``hidden_states`` from them.
        """
        return all(switch.enabled for switch in self.injection.switches(self))

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if not value and not self.injection.switchable:
            raise ElpError("this preset fine-tunes the backbone in place, so it cannot be switched off")
        for switch in self.injection.switches(self):
            switch.enabled = value
