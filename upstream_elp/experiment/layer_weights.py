"""What a training checkpoint says of sizes and layers: numbers of trained values, and the head's layer weights."""

from __future__ import annotations

from typing import Any

import torch


def count_states(states: dict[str, Any]) -> dict[str, int]:
    """Number of trained values per model in a checkpoint: upstream, featurizer, head."""
    counts = {"upstream": 0, "featurizer": 0, "head": 0}
    for name, key in (("upstream", "Upstream"), ("featurizer", "Featurizer"), ("head", "Downstream")):
        tensors = states.get(key, {})
        counts[name] = sum(t.numel() for k, t in tensors.items() if t.is_floating_point() and k != "best_score")
    return counts


def count_components(states: dict[str, Any]) -> dict[str, int]:
    """Number of trained values per component: head, featurizer, and each method of the adapters.

    What is trained in a stock upstream counts as ``encoder``.
    """
    counts = count_states(states)
    parts = {"head": counts["head"], "featurizer": counts["featurizer"]}
    ours = str(getattr(states.get("Args"), "upstream", "")).startswith("elp_")
    for name, tensor in states.get("Upstream", {}).items():
        if torch.is_tensor(tensor) and tensor.is_floating_point():
            component = name.split(".")[0] if ours else "encoder"
            parts[component] = parts.get(component, 0) + tensor.numel()
    return {name: count for name, count in parts.items() if count}


def layer_weights(states: dict[str, Any]) -> list[float]:
    """Softmax of the featurizer's layer weights, empty where the head sees one state alone."""
    weights = states.get("Featurizer", {}).get("weights")
    return [] if weights is None else [round(value, 6) for value in weights.softmax(dim=0).tolist()]


def layers(states: dict[str, Any]) -> list[int]:
    """Encoder layers whose outputs the weights belong to: those with L-adapters, else all, with the input as 0."""
    weights = layer_weights(states)
    adapted = _adapted(states)
    return adapted if weights and len(adapted) == len(weights) else list(range(len(weights)))


def named_layer_weights(states: dict[str, Any]) -> list[tuple[str, float]]:
    """Each layer by name, with its weight; none where there is nothing to weigh.

    With L-adapters the names are ``L-adapter K`` for encoder layer ``K`` (from 1), else ``hidden state K``, where 0 is
    the input of the first layer.
    """
    weights = layer_weights(states)
    if len(weights) < 2:
        return []
    kind = "L-adapter" if len(_adapted(states)) == len(weights) else "hidden state"
    return [(f"{kind} {index}", weight) for index, weight in zip(layers(states), weights, strict=True)]


def _adapted(states: dict[str, Any]) -> list[int]:
    """Encoder layers with an L-adapter, from 1."""
    found = {int(name.split(".")[1]) for name in states.get("Upstream", {}) if name.startswith("l_adapter.")}
    return [index + 1 for index in sorted(found)]
