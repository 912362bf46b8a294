"""Optimizers with one learning rate per module, for S3PRL's ``optimizer`` block.

Registered on ``s3prl.optimizers``, so that a task configuration can say::

    optimizer:
      name: ELPAdam
      lr: 1.0e-3          # head, and every group not listed below
      groups: {e_adapter: 1.0e-5, l_adapter: 1.0e-4, layer_norm: 1.0e-5, encoder: 1.0e-4}

``ELPAdamW`` and ``ELPOptim`` (for any other class of ``torch.optim``, chosen with ``torch_optim_name``) have the same
keys. The optimizer gets only trainable parameters. ``fused: true`` updates all tensors of a device in one kernel, which
rounds differently, so it is off by default.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from upstream_elp.adapters.registry import method_names
from upstream_elp.backbones.structure import unwrapped
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import boolean
from upstream_elp.experiment.checkpoint import FEATURIZER
from upstream_elp.upstream.groups import by_component
from upstream_elp.upstream.groups import parameter_groups as build_groups


class Trainable:
    """A view of a model for optimizers, without the frozen parameters.

    Args:
        model: upstream, featurizer or downstream, possibly wrapped for several processes.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trainable parameters."""
        return (parameter for _, parameter in self.named_parameters())

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trainable parameters with their names, which S3PRL's optimizers read."""
        return ((name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad)


def group_names() -> list[str]:
    """Names of the parameter groups: the head, S3PRL's featurizer (its layer weights), and one per adapter method."""
    return ["head", "featurizer", *method_names()]


def parameter_groups(
    models: Sequence[nn.Module], lr: float, groups: Mapping[str, float] | None
) -> list[dict[str, Any]]:
    """Sort the trainable parameters of S3PRL's models into named groups, each with its learning rate.

    Args:
        models: upstream (if trained), featurizer and downstream, possibly wrapped for several processes.
        lr: learning rate of the groups that ``groups`` does not name.
        groups: learning rate per group of :func:`group_names`.

    Raises:
        ElpError: an unknown group or a learning rate that is not a positive number.
    """
    members: dict[str, list[nn.Parameter]] = {name: [] for name in group_names()}
    for model in models:
        for component, parameters in _components(model).items():
            members[component] += parameters
    return build_groups(members, lr=lr, rates=groups or {}, where="optimizer.groups: ")


def _components(model: nn.Module | Trainable) -> dict[str, list[nn.Parameter]]:
    model = model.model if isinstance(model, Trainable) else model
    model = unwrapped(model)
    if getattr(model, "injection", None) is not None:
        return by_component(model)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if getattr(model, "name", None) == FEATURIZER:
        return {"featurizer": trainable}
    return {"encoder" if _is_stock_upstream(model) else "head": trainable}


def _is_stock_upstream(model: nn.Module) -> bool:
    """Whether this is one of S3PRL's own upstreams, trained with -f."""
    return any(cls.__module__.startswith("s3prl.upstream") for cls in type(model).__mro__)


def get_ELPAdam(  # S3PRL looks for get_NAME
    model_params: Sequence[nn.Module],
    total_steps: int,
    lr: float = 1e-4,
    groups: Mapping[str, float] | None = None,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-8,
    fused: bool = False,
) -> torch.optim.Adam:
    """Adam with one learning rate per module; ``total_steps``, which S3PRL passes, is ignored."""
    return _grouped(torch.optim.Adam, model_params, lr, groups, betas=betas, eps=eps, fused=fused)


def get_ELPAdamW(  # S3PRL looks for get_NAME
    model_params: Sequence[nn.Module],
    total_steps: int,
    lr: float = 1e-4,
    groups: Mapping[str, float] | None = None,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    fused: bool = False,
) -> torch.optim.AdamW:
    """AdamW with one learning rate per module; ``total_steps``, which S3PRL passes, is ignored."""
    options = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "fused": fused}
    return _grouped(torch.optim.AdamW, model_params, lr, groups, **options)


def get_ELPOptim(  # S3PRL looks for get_NAME
    model_params: Sequence[nn.Module],
    total_steps: int,
    torch_optim_name: str,
    lr: float = 1e-4,
    groups: Mapping[str, float] | None = None,
    **options: Any,
) -> torch.optim.Optimizer:
    """Any optimizer of ``torch.optim`` with one learning rate per module.

    Args:
        model_params: see :func:`parameter_groups`.
        total_steps: passed by S3PRL and ignored.
        torch_optim_name: class name, such as RAdam.
        lr: learning rate of the groups that ``groups`` does not name.
        groups: learning rate per group.
        **options: further options of that class, such as fused; YAML lists become tuples.

    Raises:
        ElpError: a class that does not exist or that a plain loop cannot drive, or an option that it does not have.
    """
    classes = torch_optimizers()
    if torch_optim_name not in classes:
        raise ElpError(
            f"optimizer.torch_optim_name is {torch_optim_name!r}, which is not a usable class of torch.optim; "
            f"valid: {', '.join(sorted(classes))}"
        )
    chosen = classes[torch_optim_name]
    valid = [name for name in inspect.signature(chosen).parameters if name not in ("params", "lr")]
    if unknown := [key for key in options if key not in valid]:
        raise ElpError(f"optimizer: {torch_optim_name} has no option {unknown[0]!r}; it has: {', '.join(valid)}")
    return _grouped(chosen, model_params, lr, groups, **options)


def torch_optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """The classes of ``torch.optim`` that a plain training loop can drive, by name.

    Excluded are those whose step needs a closure (LBFGS) and the one that takes only sparse gradients.
    """
    base = torch.optim.Optimizer
    found = {name: value for name, value in vars(torch.optim).items() if inspect.isclass(value)}
    return {
        name: value
        for name, value in found.items()
        if issubclass(value, base)
        and value not in (base, torch.optim.SparseAdam)
        and inspect.signature(value.step).parameters["closure"].default is None
    }


def _grouped(
    chosen: type[torch.optim.Optimizer],
    models: Sequence[nn.Module],
    lr: float,
    groups: Mapping[str, float] | None,
    **options: Any,
) -> Any:
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    if "fused" in plain and not boolean(plain["fused"], key="optimizer.fused"):
        del plain["fused"]  # torch then chooses among the kernels that are not fused
    return chosen(parameter_groups(models, lr, groups), lr=lr, **plain)
