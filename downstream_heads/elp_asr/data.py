"""LibriSpeech as S3PRL batches it: sorted by length, so that batches contain little padding."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from downstream_heads.common.loaders import AudioReader, transpose
from downstream_heads.elp_asr.characters import Characters
from downstream_heads.elp_asr.table import Entry, Split, measure
from upstream_elp.audio.headers import Header
from upstream_elp.audio.skips import SplitSkips
from upstream_elp.base.errors import AudioError, ElpError
from upstream_elp.base.problems import AUDIO_KINDS, HARMLESS, refuse
from upstream_elp.corpora import checks

HALVING_LENGTH = 2000


def make_batches(entries: Sequence[Entry], batch_size: int, *, superb: bool, training: bool) -> list[list[str]]:
    """Cut a table that is sorted by decreasing length into batches of paths.

    ``superb`` keeps two oddities of the benchmark (S3PRL downstream/asr/dataset.py:90-104). A full batch is halved if
    its longest utterance exceeds 2,000; this number is meant in frames but compared with samples, so every full batch
    of 32 becomes two of 16, while the last, partial batch stays whole. And a last batch of one utterance is not trained
    on. Evaluation uses every utterance.
    """
    batches = []
    for start in range(0, len(entries), batch_size):
        group = entries[start : start + batch_size]
        paths = [entry.path for entry in group]
        full = len(group) == batch_size
        if superb and full and batch_size >= 2 and group[0].length > HALVING_LENGTH:
            batches += [paths[: batch_size // 2], paths[batch_size // 2 :]]
        elif full or len(group) > 1 or not (superb and training):
            batches.append(paths)
    return batches


class LibriSpeech(Dataset):
    """Batches of one split; an item is ``(wavs, labels, names)``.

    Args:
        root: corpus root.
        split: name of the split, for messages.
        found: its utterances.
        folders: the parts of the corpus that it consists of, for messages.
        batch_size: utterances per batch, before halving.
        characters: the dictionary.
        audio: reads the files.
        superb: encode labels as S3PRL does (word end and ``</s>`` at the end).
        superb_batches: keep the benchmark's batching (see ``make_batches``).
        training: whether this is the training split.
        skip: list of skipped files; unusable files are added to it and omitted from their batch. If None, they stop the
            run.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        found: Split,
        folders: Sequence[str],
        *,
        batch_size: int,
        characters: Characters,
        audio: AudioReader,
        superb: bool,
        superb_batches: bool,
        training: bool,
        skip: SplitSkips | None = None,
    ) -> None:
        self.root, self.audio, self.skip = root, audio, skip
        found.refuse(root, passed=HARMLESS if skip is None else HARMLESS | AUDIO_KINDS)
        for path in sorted(found.gone):
            self._note(f"{root / path} is missing, but it has a transcript", path)
        headers = self._usable(measure(root, found, split=split))
        entries = [Entry(path, header.samples) for path, header in headers]
        entries.sort(key=lambda entry: (-entry.length, entry.path))
        self.samples = {path: checks.converted(header).samples for path, header in headers}
        self.entries = entries
        self.named = {row.path: row.name for row in found.present}
        self.labels = {row.name: characters.encode(row.text, superb=superb) for row in found.present}
        self.batches = make_batches(entries, batch_size, superb=superb_batches, training=training)
        if not self.batches:
            raise ElpError(f"{root} has too few utterances in {', '.join(folders)} for a batch")

    def _usable(self, headers: Sequence[tuple[str, Header]]) -> Sequence[tuple[str, Header]]:
        """Return the readable files; without a list of skipped files, an unusable file is an error."""
        if self.skip is None:
            mix, least, problems = self.audio.channels != "error", self.audio.min_samples, []
            for file, header in headers:
                known = checks.converted(header) if self.audio.resample else header
                problems += checks.audio_problems(file, known, mix=mix, min_samples=least)
            refuse(problems, self.root, audio=len(headers))
            return headers
        for file, header in headers:
            if header.error:
                self._note(f"{self.root / file} cannot be read: {header.error}", file)
        return [(file, header) for file, header in headers if not header.error]

    def _note(self, sentence: str, file: str) -> None:
        self.skip.note(AudioError(sentence, self.root / file), lasting=True)

    def __len__(self) -> int:
        return len(self.batches)

    def files(self) -> list[Path]:
        """Return the audio files of the split."""
        return [self.root / path for batch in self.batches for path in batch]

    def __getitem__(self, index: int) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
        found = []
        for path in self.batches[index]:
            try:
                found.append(self.utterance(path))
            except AudioError as error:
                if self.skip is None:
                    raise
                self.skip.note(error)
                last = error
        if not found:
            raise last
        return transpose(found)

    def utterance(self, path: str) -> tuple[np.ndarray, np.ndarray, str]:
        """Read one utterance: ``(wav, labels, name)``."""
        name = self.named[path]
        return self.audio(self.root / path).numpy(), np.asarray(self.labels[name], dtype=np.int64), name

    def item_names(self) -> list[str]:
        """Return the names of the utterances, from the longest to the shortest."""
        return [self.named[entry.path] for entry in self.entries]


class Utterances(Dataset):
    """The utterances of one split one by one, for batches of similar length; an item is ``(wav, labels, name)``.

    Args:
        split: the split, whose own batches are not used.
    """

    def __init__(self, split: LibriSpeech) -> None:
        self.split = split
        self.paths = [entry.path for entry in split.entries]

    def __len__(self) -> int:
        return len(self.paths)

    def lengths(self) -> list[int]:
        """Return the samples of each item, from S3PRL's length tables or its file's header."""
        return [self.split.samples[path] for path in self.paths]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, str]:
        return self.split.utterance(self.paths[index])


def only(items: Sequence[tuple]) -> tuple:
    """Collate items that are batches already."""
    return items[0]
