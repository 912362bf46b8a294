"""Methods of a model with adapters for your own training loop: parameters, groups, folders, a summary, a switch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.adapted import AdaptedModule
from upstream_elp.upstream.adapter_folder import AdapterFolder, read_adapter_folder, write_adapter_folder
from upstream_elp.upstream.groups import by_component, parameter_groups
from upstream_elp.upstream.transfer import adapter_folder_of, load_adapter

HEAD = "head"
"""Name of the parameter group and of the row in the summary for everything outside the backbone."""


class AdapterFace(nn.Module):
    """Methods of every model with adapters; they act on the module in :attr:`adapted`."""

    @property
    def adapted(self) -> AdaptedModule:
        """The module that contains the backbone and its adapters."""
        raise NotImplementedError

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trained adapter parameters by canonical name, as in an adapter folder."""
        return self.adapted.injection.parameters(self.adapted)

    def parameter_groups(self, *, lr: float, **rates: float) -> list[dict[str, Any]]:
        """Return groups for an optimizer of ``torch.optim``: one per method, and one for everything else trainable.

        Args:
            lr: learning rate of the groups that ``rates`` does not name.
            **rates: learning rate by name of the method, such as ``e_adapter=1e-4``, or of the ``head``.

        Raises:
            ElpError: a name that this model does not have, or a learning rate that is not a positive number.
        """
        return parameter_groups(self._trained(), lr=lr, rates=rates)

    def _trained(self) -> dict[str, list[nn.Parameter]]:
        """Return the trainable parameters by component."""
        members = by_component(self.adapted)
        ours = {id(parameter) for parameters in members.values() for parameter in parameters}
        outside = [
            parameter for parameter in self.parameters() if parameter.requires_grad and id(parameter) not in ours
        ]
        return {**members, **({HEAD: outside} if outside else {})}

    @contextmanager
    def adapters_off(self) -> Iterator[None]:
        """Switch off the adapters inside the backbone for a while; its outputs are then those of the plain backbone.

        Raises:
            ElpError: the backbone is fine-tuned in place, so it cannot be switched back.
        """
        before = self.adapted.enabled
        self.adapted.enabled = False
        try:
            yield
        finally:
            self.adapted.enabled = before

    def save_adapter(self, folder: str | os.PathLike) -> Path:
        """Write the adapters to a folder that ``elp``, :meth:`load_adapter` and :func:`upstream_elp.adapt` can read.

        Args:
            folder: a path that does not exist, or an empty folder.

        Raises:
            ElpError: ``folder`` exists and is not empty, or cannot be written.
        """
        return write_adapter_folder(folder, adapter_folder_of(self.adapted))

    def load_adapter(self, folder: str | os.PathLike) -> None:
        """Load adapters that were trained with the same configuration on the same backbone.

        Raises:
            ElpError: an unreadable folder, another configuration or another backbone; nothing is loaded then.
        """
        self._load(read_adapter_folder(folder), where=str(folder))

    def _load(self, content: AdapterFolder, *, where: str) -> None:
        own = self.adapted.config
        if (content.config.methods, content.config.features) != (own.methods, own.features):
            raise ElpError(
                f"the adapter in {where} does not fit this model: the options of {content.config.name!r} and "
                f"{own.name!r} differ; build the model with adapt(model, {where!r})"
            )
        load_adapter(self.adapted, content, where=where)

    def summary(self) -> str:
        """Return a table of the trained and the frozen parameters per component."""
        from tabulate import tabulate

        trained = {name: sum(map(nn.Parameter.numel, each)) for name, each in self._trained().items()}
        inside = {id(parameter) for parameter in self.adapted.parameters()}
        frozen = {"backbone": 0, HEAD: 0}
        for parameter in self.parameters():
            if not parameter.requires_grad:
                frozen["backbone" if id(parameter) in inside else HEAD] += parameter.numel()
        rows = [(name, trained.get(name, 0), frozen.get(name, 0)) for name in {"backbone": 0, **trained, **frozen}]
        rows = [row for row in rows if row[0] == "backbone" or any(row[1:])]
        total = ("total", sum(trained.values()), sum(frozen.values()))
        share = 100 * total[1] / max(1, total[1] + total[2])
        lines = [(name, f"{one:,}", f"{other:,}") for name, one, other in [*rows, total]]
        table = tabulate(lines, headers=["component", "trained", "frozen"], colalign=("left", "right", "right"))
        return f"{self.adapted.config.name} on {self.adapted.injection.family.title}\n{table}\n{share:.2f} % is trained"
