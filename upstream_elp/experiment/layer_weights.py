"""Numbers of trained parameters and the head's layer weights, read from a training checkpoint."""

from __future__ import annotations

import torch

from upstream_elp.experiment.checkpoint import Checkpoint


def count_models(checkpoint: Checkpoint) -> dict[str, int]:
    """Number of trained parameters per model in a checkpoint: upstream, featurizer, head."""
    models = {"upstream": checkpoint.upstream, "featurizer": checkpoint.featurizer, "head": checkpoint.head}
    return {
        model: sum(t.numel() for name, t in (tensors or {}).items() if t.is_floating_point() and name != "best_score")
        for model, tensors in models.items()
    }


def count_components(checkpoint: Checkpoint) -> dict[str, int]:
    """Number of trained parameters per component: head, featurizer, and each adapter method.

    The trained parameters of a stock upstream count as ``encoder``.
    """
    counts = count_models(checkpoint)
    parts = {"head": counts["head"], "featurizer": counts["featurizer"]}
    ours = str(getattr(checkpoint.args, "upstream", "")).startswith("elp_")
    for name, tensor in (checkpoint.upstream or {}).items():
        if torch.is_tensor(tensor) and tensor.is_floating_point():
            component = name.split(".")[0] if ours else "encoder"
            parts[component] = parts.get(component, 0) + tensor.numel()
    return {name: count for name, count in parts.items() if count}


def layer_weights(checkpoint: Checkpoint) -> list[float]:
    """Softmax of the featurizer's layer weights; empty if the head sees only one state."""
    weights = (checkpoint.featurizer or {}).get("weights")
    return [] if weights is None else [round(value, 6) for value in weights.softmax(dim=0).tolist()]


def layers(checkpoint: Checkpoint) -> list[int]:
    """Encoder layers to which the weights belong: those with L-adapters, or else all, where 0 is the input."""
    weights = layer_weights(checkpoint)
    adapted = _adapted(checkpoint)
    return adapted if weights and len(adapted) == len(weights) else list(range(len(weights)))


def named_layer_weights(checkpoint: Checkpoint) -> list[tuple[str, float]]:
    """The name and weight of each layer; empty if there are fewer than two.

    With L-adapters, the names are ``L-adapter K`` for encoder layer ``K`` (from 1); otherwise they are ``hidden state
    K``, where 0 is the input of the first layer.
    """
    weights = layer_weights(checkpoint)
    if len(weights) < 2:
        return []
    kind = "L-adapter" if len(_adapted(checkpoint)) == len(weights) else "hidden state"
    return [(f"{kind} {index}", weight) for index, weight in zip(layers(checkpoint), weights, strict=True)]


def _adapted(checkpoint: Checkpoint) -> list[int]:
    """Encoder layers with an L-adapter, from 1."""
    found = {int(name.split(".")[1]) for name in checkpoint.upstream or {} if name.startswith("l_adapter.")}
    return [index + 1 for index in sorted(found)]
