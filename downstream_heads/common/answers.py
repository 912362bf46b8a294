"""What the tasks answer about files or waves: values with a text, and plain dicts for JSON."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Transcript:
    """Speech recognition: the words of one file."""

    file: str
    text: str

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"file": self.file, "text": self.text}


@dataclass(frozen=True)
class Choice:
    """The likeliest of several classes, and the probability of each."""

    label: str
    probabilities: dict[str, float]

    @property
    def probability(self) -> float:
        """That of the label."""
        return self.probabilities[self.label]

    def __str__(self) -> str:
        return f"{self.label} ({self.probability:.3f})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"label": self.label, "probabilities": dict(self.probabilities)}


@dataclass(frozen=True)
class Label:
    """A task with one label per file: the likeliest one."""

    file: str
    choice: Choice

    @property
    def label(self) -> str:
        """The likeliest label."""
        return self.choice.label

    @property
    def probabilities(self) -> dict[str, float]:
        """Label to probability; they sum to 1."""
        return self.choice.probabilities

    def __str__(self) -> str:
        rest = sorted(self.probabilities, key=self.probabilities.__getitem__, reverse=True)
        return f"{self.label}\t{' '.join(f'{name}={self.probabilities[name]:.3f}' for name in rest)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"file": self.file, **self.choice.to_dict()}


class Emotion(Label):
    """Emotion recognition: the emotion of one file."""

    @property
    def emotion(self) -> Choice:
        """The likeliest emotion, and the probability of each."""
        return self.choice


@dataclass(frozen=True)
class Intent:
    """Intent classification: the slots ``action``, ``object`` and ``location`` of one file."""

    file: str
    slots: dict[str, Choice]

    def __str__(self) -> str:
        return "\t".join(f"{slot}={choice}" for slot, choice in self.slots.items())

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"file": self.file, **{slot: choice.to_dict() for slot, choice in self.slots.items()}}


@dataclass(frozen=True, eq=False)
class Voice:
    """Speaker verification: the embedding of one file, of length 1 and shape ``(dim,)``, on the CPU."""

    file: str
    embedding: Tensor = field(repr=False)

    def __str__(self) -> str:
        return " ".join(f"{value:.6g}" for value in self.embedding.tolist())

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"file": self.file, "embedding": self.embedding.tolist()}


@dataclass(frozen=True)
class Similarity:
    """Speaker verification: how alike two voices are.

    Attributes:
        score: cosine of the embeddings, from -1 to 1.
        same: whether one speaker spoke both; None where the experiment recorded no threshold.
        threshold: the score from which on two voices count as one speaker, or None.
    """

    first: str
    second: str
    score: float
    same: bool | None
    threshold: float | None

    def __str__(self) -> str:
        decision = {True: "same speaker", False: "different speakers", None: "no threshold"}[self.same]
        return f"{self.score:.4f}\t{decision}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "first": self.first,
            "second": self.second,
            "score": self.score,
            "same": self.same,
            "threshold": self.threshold,
        }
