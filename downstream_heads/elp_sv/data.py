"""The two kinds of data sets: crops to train on, and whole utterances of trials."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from upstream_elp.audio.reading import MIN_SAMPLES
from upstream_elp.audio.sox import SUPERB_SV_EFFECTS, Effects, apply_effects_file
from upstream_elp.base.errors import AudioError
from upstream_elp.corpora.trials import utterance_name


def read_utterance(path: Path, *, least: int = MIN_SAMPLES, untrimmed: bool = False) -> np.ndarray:
    """One utterance after SUPERB's effects, float32 of shape `(samples,)`.

    Args:
        path: audio file.
        least: samples that the backbone and the head need.
        untrimmed: give the utterance with its pauses when trimming leaves too little of it, instead of an error.

    Raises:
        ElpError: unreadable, or too short.
    """
    return long_enough(
        lambda effects: apply_effects_file(path, effects)[0], str(path), least=least, untrimmed=untrimmed
    )


def long_enough(
    apply: Callable[[Effects], Tensor], name: str, *, least: int = MIN_SAMPLES, untrimmed: bool = False
) -> np.ndarray:
    """What SUPERB's effects leave of an utterance, float32 of shape `(samples,)`.

    Args:
        apply: effects -> the utterance after them, of shape `(1, samples)`.
        name: what to call it in errors.
        least: samples that the backbone and the head need.
        untrimmed: see `read_utterance`.

    Raises:
        ElpError: too short.
    """
    wav = apply(SUPERB_SV_EFFECTS)
    if wav.shape[1] < least and untrimmed:
        wav = apply(SUPERB_SV_EFFECTS[:-1])  # all but the trimming
    if wav.shape[1] < least:
        after = "" if untrimmed else " after trimming silence"
        hint = "" if untrimmed else " or set downstream_expert.datarc.too_short: untrimmed"
        raise AudioError(
            f"{name} has {wav.shape[1]} samples{after}, fewer than the {least} that backbone and head need; "
            f"remove it from the list{hint}",
            name,
            option="too_short",
        )
    return wav[0].numpy()


class TrainUtterances(Dataset):
    """Random crops of the training speakers' utterances; an item is `(wav, name, speaker index)`.

    The crop comes from Python's random state, which S3PRL seeds and PyTorch seeds anew in every worker.
    """

    def __init__(self, folder: Path, names: Sequence[str], speakers: Sequence[str], *, crop: int | None) -> None:
        self.folder, self.names, self.crop = folder, list(names), crop
        self.index = {speaker: place for place, speaker in enumerate(speakers)}

    def __len__(self) -> int:
        return len(self.names)

    def files(self) -> list[Path]:
        """The audio files of the split."""
        return [self.folder / name for name in self.names]

    def __getitem__(self, position: int) -> tuple[np.ndarray, str, int]:
        name = self.names[position]
        wav = read_utterance(self.folder / name)
        if self.crop is not None and len(wav) > self.crop:
            start = random.randint(0, len(wav) - self.crop)
            wav = wav[start : start + self.crop]
        return wav, utterance_name(name), self.index[name.split("/")[0]]


class TrialUtterances(Dataset):
    """Whole utterances of the trials, then those of the cohort; an item is `(wav, name)`.

    Args:
        folder: what the names are relative to.
        names: utterances of the trials.
        least: samples that backbone and head need.
        untrimmed: see `read_utterance`.
        cohort: training utterances for s-norm, as paths; their names get a mark that no trial has.
        cohort_crop: their first samples that are used.
    """

    COHORT = "cohort:"

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        least: int = MIN_SAMPLES,
        untrimmed: bool = False,
        cohort: Sequence[Path] = (),
        cohort_crop: int | None = None,
    ) -> None:
        self.folder, self.names, self.least, self.untrimmed = folder, list(names), least, untrimmed
        self.cohort, self.cohort_crop = list(cohort), cohort_crop

    def __len__(self) -> int:
        return len(self.names) + len(self.cohort)

    def files(self) -> list[Path]:
        """The audio files of the trials, then those of the cohort."""
        return [*(self.folder / name for name in self.names), *self.cohort]

    def __getitem__(self, position: int) -> tuple[np.ndarray, str]:
        if position < len(self.names):
            name = self.names[position]
            return read_utterance(self.folder / name, least=self.least, untrimmed=self.untrimmed), name
        path = self.cohort[position - len(self.names)]
        wav = read_utterance(path, least=self.least, untrimmed=self.untrimmed)
        return wav[: self.cohort_crop], f"{self.COHORT}{position - len(self.names)}"


def draw_cohort(names: Sequence[str], count: int, *, seed: int) -> list[str]:
    """Training utterances for s-norm, drawn without replacement, the same in every run."""
    return random.Random(f"sv-cohort-{seed}").sample(list(names), min(count, len(names)))
