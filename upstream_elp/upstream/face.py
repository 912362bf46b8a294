"""What one's own training loop asks of a model with adapters: parameters, groups, folders, a summary, off and on."""

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
"""Name of the group and the row of what is trained outside the backbone."""


class AdapterFace(nn.Module):
    """Methods that a model with adapters offers; what it is made of says :attr:`adapted`."""

    @property
    def adapted(self) -> AdaptedModule:
        """The module that holds the backbone and its adapters."""
        raise NotImplementedError

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """What the adapters train: canonical name, as in an adapter folder, to parameter."""
        return self.adapted.injection.parameters(self.adapted)

    def parameter_groups(self, *, lr: float, **rates: float) -> list[dict[str, Any]]:
        """Groups for an optimizer of ``torch.optim``, one per method, and one for what else is trainable.

        Args:
            lr: learning rate of the groups that ``rates`` does not name.
            **rates: learning rate by name of the method, such as ``e_adapter=1e-4``, or of the ``head``.

        Raises:
            ElpError: a name without parameters here, or a learning rate that is not a positive number.
        """
        return parameter_groups(self._trained(), lr=lr, rates=rates)

    def _trained(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by component."""
        members = by_component(self.adapted)
        ours = {id(parameter) for parameters in members.values() for parameter in parameters}
        outside = [
            parameter for parameter in self.parameters() if parameter.requires_grad and id(parameter) not in ours
        ]
        return {**members, **({HEAD: outside} if outside else {})}

    @contextmanager
    def adapters_off(self) -> Iterator[None]:
        """Run without the adapters inside the backbone, as the plain model does, bit by bit.

        Raises:
            ElpError: the backbone is fine-tuned in place, so there is nothing to switch back to.
        """
        before = self.adapted.enabled
        self.adapted.enabled = False
        try:
            yield
        finally:
            self.adapted.enabled = before

    def save_adapter(self, folder: str | os.PathLike) -> Path:
        """Write the adapters as a folder that ``elp``, :meth:`load_adapter` and :func:`upstream_elp.adapt` read.

        Args:
            folder: the place, which does not exist or is empty.

        Raises:
            ElpError: something is there, or it cannot be written.
        """
        return write_adapter_folder(folder, adapter_folder_of(self.adapted))

    def load_adapter(self, folder: str | os.PathLike) -> None:
        """Load trained adapters of the same configuration, trained on the same backbone.

        Raises:
            ElpError: an unreadable folder, another configuration or another backbone; nothing is loaded then.
        """
        self._load(read_adapter_folder(folder), where=str(folder))

    def _load(self, content: AdapterFolder, *, where: str) -> None:
        own = self.adapted.config
        if (content.config.methods, content.config.features) != (own.methods, own.features):
            raise ElpError(
                f"{where} holds another adapter than this model: {content.config.name!r} and {own.name!r} differ in "
                f"their options; build the model with adapt(model, {where!r})"
            )
        load_adapter(self.adapted, content, where=where)

    def summary(self) -> str:
        """A table of what is trained and what is frozen, in values per component."""
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
