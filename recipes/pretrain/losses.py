"""The heads and losses: each target is predicted from the depth where it is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from batches import Batch
from torch import Tensor, nn


@dataclass(frozen=True)
class Goal:
    """A target: the layer that predicts it (from 1), its weight, and its weight once there are clusters of states."""

    layer: int
    weight: float
    later: float


#: prosody and speakers below, what is said above
GOALS = {
    "mfcc": Goal(4, 1.0, 0.4),
    "mel": Goal(3, 0.5, 0.5),
    "f0": Goal(2, 0.25, 0.25),
    "energy": Goal(2, 0.15, 0.15),
    "states": Goal(4, 1.0, 1.0),
}
CONTRAST = Goal(2, 0.3, 0.3)
UNMASKED = 0.5  # weight of frames that are not masked
TEMPERATURE = 0.1


class Heads(nn.Module):
    """One linear layer per target, and a projection for the contrast.

    Clusters of states have a head from the start, so that their arrival does not change the optimizer.

    Args:
        dim: width of the states.
        classes: number of classes by target.
    """

    def __init__(self, dim: int, classes: Mapping[str, int]) -> None:
        super().__init__()
        self.predict = nn.ModuleDict({name: nn.Linear(dim, count) for name, count in sorted(classes.items())})
        self.project = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, min(128, dim)))

    def forward(self, states: Sequence[Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and the accuracies of masked and unmasked (``_u``) frames of each target."""
        later = "states" in batch.labels
        speaker, accuracies = self._contrast(states[CONTRAST.layer - 1])
        loss = speaker * (CONTRAST.later if later else CONTRAST.weight)
        for name, labels in batch.labels.items():
            goal = GOALS[name]
            logits = self.predict[name](states[goal.layer - 1]).float()  # (batch, frames, classes)
            each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
            right = (logits.argmax(dim=-1) == labels).float()
            parts = {"": batch.mask, "_u": ~batch.mask}
            masked, unmasked = (_mean(each, part) for part in parts.values())
            loss = loss + (goal.later if later else goal.weight) * (masked + UNMASKED * unmasked)
            accuracies |= {name + ending: _mean(right, part) for ending, part in parts.items()}
        return loss, accuracies

    def _contrast(self, states: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Tell the other crop of the same utterance from all other crops, by the means over frames."""
        points = F.normalize(self.project(states.mean(dim=1)).float(), dim=-1)  # (batch, dim)
        alike = points @ points.T / TEMPERATURE
        alike = alike.masked_fill(torch.eye(len(alike), dtype=torch.bool, device=alike.device), -1e4)
        partner = torch.arange(len(points), device=alike.device) ^ 1
        return F.cross_entropy(alike, partner), {"crops": (alike.argmax(dim=1) == partner).float().mean()}


def _mean(values: Tensor, part: Tensor) -> Tensor:
    """Return the mean of a part, 0 if it is empty."""
    return (values * part).sum() / part.sum().clamp(min=1)
