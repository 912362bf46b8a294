"""Count the parameters that a configuration trains, from shapes and without weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upstream_elp.adapters.config import AdapterConfig
from upstream_elp.backbones.architecture import Architecture


def count_parameters(config: AdapterConfig, backbone: Architecture) -> dict[str, Any]:
    """Count the parameters that a configuration trains on a backbone.

    Args:
        config: the adapter configuration.
        backbone: the architecture.

    Returns:
        ``{"trainable": {"total": n, component: n, ...}, "frozen": n}``, without the featurizer's layer weights and the
        head. Layer norms that are replaced by a trained copy also count as frozen.

    Raises:
        ElpError: the configuration does not fit the backbone.
    """
    config.check(layers=backbone.layers, dim=backbone.dim)
    components = {name: method.count(backbone) for name, method in config.methods.items()}
    return summary(config, components, backbone.total)


def summary(config: AdapterConfig, components: Mapping[str, int], backbone: int) -> dict[str, Any]:
    """Return the result of :func:`count_parameters` from the counts per component and of the whole backbone."""
    in_place = sum(components[name] for name, method in config.methods.items() if method.in_place)
    return {"trainable": {"total": sum(components.values()), **components}, "frozen": backbone - in_place}
