"""Several trained adapters on one backbone, one of them active at a time, switched without loading or copying.

The backbone is loaded once. Each adapter is injected once, as in an expert of its own, and removed again as the set of
items that the injection changed (:mod:`upstream_elp.backbones.structure`). Switching replaces one set by another. The
model then has the same objects as after a fresh load of that adapter, and its outputs are bit-equal.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from upstream_elp import host
from upstream_elp.adapters.config import AdapterConfig
from upstream_elp.backbones.architecture import backbone_names
from upstream_elp.backbones.fingerprint import Fingerprint
from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.upstream.adapter_folder import AdapterFolder, is_adapter_folder, read_adapter_folder
from upstream_elp.upstream.build import load_backbone
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.sharing import SharedAdapter, share, tensor_bytes
from upstream_elp.upstream.state_dict import install_empty_state

PLAIN = AdapterConfig(name="plain", features="layers")


def load_adapters(
    folders: Mapping[str, str | os.PathLike], *, backbone: str | os.PathLike | None = None, refresh: bool = False
) -> AdapterSwitch:
    """Load adapters; see :func:`upstream_elp.load_adapters`, which imports this module when it is called."""
    if not isinstance(folders, Mapping):
        raise ElpError(
            f"load_adapters takes a mapping of names to adapter folders, such as {{'asr': 'adapters/asr'}}, but not "
            f"{shown(folders)}"
        )
    contents = {name: _read(folder) for name, folder in folders.items()}
    hub_name, location = _backbone_of(contents, backbone)
    host.install()
    stock, hub_name = load_backbone(hub_name, location, refresh, next(iter(contents.values()), None))
    switch = AdapterSwitch(stock, name=hub_name, check=settings.current().self_check)
    for name, folder in folders.items():
        switch._add(name, contents.pop(name), where=str(folder))  # popped, so that its tensors are not kept twice
    return switch.use(next(iter(folders), None))


class AdapterSwitch(nn.Module):
    """A frozen backbone with named adapters, one or none of them active, that follows S3PRL's upstream contract.

    It is for inference: it stays in eval mode, its forward pass runs without gradients, and its tensors do not require
    any. To train an adapter, build an expert for it. The state dict is empty, since backbone and adapters have their
    own files. Only one thread may use it at a time.

    An adapter that was fine-tuned in place (the method ``encoder``) is kept as a copy of the tensors that it trained,
    so it needs as much memory as they do, up to a second backbone. All others only need the size of their folder.

    Args:
        backbone: S3PRL's stock expert, loaded and without adapters.
        name: hub name of the backbone; None for a local checkpoint.
        check: whether to run the self-check once for each adapter that is added.

    Raises:
        ElpError: the backbone is unknown, or the self-check failed.
    """

    def __init__(self, backbone: nn.Module, *, name: str | None = None, check: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.check = check
        self.adapters = nn.ModuleList()
        self._named: dict[str, SharedAdapter] = {}
        self._active: str | None = None
        self._plain = (ElpExpert(backbone, PLAIN, name=name, check=check),)  # in a tuple: it contains the backbone
        self._dtype = next(backbone.parameters()).dtype
        install_empty_state(self)
        self.eval()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the adapters, in the order in which they were added."""
        return tuple(self._named)

    @property
    def active(self) -> str | None:
        """Name of the active adapter; None for the plain backbone."""
        return self._active

    @property
    def configs(self) -> dict[str, AdapterConfig]:
        """Configurations by name; they determine what the ``hidden_states`` of each adapter are."""
        return {name: adapter.config for name, adapter in self._named.items()}

    @property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the backbone, taken when it was loaded."""
        return self._plain[0].fingerprint

    def memory(self) -> dict[str, int]:
        """Return the bytes of the backbone's tensors, and of the additional tensors of each adapter."""
        with self._without():
            sizes = {"backbone": tensor_bytes(self.backbone)}
            for name, adapter in self._named.items():
                sizes[name] = tensor_bytes(adapter, without=self.backbone)
        return sizes

    def use(self, name: str | None) -> AdapterSwitch:
        """Activate an adapter, or none: ``hidden_states`` are then all states of the plain backbone.

        Raises:
            ElpError: an unknown name; the active adapter stays active.
        """
        chosen = None if name is None else self._find(name)
        if name != self._active:
            if self._active is not None:
                self._named[self._active].changes.undo()
            if chosen is not None:
                chosen.changes.redo()
            self._active = name
        return self

    def add(self, name: str, folder: str | os.PathLike) -> None:
        """Load another adapter; the active adapter stays active.

        Args:
            name: a name of your choice.
            folder: the adapter folder.

        Raises:
            ElpError: the name is taken, the folder is not an adapter folder, the adapter belongs to another backbone,
                the self-check failed, or the backbone was converted to another type; nothing is added then.
        """
        self._add(name, _read(folder), where=str(folder))

    def remove(self, name: str) -> None:
        """Remove an adapter and free its memory.

        Raises:
            ElpError: an unknown name, or the adapter is active.
        """
        self._find(name)
        if name == self._active:
            raise ElpError(f"the adapter {name!r} is active; call use(None) or use another one before you remove it")
        del self._named[name]
        self.adapters = nn.ModuleList(self._named.values())

    def get_downsample_rates(self, key: str) -> int:
        """Return the samples per frame of the feature ``key``."""
        return self._plain[0].get_downsample_rates(key)

    @torch.no_grad()
    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """Extract features with the active adapter, as :meth:`ElpExpert.forward` does."""
        if self._active is None:
            return self._plain[0](wavs)
        with self._named[self._active].marked() as expert:
            return expert(wavs)

    def train(self, mode: bool = True) -> AdapterSwitch:
        """Stay in eval mode, so that a surrounding model can be trained."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> AdapterSwitch:
        """Refuse gradients.

        Raises:
            ElpError: ``requires_grad`` is true.
        """
        if requires_grad:
            raise ElpError(
                "switched adapters are for inference only; train an adapter in its own upstream, then load it"
            )
        return super().requires_grad_(False)

    def extra_repr(self) -> str:
        """Show the names and the active adapter."""
        return f"names={self.names}, active={self.active!r}"

    def _find(self, name: str) -> SharedAdapter:
        if name not in self._named:
            valid = ", ".join(self._named) or "none yet"
            raise ElpError(f"there is no adapter {name!r}; the adapters are: {valid} (and None, the plain backbone)")
        return self._named[name]

    def _add(self, name: str, content: AdapterFolder, *, where: str) -> None:
        if not isinstance(name, str) or not name:
            raise ElpError(f"the name of an adapter must be a string that is not empty, but is {name!r}")
        if name in self._named:
            raise ElpError(f"there already is an adapter {name!r}; remove it first, or choose another name")
        if (dtype := next(self.backbone.parameters()).dtype) != self._dtype:
            raise ElpError(
                f"this backbone was converted to {dtype}; add adapters before that, while it is {self._dtype}"
            )
        with self._without():
            self._named[name] = share(
                self.backbone, content, fingerprint=self.fingerprint, check=self.check, where=where
            )
        self.adapters = nn.ModuleList(self._named.values())

    @contextmanager
    def _without(self) -> Iterator[None]:
        """Switch to the plain backbone for a while."""
        active = self._active
        self.use(None)
        try:
            yield
        finally:
            self.use(active)

    def _apply(self, *args: Any, **kwargs: Any) -> AdapterSwitch:
        """Move or convert everything, including tensors that a fine-tuned copy replaces."""
        with self._without():
            return super()._apply(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> AdapterSwitch:
        """Make an independent copy; the expert is copied first, since it knows how to copy a backbone."""
        with self._without():
            clone = self.__class__.__new__(self.__class__)
            memo[id(self)] = clone
            copy.deepcopy(self._plain, memo)
            clone.__dict__.update({key: copy.deepcopy(value, memo) for key, value in self.__dict__.items()})
        return clone.use(self._active)


def _backbone_of(
    contents: Mapping[str, AdapterFolder], backbone: str | os.PathLike | None
) -> tuple[str | None, str | os.PathLike | None]:
    """Return the backbone's hub name, or None and its location."""
    location = backbone or settings.current().backbone
    if location is None:
        if name := next((content.backbone for content in contents.values() if content.backbone), None):
            return name, None
        raise ElpError(
            "these adapters do not record which backbone they belong to; "
            f"pass its checkpoint or hub name as backbone=..., or its checkpoint in {settings.VARIABLES['backbone']}"
        )
    name = str(location).removeprefix("elp_")
    if name in backbone_names():
        return name, None
    if is_adapter_folder(location):
        raise ElpError(f"backbone={location} is an adapter folder; pass the checkpoint or hub name of its backbone")
    return None, location


def _read(folder: str | os.PathLike) -> AdapterFolder:
    if not is_adapter_folder(folder):
        raise ElpError(f"there is no adapter folder at {folder}; write one from a training checkpoint with elp export")
    return read_adapter_folder(folder)
