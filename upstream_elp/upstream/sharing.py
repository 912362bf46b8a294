"""One of several adapters that share a backbone: injected and checked once, then removed and restored at will."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from upstream_elp.adapters.config import AdapterConfig
from upstream_elp.backbones.fingerprint import Fingerprint
from upstream_elp.backbones.structure import Changes, Structure
from upstream_elp.upstream.adapter_folder import AdapterFolder
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.selfcheck import Probe, self_check
from upstream_elp.upstream.transfer import check_backbone, copy_tensors


class SharedAdapter(nn.Module):
    """The modules and tensors of one adapter, registered here so that they move and count even while it is inactive.

    Args:
        expert: the expert on the shared backbone, with the adapter loaded.
        changes: what the injection changed in the backbone.
        copies: tensors that replace the backbone's own while the adapter is active.
    """

    def __init__(self, expert: ElpExpert, changes: Changes, copies: list[nn.Parameter]) -> None:
        super().__init__()
        outside = [child for child in expert.children() if child is not expert.backbone]
        self.changes = changes
        self.parts = nn.ModuleList([*changes.added, *outside])
        self.copies = nn.ParameterList(copies)
        self._expert = (expert,)  # in a tuple, since it contains the backbone
        self._trained = tuple(expert.injection.parameters(expert).values())
        self._mark(False)

    @property
    def config(self) -> AdapterConfig:
        """The configuration of the adapter."""
        return self._expert[0].config

    @contextmanager
    def marked(self) -> Iterator[ElpExpert]:
        """Yield the expert while its tensors require gradients, as after a fresh load.

        No gradients are computed here, but torch also looks at this flag when it chooses how to multiply matrices.
        """
        self._mark(True)
        try:
            yield self._expert[0]
        finally:
            self._mark(False)

    def _mark(self, trained: bool) -> None:
        for parameter in self._trained:
            parameter.requires_grad_(trained)


def share(
    backbone: nn.Module, content: AdapterFolder, *, fingerprint: Fingerprint, check: bool, where: str
) -> SharedAdapter:
    """Inject an adapter into a plain backbone, check and load it, and remove it again.

    Args:
        backbone: S3PRL's stock expert without adapters; it is restored, also after an error.
        content: the adapter.
        fingerprint: fingerprint of the backbone.
        check: whether to run the self-check.
        where: name of the adapter in errors.

    Raises:
        ElpError: another backbone, a configuration that does not fit it, other tensors, or a failed self-check.
    """
    check_backbone(content, fingerprint, where=where)
    probe = Probe(backbone) if check else None
    plain = Structure(backbone)
    shared = {id(parameter) for parameter in backbone.parameters()}
    try:
        expert = ElpExpert(backbone, content.config, name=content.backbone, known=fingerprint, check=False)
        copies = _own_tensors(expert, shared)
        changes = plain.changes()
        expert.to(next(backbone.parameters()).device)
        if probe is not None:
            self_check(expert, probe)
        copy_tensors(expert, content)
        return SharedAdapter(expert.eval(), changes, copies)
    finally:
        plain.changes().undo()
        backbone.requires_grad_(False)


def _own_tensors(expert: ElpExpert, shared: set[int]) -> list[nn.Parameter]:
    """Replace the backbone's tensors that the expert would train in place by copies, and return the copies.

    Args:
        expert: the expert with the adapter injected.
        shared: ids of the plain backbone's parameters.
    """
    trained = expert.injection.parameters(expert).values()
    copies = {id(p): nn.Parameter(p.detach().clone()) for p in trained if id(p) in shared}
    for module in expert.backbone.modules():
        for key, parameter in module._parameters.items():
            if id(parameter) in copies:
                module._parameters[key] = copies[id(parameter)]
    return list(copies.values())


def tensor_bytes(module: nn.Module, *, without: nn.Module | None = None) -> int:
    """Return the bytes of a module's tensors, each counted once, except the tensors of ``without``."""
    counted = {id(tensor): tensor for tensor in _tensors(module)}
    for tensor in () if without is None else _tensors(without):
        counted.pop(id(tensor), None)
    return sum(tensor.numel() * tensor.element_size() for tensor in counted.values())


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
