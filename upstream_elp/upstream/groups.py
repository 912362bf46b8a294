"""Parameter groups for optimizers: one per adapter method and one per other part, each with its learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import is_number


def by_component(expert: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Sort the trained tensors of a module with an injection by adapter method, in the order of injection."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in expert.injection.parameters(expert).items():
        found.setdefault(expert.injection.declared[name].component, []).append(parameter)
    return found


def parameter_groups(
    members: Mapping[str, list[nn.Parameter]], *, lr: float, rates: Mapping[str, float], where: str = ""
) -> list[dict[str, Any]]:
    """Build groups for an optimizer of ``torch.optim``, each with its learning rate.

    Args:
        members: parameters by name of the group; a name without any is valid in ``rates`` and makes no group.
        lr: learning rate of the groups that ``rates`` does not name.
        rates: learning rate by name of the group.
        where: what to put before an error message, such as ``optimizer.groups: ``.

    Raises:
        ElpError: a name that ``members`` does not have, or a learning rate that is not a positive number.
    """
    for name, rate in {"lr": lr, **rates}.items():
        if name not in ("lr", *members):
            raise ElpError(f"{where}unknown group {name!r}; the groups are: {', '.join(members)}")
        if not is_number(rate) or rate <= 0:
            raise ElpError(f"{where}the learning rate of {name} must be a positive number, but is {rate!r}")
    return [
        {"params": parameters, "lr": float(rates.get(name, lr)), "name": name}
        for name, parameters in members.items()
        if parameters
    ]
