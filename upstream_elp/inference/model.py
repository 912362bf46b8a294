"""A trained model in use: files or waves in, answers out, as the task's evaluation gives them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from downstream_heads import registry
from upstream_elp.base.errors import AudioError, ElpError, shown
from upstream_elp.base.values import is_whole
from upstream_elp.inference.waves import as_wave
from upstream_elp.training.precision import Precision

Item = str | os.PathLike | Tensor | np.ndarray | Sequence[float]
"""An audio file, or its samples at 16 kHz of shape ``(samples,)``, floating-point in [-1, 1]; see ``waves.py``."""
OnBad = Callable[[str, ElpError], None]
"""Called with the name of what cannot be used, and why."""
Progress = Callable[[list], Iterable]
"""Wraps the items while they are gone through, as tqdm does."""
ADVICE = {
    "resample": "convert the file, or load the model with resample=True",
    "channels": "convert the file, or load the model with channels='mean' or channels='first'",
    "too_short": "give a recording with more speech",
}
"""What to do about a file, by the option of reading that refused it."""


class Utterance(NamedTuple):
    """One item as read: its place in the input, its name in answers and errors, its samples."""

    place: int
    name: str
    wav: Tensor


class TrainedModel:
    """An upstream, its featurizer and a task's head, frozen.

    A batch of one gives what depends on the file alone. In larger batches shorter utterances are padded, which many
    backbones notice a little; then the answers are those of an evaluation with the same batches
    (``datarc.eval_batch_size``).

    Args:
        upstream: the expert.
        featurizer: S3PRL's.
        predictor: the task's head in use, see ``downstream_heads/common/predictor.py``.
        precision: of upstream and featurizer, and where to compute.
    """

    def __init__(
        self, upstream: nn.Module, featurizer: nn.Module, predictor: nn.Module, *, precision: Precision
    ) -> None:
        self.precision, self.device = precision, precision.device
        self.upstream, self.featurizer, self.predictor = (
            module.eval().requires_grad_(False).to(self.device) for module in (upstream, featurizer, predictor)
        )

    @property
    def task(self) -> str:
        """The task's name, such as ``elp_asr``."""
        return self.predictor.task

    def __call__(self, files: Item | Sequence[Item], *more: Item, batch_size: int = 1) -> Any:
        """Answer for one file or wave, or for each of several.

        Args:
            files: a path, the samples of a wave, or a list of these.
            more: refused, since several files are given as one list.
            batch_size: how many are computed at a time.

        Returns:
            A ``Transcript``, ``Emotion``, ``Intent`` or ``Voice`` (``downstream_heads/common/answers.py``), or a list.

        Raises:
            ElpError: names the first file that cannot be used; or several files that are no list.
        """
        if more:
            other = ", or compare(first, second) to compare two voices" if hasattr(self.predictor, "compare") else ""
            raise ElpError(f"several files are given as one list: model([first, second]){other}")
        if isinstance(files, str | os.PathLike | Tensor | np.ndarray):
            return next(self.answers([files]))
        if not isinstance(files, Iterable):
            raise ElpError(f"{shown(files)} is not an audio file; give a path, samples, or a list of these")
        return list(self.answers(files, batch_size=batch_size))

    def answers(self, files: Iterable[Item], *, batch_size: int = 1, on_bad: OnBad | None = None) -> Iterator[Any]:
        """Answer one by one, in order; see ``__call__``.

        Args:
            files: paths or waves.
            batch_size: how many are computed at a time.
            on_bad: if given, what cannot be used is told to it and left out, otherwise it is an error.
        """
        return (answer for _, answer in self._numbered(files, batch_size=batch_size, on_bad=on_bad))

    def compare(self, first: Item, second: Item) -> Any:
        """Score one pair of voices; a ``Similarity``. See :meth:`compare_pairs`."""
        return self.compare_pairs([(first, second)])[0]

    def compare_pairs(
        self,
        pairs: Sequence[tuple[Item, Item]],
        *,
        batch_size: int = 1,
        on_bad: OnBad | None = None,
        progress: Progress = iter,
    ) -> list:
        """Score pairs of voices, each file being read and embedded once.

        Args:
            pairs: two files or waves each.
            batch_size: how many files are computed at a time.
            on_bad: if given, files that cannot be used are told to it and their pairs left out, otherwise an error.
            progress: wraps the list of files while it is gone through, as tqdm does.

        Returns:
            A ``Similarity`` per pair.

        Raises:
            ElpError: the task is another than speaker verification, or a file cannot be used.
        """
        if not hasattr(self.predictor, "compare"):
            raise ElpError(f"{self.task} compares no voices; load a model of {registry.comparing()}")
        items: dict[Any, Item] = {_key(item): item for pair in pairs for item in pair}
        keys = list(items)
        found = self._numbered(progress(list(items.values())), batch_size=batch_size, on_bad=on_bad)
        voices = {keys[place]: voice for place, voice in found}
        both = [(_key(first), _key(second)) for first, second in pairs]
        return self.predictor.compare([(voices[one], voices[two]) for one, two in both if {one, two} <= voices.keys()])

    def _numbered(self, items: Iterable[Item], *, batch_size: int, on_bad: OnBad | None) -> Iterator[tuple[int, Any]]:
        """Places of the items that can be used, and their answers."""
        if not is_whole(batch_size):
            raise ElpError(f"batch_size is {shown(batch_size)}; it must be a whole number of at least 1")
        batch: list[Utterance] = []
        for place, item in enumerate(items):
            name = os.fspath(item) if isinstance(item, str | os.PathLike) else f"wave {place}"
            try:
                batch.append(Utterance(place, name, self._wave(item, name)))
            except ElpError as error:
                if on_bad is None:
                    raise
                on_bad(name, error)
            if len(batch) == batch_size:
                yield from self._batch(batch, on_bad)
                batch = []
        if batch:
            yield from self._batch(batch, on_bad)

    def _wave(self, item: Item, name: str) -> Tensor:
        try:
            if isinstance(item, str | os.PathLike):
                return self.predictor.read(item)
            return self.predictor.prepare(as_wave(item, name), name)
        except AudioError as error:
            raise error.advising(ADVICE) from None  # which may be the same one

    def _batch(self, batch: Sequence[Utterance], on_bad: OnBad | None) -> list[tuple[int, Any]]:
        """Answers of a batch; if something is wrong with it, of each utterance alone, to tell which one it is."""
        try:
            answers = self._compute([each.wav for each in batch], [each.name for each in batch])
        except ElpError as error:
            if len(batch) > 1:
                return [found for each in batch for found in self._batch([each], on_bad)]
            name = batch[0].name
            told = error if name in str(error) else ElpError(f"{name}: {error}")
            if on_bad is None:
                raise told from error
            on_bad(name, told)
            return []
        return [(each.place, answer) for each, answer in zip(batch, answers, strict=True)]

    def _compute(self, wavs: Sequence[Tensor], names: Sequence[str]) -> list:
        try:
            with torch.no_grad():  # not inference mode: other kernels than the evaluation's might run
                on_device = [wav.to(self.device) for wav in wavs]
                with self.precision.autocast():
                    features = self.featurizer(on_device, self.upstream(on_device))
                return self.predictor.answers([feature.float() for feature in features], names)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            seconds = max(len(wav) for wav in wavs) / 16000
            raise ElpError(
                f"{names[0]}: {seconds:.0f} s do not fit into the memory of {self.device}; cut the file into pieces"
            ) from error


def _key(item: Item) -> Any:
    return os.fspath(item) if isinstance(item, str | os.PathLike) else id(item)


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "not enough memory" in str(error) or "can't allocate memory" in str(error)
