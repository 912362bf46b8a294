"""The packaged quick heads on frozen features: a weighted sum of the states, trained for some hundred steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import editdistance
import numpy as np
import torch
import torch.nn.functional as F
from probe_data import Item
from sklearn.metrics import roc_curve
from torch import Tensor, nn

from downstream_heads.common.heads import LinearMeanHead, pad_features
from downstream_heads.elp_asr.characters import Characters, collapse, words
from downstream_heads.elp_asr.model import RNN_DEFAULTS, build_head

BATCH, WEIGHTS_RATE, PROJECTED, RESAMPLES = 16, 2e-2, 256, 200
STEPS = {"ic": 600, "er": 600, "sv": 600, "asr": 800}
RATES = {"ic": (1e-3, 3e-3, 1e-2), "er": (1e-3, 3e-3, 1e-2), "sv": (1e-3, 3e-3, 1e-2), "asr": (3e-3,)}
METRICS = {"ic": "accuracy", "er": "accuracy", "sv": "EER", "asr": "WER"}
HIGHER = {"accuracy": True, "EER": False, "WER": False}
#: a linear head does not learn words in this time
RECURRENT = {"head": "superb", "project_dim": 128, "RNNs": {
    **RNN_DEFAULTS, "dim": [128], "dropout": [0.0], "layer_norm": [False], "proj": [False], "sample_rate": [1],
}}  # fmt: skip


@dataclass
class Answers:
    """The outcome on one split: a measure of weighted speakers, in per cent."""

    speakers: list[str]
    measure: Callable[[np.ndarray], float]
    """Takes the weight of each speaker, in the order of ``speakers``."""

    def value(self) -> float:
        return self.measure(np.ones(len(self.speakers)))

    def resampled(self, seed: int = 0) -> np.ndarray:
        """Return the measure for speakers drawn with replacement, (resamples,)."""
        rng, count = np.random.default_rng(seed), len(self.speakers)
        drawn = [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(RESAMPLES)]
        return np.array([self.measure(weights.astype(float)) for weights in drawn])


class WeightedSum(nn.Module):
    """A weighted sum over states (the second last dimension but for pooled features), as S3PRL's featurizer."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(states))

    def forward(self, states: Tensor) -> Tensor:
        """(batch, states, ...) -> (batch, ...)"""
        return torch.einsum("s,bs...->b...", torch.softmax(self.weights, dim=0), states)


class Scale:
    """Centres each dimension and scales each state, by the training items; a linear head can undo it."""

    def __init__(self, features: Sequence[Tensor]) -> None:
        frames = torch.cat([each.float().reshape(len(each), -1, each.shape[-1]) for each in features[:300]], dim=1)
        self.mean = frames.mean(dim=1)  # (states, dim)
        self.scale = frames.std(dim=1).mean(dim=1).clamp(min=1e-5)[:, None]

    def __call__(self, features: Tensor) -> Tensor:
        """(states, dim) or (states, frames, dim)"""
        middle = (slice(None), *(None,) * (features.ndim - 2))
        return (features.float() - self.mean[middle]) / self.scale[middle]


def probe(
    task: str, data: dict[str, tuple[list[Item], list[Tensor]]], *, rate: float, steps: int, seed: int
) -> dict[str, Answers]:
    """Train a head on ``train`` and return its answers on the other splits."""
    torch.manual_seed(seed)
    items, features = data["train"]
    scale = Scale(features)
    scaled = {split: [scale(each) for each in found] for split, (_, found) in data.items()}
    mixture = WeightedSum(features[0].shape[0])
    build = _recognizer if task == "asr" else _classifier
    head, loss_of, answers_of = build(task, items, features[0].shape[-1])
    groups = [
        {"params": list(head.parameters()), "lr": rate},
        {"params": list(mixture.parameters()), "lr": WEIGHTS_RATE},
    ]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    rng = np.random.default_rng((seed, 8))
    for _ in range(steps):
        chosen = rng.integers(len(items), size=min(BATCH, len(items)))
        loss = loss_of(mixture, [scaled["train"][index] for index in chosen], [items[index] for index in chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*head.parameters(), *mixture.parameters()], 5.0)
        optimizer.step()
        schedule.step()
    head.eval()
    with torch.inference_mode():
        return {split: answers_of(mixture, scaled[split], data[split][0]) for split in data if split != "train"}


