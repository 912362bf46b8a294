"""The trained head of a task in use, without corpus or training; it writes no files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from downstream_heads.common.loaders import AudioReader
from downstream_heads.contract import Task
from upstream_elp.audio.reading import CHANNEL_RULES, MIN_SAMPLES, SAMPLE_RATE, check_samples
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import boolean, choose, read_options


class Predictor(nn.Module):
    """Base class of trained heads in use; their tensors have the names of the task's checkpoints.

    A task sets ``about``, builds its head from ``modelrc`` in ``build``, and implements ``head_options`` and
    ``answers``.

    Args:
        upstream_dim: features per frame.
        upstream_rate: samples per frame.
        modelrc: the head's options, as :meth:`head_options` returns them.
        audio: how files are read, as :meth:`audio_options` returns it.
        labels: the task's label tables.
        threshold: the threshold of speaker verification; None for other tasks.
        min_samples: shortest wave that the upstream accepts.

    Raises:
        ElpError: an unknown key or a wrong value.
    """

    about: ClassVar[Task]
    training_only: ClassVar[tuple[str, ...]] = ("best_score", "_extra_state")
    """Entries of the task's checkpoints that only training needs; a name that ends in a dot means all below it."""

    audio_defaults: ClassVar[dict[str, Any]] = {"resample": False, "channels": "error"}
    """The keys of ``datarc`` that say how files are read, with their defaults."""

    def __init__(
        self,
        *,
        upstream_dim: int,
        upstream_rate: int,
        modelrc: Mapping[str, Any],
        audio: Mapping[str, Any],
        labels: Any,
        threshold: Mapping[str, Any] | None = None,
        min_samples: int = MIN_SAMPLES,
    ) -> None:
        super().__init__()
        self.upstream_dim, self.upstream_rate, self.min_samples = upstream_dim, upstream_rate, min_samples
        self.modelrc = self.head_options(modelrc)
        self.set_audio(self.audio_options(audio))
        self.set_threshold(threshold)
        self.build(labels)

    @property
    def task(self) -> str:
        """The task's name."""
        return self.about.name

    @classmethod
    def head_options(cls, modelrc: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked block ``modelrc``, reduced to what the head needs."""
        raise NotImplementedError

    @classmethod
    def audio_options(cls, datarc: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked options for reading files."""
        options = read_options(datarc, cls.audio_defaults, where="audio")
        boolean(options["resample"], key="audio.resample")
        choose(options["channels"], CHANNEL_RULES, key="audio.channels")
        return options

    @classmethod
    def trained_tensors(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the entries of the task's checkpoint that this head needs."""
        whole = [name for name in cls.training_only if not name.endswith(".")]
        below = tuple(name for name in cls.training_only if name.endswith("."))
        return {key: value for key, value in state.items() if key not in whole and not key.startswith(below)}

    def set_audio(self, options: Mapping[str, Any]) -> None:
        """Set the rules for reading files."""
        self.audio = AudioReader(**options, min_samples=self.min_samples)

    def set_threshold(self, threshold: Mapping[str, Any] | None) -> None:
        """Set the decision threshold, which only speaker verification has."""
        if threshold is not None:
            raise ElpError(f"the key 'threshold' must be null, since {self.task} has no threshold")

    def build(self, labels: Any) -> None:
        """Build the head's modules."""
        raise NotImplementedError

    def read(self, path: str | Path) -> Tensor:
        """Read one file as the task does: float32 at 16 kHz. Shape: ``(samples,)``.

        Raises:
            ElpError: names the file.
        """
        return self.audio(path)

    def prepare(self, wav: Tensor, name: str) -> Tensor:
        """Convert a wave at 16 kHz, ``(samples,)``, as if it had been read from a file.

        Raises:
            ElpError: wrong shape or type, too short, or samples that are not finite.
        """
        if wav.dim() != 1 or not wav.is_floating_point():
            raise ElpError(
                f"{name} has the shape {tuple(wav.shape)} and the type {wav.dtype}; pass floating-point samples in "
                f"[-1, 1] at {SAMPLE_RATE} Hz, of shape (samples,)"
            )
        wav = wav.detach().cpu().float()
        check_samples(wav.numpy(), name, self.min_samples)
        return wav

    def answers(self, features: Sequence[Tensor], names: Sequence[str]) -> list:
        """Return one answer per utterance from ``(frames_i, upstream_dim)`` features."""
        raise NotImplementedError


def probabilities(logits: Tensor, names: Sequence[str]) -> Tensor:
    """Return the softmax in float64 on the CPU, so that printed values sum to 1. Shape: ``(batch, classes)``.

    Raises:
        ElpError: values are not finite, as after diverged training; names the first file.
    """
    require_finite(logits, names)
    return logits.detach().cpu().double().softmax(dim=-1)


def require_finite(values: Tensor, names: Sequence[str]) -> None:
    """Raise an error for outputs that are not finite, as after diverged training. Shape: ``(batch, …)``.

    Raises:
        ElpError: names the first file.
    """
    for name, finite in zip(names, torch.isfinite(values).flatten(1).all(dim=1).tolist(), strict=True):
        if not finite:
            raise ElpError(f"{name}: the trained model returns values that are not finite; its training has diverged")


def label_list(labels: Any, *, key: str) -> list[str]:
    """Check the names of classes.

    Raises:
        ElpError: not a list of different, non-empty texts.
    """
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) and label for label in labels):
        raise ElpError(f"the key '{key}' must be a list of texts, one per class")
    if len(set(labels)) != len(labels):
        raise ElpError(f"the key '{key}' names a class twice")
    return labels
