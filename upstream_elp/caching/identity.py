"""What determines cached features, apart from the wave; it gives their folder its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from upstream_elp.adapters.lowest import STATES, Place, lowest_trained
from upstream_elp.backbones.fingerprint import digest
from upstream_elp.base.files import cache_dir
from upstream_elp.base.randomness import preserved
from upstream_elp.caching.choice import Choice
from upstream_elp.caching.features import FrozenFeatures
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.replay import BEGINNINGS, kept_states

FORMAT = 1
"""Raised when the meaning of cached tensors changes."""
ONLY_SHOWN = ("backbone name",)
"""Keys of a description that do not determine the features."""
AS_COMPUTED = "as computed"
LOUDER = 4.0


def features_dir() -> Path:
    """The folder of all cached features."""
    return cache_dir() / "features"


def describe(features: FrozenFeatures, *, precision: str) -> dict[str, Any]:
    """Return what determines the features, as a plain mapping.

    Args:
        features: what is computed.
        precision: the runner's precision.
    """
    expert, choice = features.expert, features.choice
    inside = choice.place == STATES and lowest_trained(expert.injection) < STATES  # adapters that are not trained
    return {
        "format": FORMAT,
        "kind": choice.kind,
        "place": str(choice.place),
        "states": list(features.replay.kept),
        "backbone": expert.fingerprint.sha256,
        "backbone name": expert.name,
        "family": expert.injection.family.name,
        "normalised": normalises(expert),
        "adapter": digest(expert.injection.parameters(expert)) if inside else None,
        "precision": precision,
        "type": str(features.dtype or AS_COMPUTED).removeprefix("torch."),
    }


def beginnings(features: FrozenFeatures, description: Mapping[str, Any]) -> dict[Place, Path]:
    """Return the folders in which other runs keep lower places, unrounded, from which these features may begin.

    Args:
        features: what is computed.
        description: from :func:`describe`.
    """
    lowest = lowest_trained(features.expert.injection)
    return {
        place: folder_of(
            {
                **description,
                "kind": Choice(place).kind,
                "place": str(place),
                "states": list(kept_states(place, (), layers=features.expert.injection.layers)),
                "adapter": None,
                "type": AS_COMPUTED,
            }
        )
        for place in BEGINNINGS
        if place < features.choice.place and place <= lowest
    }


def folder_of(description: Mapping[str, Any]) -> Path:
    """Return the folder of the features with a description."""
    facts = {key: value for key, value in description.items() if key not in ONLY_SHOWN}
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return features_dir() / f"{description['kind']}-{name}"


def normalises(expert: ElpExpert) -> bool:
    """Return whether the backbone scales every wave itself, which its tensors do not show."""
    samples = expert.injection.front.samples(12)
    wav = torch.randn(samples, generator=torch.Generator().manual_seed(0)).to(next(expert.backbone.parameters()))
    frame_len = expert.check_wavs([wav])
    with torch.no_grad(), preserved(wav.device):
        one, other = (expert.backbone_states([factor * wav], frame_len)[0] for factor in (1.0, LOUDER))
    return bool((one - other).norm() < 1e-2 * one.norm())
