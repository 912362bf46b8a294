"""Set up the features of a run from its runner block: what is cached, and where."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from upstream_elp.base.errors import ElpError
from upstream_elp.caching import checks
from upstream_elp.caching.choice import Choice, Wish, choose
from upstream_elp.caching.features import FrozenFeatures, OneByOne
from upstream_elp.caching.identity import beginnings, describe, folder_of
from upstream_elp.caching.store import Shards, Store
from upstream_elp.upstream.expert import ElpExpert

logger = logging.getLogger(__name__)
ALL_STATES = ("hidden_states", "last_hidden_state")
"""Features whose states are known from the configuration; for any other key of ``-s``, all states are recorded."""


def features_of(
    wish: Wish,
    upstream: nn.Module,
    head: Any,
    *,
    device: torch.device | str,
    trained: bool,
    selection: str,
    per_frame: bool,
    precision: str,
) -> FrozenFeatures | OneByOne | None:
    """Return how a run computes features; None if it computes all of them in every step, as batches.

    Args:
        wish: the keys of the runner block.
        upstream: the upstream, without what wraps it for several processes.
        head: the task's expert.
        device: where the upstream is.
        trained: whether the upstream is trained.
        selection: the featurizer's key, S3PRL's ``-s``.
        per_frame: whether single frames are masked or normalised before the head.
        precision: the runner's precision.

    Raises:
        ElpError: the adapter, the backbone or the head does not allow what is asked for.
    """
    found: FrozenFeatures | None = None
    if wish.features_of == "batch":
        _not_for_batches(wish)
    elif isinstance(upstream, ElpExpert):
        pools = getattr(head, "pools_features", False) and not per_frame
        choice = choose(upstream, "auto" if wish.cache == "off" else wish.cache, trained=trained, pools=pools)
        found = None if choice is None else _built(wish, upstream, choice, selection)
        fixed = getattr(head, "fixed_waves", None)
        if found is not None and wish.cache == "auto" and fixed is None:
            logger.warning(
                "nothing is cached: S3PRL's own tasks do not say whether they augment waves; if this one does not, set "
                "runner.cache to a kind, such as %s",
                choice.kind,
            )
        elif found is not None and wish.cache != "off":
            found.kept = fixed or (lambda split: True)
            facts = describe(found, precision=precision)
            found.store = Store(folder_of(facts), limit=int(wish.gigabytes * 1e9), description=facts)
            found.lower = {place: Shards(folder) for place, folder in beginnings(found, facts).items()}
    elif wish.cache not in ("off", "auto"):
        raise ElpError(f"runner.cache is {wish.cache}, which works only with elp_* upstreams; choose auto or off")
    if getattr(head, "cuts_features", False) and found is None:
        raise ElpError(
            "downstream_expert.datarc.crop_from is features, so they must be computed for whole utterances: set "
            "runner.features_of: utterance, with an adapter that leaves the CNN frozen, or crop_from: samples"
        )
    return OneByOne(device) if found is None and wish.features_of == "utterance" else found


def _not_for_batches(wish: Wish) -> None:
    """Refuse a cache, or for ``auto`` warn that nothing is cached: what is cached is not what a batch computes.

    In a batch, the features of every backbone see padding: S3PRL's featurizer takes a frame of padding for three of
    four shorter utterances, S3PRL's own models attend to it, and a group norm in the front end normalises over it.
    """
    sentence = (
        "features that are computed once are those of each utterance by itself, and in a padded batch they are not the "
        "same; set runner.features_of: utterance to use them"
    )
    if wish.cache not in ("off", "auto"):
        raise ElpError(f"runner.cache is {wish.cache}, but {sentence}")
    if wish.cache == "auto":
        logger.warning("nothing is cached: %s", sentence)


def _built(wish: Wish, expert: ElpExpert, choice: Choice, selection: str) -> FrozenFeatures | None:
    """Return the features; None if a replay gives other features and the kind was not asked for by name."""
    layers = expert.injection.layers
    states = needed_states(expert) if selection in ALL_STATES else range(layers + 1)
    features = FrozenFeatures(expert, choice, states=list(states), dtype=wish.dtype)
    if checks.replays(expert, features.replay):
        return features
    features.replay.remove(expert)
    expert.replay = None
    if wish.cache in ("off", "auto"):
        return None
    raise ElpError(
        f"runner.cache is {wish.cache}, but with this backbone, features from a record of {choice} differ from "
        "those of each utterance by itself; choose auto or off"
    )


def needed_states(expert: ElpExpert) -> list[int]:
    """Return the indices of the hidden states that the head sees, and the last one."""
    layers = expert.injection.layers
    if expert.config.features == "l":
        return sorted({*(index + 1 for index in expert.injection.l_layers), layers})
    return list(range(layers + 1)) if expert.config.features == "layers" else [layers]