def _classifier(task: str, items: Sequence[Item], dim: int) -> tuple[nn.Module, Callable, Callable]:
    """Return a projection and the light mean-pooling head for IC, ER and SV, its loss and its answers."""
    names = sorted({item.label for item in items})
    head = nn.ModuleDict({"project": nn.Linear(dim, PROJECTED), "classify": LinearMeanHead(PROJECTED, len(names))})

    def embed(mixture: WeightedSum, features: Sequence[Tensor]) -> Tensor:
        return head["project"](mixture(torch.stack(list(features))))  # pooled features: (batch, PROJECTED)

    def logits(mixture: WeightedSum, features: Sequence[Tensor]) -> Tensor:
        points = embed(mixture, features)
        return head["classify"](points.unsqueeze(1), torch.ones(len(points), dtype=torch.long))

    def loss(mixture: WeightedSum, features: Sequence[Tensor], chosen: Sequence[Item]) -> Tensor:
        return F.cross_entropy(logits(mixture, features), torch.tensor([names.index(item.label) for item in chosen]))

    def answers(mixture: WeightedSum, features: Sequence[Tensor], found: Sequence[Item]) -> Answers:
        if task == "sv":
            return _verification(F.normalize(embed(mixture, features), dim=-1).numpy(), found)
        best = logits(mixture, features).argmax(dim=1).tolist()
        right = np.array([names[index] == item.label for index, item in zip(best, found, strict=True)], dtype=float)
        return _ratio(100 * right, np.ones(len(found)), found)

    return head, loss, answers


def _recognizer(task: str, items: Sequence[Item], dim: int) -> tuple[nn.Module, Callable, Callable]:
    """Return a small recurrent CTC head, its loss and its answers."""
    characters = Characters()
    projector, model, _ = build_head(RECURRENT, dim, 320, len(characters))
    head = nn.ModuleDict({"project": projector, "model": model})

    def log_probs(mixture: WeightedSum, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        padded, lengths = pad_features([mixture(each.unsqueeze(0))[0] for each in features])
        logits, lengths = head["model"](head["project"](padded), lengths)
        return logits.log_softmax(dim=-1), lengths

    def loss(mixture: WeightedSum, features: Sequence[Tensor], chosen: Sequence[Item]) -> Tensor:
        labels = [torch.tensor(characters.encode(item.label, superb=False)) for item in chosen]
        found, lengths = log_probs(mixture, features)
        sizes = torch.tensor([len(label) for label in labels])
        return F.ctc_loss(
            found.transpose(0, 1), torch.cat(labels), lengths, sizes, Characters.blank, zero_infinity=True
        )

    def answers(mixture: WeightedSum, features: Sequence[Tensor], found: Sequence[Item]) -> Answers:
        errors = []
        for each, item in zip(features, found, strict=True):
            path = log_probs(mixture, [each])[0][0].argmax(dim=-1).tolist()
            said = words(characters.tokens(collapse(path, Characters.blank)))
            errors.append(editdistance.eval(said, item.label.upper().split()))
        return _ratio(
            100 * np.array(errors, dtype=float), np.array([len(i.label.split()) for i in found], float), found
        )

    return head, loss, answers


def _ratio(above: np.ndarray, below: np.ndarray, items: Sequence[Item]) -> Answers:
    """Return answers whose measure is a ratio of two sums over items."""
    speakers = sorted({item.speaker for item in items})
    rows = np.array([speakers.index(item.speaker) for item in items])
    tops, bottoms = (np.bincount(rows, weights=values, minlength=len(speakers)) for values in (above, below))
    return Answers(speakers, lambda weights: float(weights @ tops / (weights @ bottoms)))


def _verification(points: np.ndarray, items: Sequence[Item]) -> Answers:
    """Return answers whose measure is the equal error rate of all pairs from different recordings."""
    speakers = sorted({item.speaker for item in items})
    rows = np.array([speakers.index(item.speaker) for item in items])
    first, second = np.triu_indices(len(items), 1)
    recordings = np.array([item.recording for item in items])
    apart = recordings[first] != recordings[second]
    first, second = first[apart], second[apart]
    scores, same = (points[first] * points[second]).sum(axis=1), rows[first] == rows[second]

    def measure(weights: np.ndarray) -> float:
        pair = np.where(same, weights[rows[first]], weights[rows[first]] * weights[rows[second]])
        kept = pair > 0
        if len(set(same[kept])) < 2:
            return float("nan")  # one speaker was drawn again and again
        alarms, hits, _ = roc_curve(same[kept], scores[kept], sample_weight=pair[kept])
        place = np.argmin(np.abs(1 - hits - alarms))
        return float(50 * (1 - hits[place] + alarms[place]))

    return Answers(speakers, measure)
