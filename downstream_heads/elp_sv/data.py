"""The two kinds of data sets: crops for training, and whole utterances of trials."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from downstream_heads.common.lengths import header_lengths
from upstream_elp.audio.excerpt import Excerpt
from upstream_elp.audio.reading import MIN_SAMPLES
from upstream_elp.audio.sox import SUPERB_SV_EFFECTS, Effects, apply_effects_file
from upstream_elp.base.errors import AudioError
from upstream_elp.corpora.trials import utterance_name

EFFECTS: dict[str, Effects] = {"superb": SUPERB_SV_EFFECTS, "plain": SUPERB_SV_EFFECTS[:2]}
"""The values of `datarc.effects`: SUPERB's gain and trimming of silence, or only one channel and 16 kHz."""


def read_utterance(
    path: Path, *, effects: str = "superb", least: int = MIN_SAMPLES, untrimmed: bool = False
) -> np.ndarray:
    """Read an utterance and apply effects; float32 of shape `(samples,)`.

    Args:
        path: audio file.
        effects: key of `EFFECTS`.
        least: samples that the backbone and the head need.
        untrimmed: if trimming leaves too little, return the utterance with its pauses instead of raising an error.

    Raises:
        ElpError: the file is unreadable, or too short.
    """
    return long_enough(
        lambda chain: apply_effects_file(path, chain)[0],
        str(path),
        effects=effects,
        least=least,
        untrimmed=untrimmed,
    )


def long_enough(
    apply: Callable[[Effects], Tensor],
    name: str,
    *,
    effects: str = "superb",
    least: int = MIN_SAMPLES,
    untrimmed: bool = False,
) -> np.ndarray:
    """Apply effects to an utterance and check its length; float32 of shape `(samples,)`.

    Args:
        apply: function of the effects that returns the utterance after them, of shape `(1, samples)`.
        name: what to call it in errors.
        effects: key of `EFFECTS`.
        least: samples that the backbone and the head need.
        untrimmed: see `read_utterance`.

    Raises:
        ElpError: the utterance is too short.
    """
    wav = apply(EFFECTS[effects])
    untrimmed = untrimmed or effects == "plain"
    if wav.shape[1] < least and untrimmed and effects == "superb":
        wav = apply(SUPERB_SV_EFFECTS[:-1])  # all but trimming
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
    """Crops of the training speakers' utterances; an item is `(wav, name, speaker index)`.

    A random crop is drawn from Python's random state, which S3PRL seeds and PyTorch seeds again in every worker.

    Args:
        folder: the folder that the names are relative to.
        names: the utterances.
        speakers: all training speakers; a speaker's position is its class.
        crop: most samples of an item; None keeps whole utterances.
        crop_from: ``samples``, or ``features`` to let the runner cut those of the whole utterance.
        crop_at: ``random``, or ``start`` for the first samples.
        effects: key of `EFFECTS`.
        lengths: samples of each utterance after trimming.
        of: the speaker of each utterance; None if its name begins with it, as in VoxCeleb1.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        speakers: Sequence[str],
        *,
        crop: int | None,
        lengths: Sequence[int],
        of: Mapping[str, str] | None = None,
        crop_from: str = "samples",
        crop_at: str = "random",
        effects: str = "superb",
    ) -> None:
        self.folder, self.names, self.crop, self.crop_from = folder, list(names), crop, crop_from
        self.crop_at, self.effects = crop_at, effects
        self._lengths = [min(length, crop or length) for length in lengths]
        self.index = {speaker: place for place, speaker in enumerate(speakers)}
        self.of = of

    def __len__(self) -> int:
        return len(self.names)

    def files(self) -> list[Path]:
        """Return the audio files of the split."""
        return [self.folder / name for name in self.names]

    def lengths(self) -> list[int]:
        """Return the samples of each item, after trimming and cropping."""
        return self._lengths

    def __getitem__(self, position: int) -> tuple[np.ndarray | Excerpt, str, int]:
        name = self.names[position]
        wav: np.ndarray | Excerpt = read_utterance(self.folder / name, effects=self.effects)
        if self.crop is not None and len(wav) > self.crop:
            start = 0 if self.crop_at == "start" else random.randint(0, len(wav) - self.crop)
            if self.crop_from == "features":
                wav = Excerpt(wav, start / (len(wav) - self.crop), self.crop)
            else:
                wav = wav[start : start + self.crop]
        speaker = name.split("/")[0] if self.of is None else self.of[name]
        return wav, self._called(name), self.index[speaker]

    def item_names(self) -> list[str]:
        """Return the names of the items."""
        return [self._called(name) for name in self.names]

    def _called(self, name: str) -> str:
        return utterance_name(name) if self.of is None else name


class TrialUtterances(Dataset):
    """Whole utterances of the trials, then those of the cohort; an item is `(wav, name)`.

    Args:
        root: the corpus.
        folder: the folder in it that the names are relative to.
        names: utterances of the trials.
        least: samples that backbone and head need.
        untrimmed: see `read_utterance`.
        effects: key of `EFFECTS`.
        cohort: paths of training utterances for s-norm; their names get a prefix that no trial has.
        cohort_crop: how many samples of them to use, from the start.
    """

    COHORT = "cohort:"

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        root: Path,
        least: int = MIN_SAMPLES,
        untrimmed: bool = False,
        effects: str = "superb",
        cohort: Sequence[Path] = (),
        cohort_crop: int | None = None,
    ) -> None:
        self.folder, self.names = folder, list(names)
        self.reading = {"effects": effects, "least": least, "untrimmed": untrimmed}
        self.root, self.cohort, self.cohort_crop = root, list(cohort), cohort_crop

    def __len__(self) -> int:
        return len(self.names) + len(self.cohort)

    def files(self) -> list[Path]:
        """Return the audio files of the trials, then those of the cohort."""
        return [*(self.folder / name for name in self.names), *self.cohort]

    def lengths(self) -> list[int]:
        """Return the samples of each item before trimming, which are at least those after it, from its header."""
        inside = f"{self.root.as_posix()}/"
        whole = header_lengths(self.root, [file.as_posix().removeprefix(inside) for file in self.files()])
        trials = len(self.names)
        return whole[:trials] + [min(length, self.cohort_crop or length) for length in whole[trials:]]

    def __getitem__(self, position: int) -> tuple[np.ndarray, str]:
        if position < len(self.names):
            name = self.names[position]
            return read_utterance(self.folder / name, **self.reading), name
        path = self.cohort[position - len(self.names)]
        wav = read_utterance(path, **self.reading)
        return wav[: self.cohort_crop], f"{self.COHORT}{position - len(self.names)}"
