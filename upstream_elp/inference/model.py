"""A trained model in use: files or waves in, answers out, the same as in the task's evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from downstream_heads import registry
from upstream_elp.base.choices import BATCH, UTTERANCE
from upstream_elp.base.errors import AudioError, ElpError, shown
from upstream_elp.base.values import is_whole
from upstream_elp.inference.waves import as_wave
from upstream_elp.training.precision import Precision

Item = str | os.PathLike | Tensor | np.ndarray | Sequence[float]
"""An audio file, or its samples at 16 kHz of shape ``(samples,)``, floating-point in [-1, 1]; see ``waves.py``."""
OnBad = Callable[[str, ElpError], None]
"""Called with the name of an item that cannot be used, and the reason."""
Progress = Callable[[list], Iterable]
"""Wraps a list while it is iterated over, like tqdm."""
ADVICE = {
    "resample": "convert the file, or load the model with resample=True",
    "channels": "convert the file, or load the model with channels='mean' or channels='first'",
    "too_short": "use a recording with more speech",
}
"""What to do about a file, by the audio option that refused it."""


class Utterance(NamedTuple):
    """One item after reading: its place in the input, its name in answers and errors, and its samples."""

    place: int
    name: str
    wav: Tensor


class TrainedModel:
    """A frozen upstream with its featurizer and a task's head.

    In a batch of one, the answer depends only on the file. In larger batches, shorter utterances are padded, which
    slightly affects many backbones; the answers are then those of an evaluation with the same batches
    (``datarc.eval_batch_size``). A model that was trained with ``runner.features_of: utterance`` therefore computes
    every utterance by itself, whatever the batch size.

    Args:
        upstream: the expert.
        featurizer: S3PRL's featurizer.
        predictor: the task's head for inference, see ``downstream_heads/common/predictor.py``.
        precision: precision of upstream and featurizer, with the device to use.
        features_of: ``batch`` or ``utterance``, as in training.
    """

    def __init__(
        self,
        upstream: nn.Module,
        featurizer: nn.Module,
        predictor: nn.Module,
        *,
        precision: Precision,
        features_of: str = BATCH,
    ) -> None:
        self.precision, self.device = precision, precision.device
        self.features_of = features_of
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
            more: refused; pass several files as one list.
            batch_size: number of files per batch.

        Returns:
            A ``Transcript``, ``Emotion``, ``Intent`` or ``Voice`` (``downstream_heads/common/answers.py``), or a list.

        Raises:
            ElpError: a file cannot be used, and the message names the first one; or several files that are not a list.
        """
        if more:
            other = ", or compare(first, second) to compare two voices" if hasattr(self.predictor, "compare") else ""
            raise ElpError(f"several files must be passed as one list: model([first, second]){other}")
        if isinstance(files, str | os.PathLike | Tensor | np.ndarray):
            return next(self.answers([files]))
        if not isinstance(files, Iterable):
            raise ElpError(f"{shown(files)} is not an audio file; pass a path, samples, or a list of these")
        return list(self.answers(files, batch_size=batch_size))

    def answers(self, files: Iterable[Item], *, batch_size: int = 1, on_bad: OnBad | None = None) -> Iterator[Any]:
        """Return an iterator over the answers, in order; see ``__call__``.

        Args:
            files: paths or waves.
            batch_size: number of files per batch.
            on_bad: called for each item that cannot be used, which is then skipped; by default it is an error.
        """
        return (answer for _, answer in self._numbered(files, batch_size=batch_size, on_bad=on_bad))

    def compare(self, first: Item, second: Item) -> Any:
        """Score one pair of voices and return a ``Similarity``; see :meth:`compare_pairs`."""
        return self.compare_pairs([(first, second)])[0]

    def compare_pairs(
        self,
        pairs: Sequence[tuple[Item, Item]],
        *,
        batch_size: int = 1,
        on_bad: OnBad | None = None,
        progress: Progress = iter,
    ) -> list:
        """Score pairs of voices; each file is read and embedded once.

        Args:
            pairs: pairs of files or waves.
            batch_size: number of files per batch.
            on_bad: called for each file that cannot be used, whose pairs are then skipped; by default it is an error.
            progress: wraps the list of files while it is iterated over, like tqdm.

        Returns:
            A ``Similarity`` per pair.

        Raises:
            ElpError: the task is not speaker verification, or a file cannot be used.
        """
        if not hasattr(self.predictor, "compare"):
            raise ElpError(f"{self.task} cannot compare voices; load a model of {registry.comparing()}")
        items: dict[Any, Item] = {_key(item): item for pair in pairs for item in pair}
        keys = list(items)
        found = self._numbered(progress(list(items.values())), batch_size=batch_size, on_bad=on_bad)
        voices = {keys[place]: voice for place, voice in found}
        both = [(_key(first), _key(second)) for first, second in pairs]
        return self.predictor.compare([(voices[one], voices[two]) for one, two in both if {one, two} <= voices.keys()])

    def _numbered(self, items: Iterable[Item], *, batch_size: int, on_bad: OnBad | None) -> Iterator[tuple[int, Any]]:
        """Yield the places of the items that can be used, with their answers."""
        if not is_whole(batch_size):
            raise ElpError(f"batch_size must be a whole number of at least 1, but is {shown(batch_size)}")
        most = 1 if self.features_of == UTTERANCE else batch_size
        batch: list[Utterance] = []
        for place, item in enumerate(items):
            name = os.fspath(item) if isinstance(item, str | os.PathLike) else f"wave {place}"
            try:
                batch.append(Utterance(place, name, self._wave(item, name)))
            except ElpError as error:
                if on_bad is None:
                    raise
                on_bad(name, error)
            if len(batch) == most:
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
            raise error.advising(ADVICE) from None  # may be the same error

    def _batch(self, batch: Sequence[Utterance], on_bad: OnBad | None) -> list[tuple[int, Any]]:
        """Return the answers of a batch; after an error, of one utterance at a time, to find the one that caused it."""
        try:
            answers = self._compute([each.wav for each in batch], [each.name for each in batch])
        except ElpError as error:
            if len(batch) > 1:
                return [found for each in batch for found in self._batch([each], on_bad)]
            name = batch[0].name
            named = error if name in str(error) else ElpError(f"{name}: {error}")
            if on_bad is None:
                raise named from error
            on_bad(name, named)
            return []
        return [(each.place, answer) for each, answer in zip(batch, answers, strict=True)]

    def _compute(self, wavs: Sequence[Tensor], names: Sequence[str]) -> list:
        try:
            with torch.no_grad():  # not inference mode, which might use other kernels than the evaluation
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
