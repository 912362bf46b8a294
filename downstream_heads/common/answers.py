"""The answers of tasks about files or waves, which print as text and convert to plain dicts for JSON."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Transcript:
    """The transcript of one file, from speech recognition."""

    file: str
    text: str

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"file": self.file, "text": self.text}


@dataclass(frozen=True)
class Choice:
    """The most likely of several classes, and the probability of each."""

    label: str
    probabilities: dict[str, float]

    @property
    def probability(self) -> float:
        """The probability of the label."""
        return self.probabilities[self.label]

    def __str__(self) -> str:
        return f"{self.label} ({self.probability:.3f})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"label": self.label, "probabilities": dict(self.probabilities)}


@dataclass(frozen=True)
class Label:
    """The most likely label of one file, for tasks with one label per file."""

    file: str
    choice: Choice

    @property
    def label(self) -> str:
        """The most likely label."""
        return self.choice.label

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of each label; they sum to 1."""
        return self.choice.probabilities

    def __str__(self) -> str:
        rest = sorted(self.probabilities, key=self.probabilities.__getitem__, reverse=True)
        return f"{self.label}\t{' '.join(f'{name}={self.probabilities[name]:.3f}' for name in rest)}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"file": self.file, **self.choice.to_dict()}


class Emotion(Label):
    """The emotion of one file, from emotion recognition."""

    @property
    def emotion(self) -> Choice:
        """The most likely emotion, and the probability of each."""
        return self.choice


@dataclass(frozen=True)
class Intent:
    """The slots ``action``, ``object`` and ``location`` of one file, from intent classification."""

    file: str
    slots: dict[str, Choice]

    def __str__(self) -> str:
        return "\t".join(f"{slot}={choice}" for slot, choice in self.slots.items())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"file": self.file, **{slot: choice.to_dict() for slot, choice in self.slots.items()}}


@dataclass(frozen=True, eq=False)
class Voice:
    """The embedding of one file, from speaker verification: length 1, shape ``(dim,)``, on the CPU."""

    file: str
    embedding: Tensor = field(repr=False)

    def __str__(self) -> str:
        return " ".join(f"{value:.6g}" for value in self.embedding.tolist())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"file": self.file, "embedding": self.embedding.tolist()}


@dataclass(frozen=True)
class Similarity:
    """The similarity of two voices, from speaker verification.

    Attributes:
        score: cosine of the embeddings, from -1 to 1.
        same: whether both have the same speaker; None if the experiment recorded no threshold.
        threshold: the lowest score at which two voices count as the same speaker, or None.
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
        """Return plain values for JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "score": self.score,
            "same": self.same,
            "threshold": self.threshold,
        }
