"""LibriSpeech as S3PRL batches it: sorted by length, so that a batch wastes little padding."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from downstream_heads.common.loaders import AudioReader
from downstream_heads.common.options import problem_list
from downstream_heads.elp_asr.characters import Characters
from downstream_heads.elp_asr.table import Entry, check_audio, length_table, read_part
from upstream_elp.audio.skips import SplitSkips
from upstream_elp.base.errors import AudioError, ElpError, counted
from upstream_elp.corpora.librispeech import Table, read_tables, stem

HALVING_LENGTH = 2000


def make_batches(entries: Sequence[Entry], batch_size: int, *, superb: bool, training: bool) -> list[list[str]]:
    """Cut a table that is sorted by falling length into batches of paths.

    With ``superb`` two oddities of the benchmark are kept (S3PRL downstream/asr/dataset.py:90-104): a full batch is
    halved when its longest utterance exceeds 2,000, a figure meant in frames but compared with samples, so that every
    full batch of 32 becomes two of 16 while the last, partial one stays whole; and a last batch of one utterance is
    left out of training. In evaluation nothing is ever left out.
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


def check_transcripts(
    root: Path, paths: Sequence[str], tables: Mapping[str, Table], characters: Characters
) -> dict[str, str]:
    """Transcripts by utterance name, from the tables of the utterances' own folders.

    Raises:
        ElpError: an utterance without transcript, an empty one, or a character that the dictionary lacks; all are told.
    """
    found: dict[str, str] = {}
    used = [tables[folder] for folder in sorted({path.rpartition("/")[0] for path in paths})]
    problems = [f"{table.path} {table.fault or 'is missing'}" for table in used if table.fault or not table.there]
    for path in paths:
        name, table = stem(path), tables[path.rpartition("/")[0]]
        text = table.texts.get(name)
        if not table.there:
            continue
        if text is None:
            problems.append(f"{name} has no transcript")
        elif not text:
            problems.append(f"{name} has an empty transcript")
        elif unknown := characters.unknown_characters(text):
            problems.append(f"{name} has characters that the dictionary lacks: {unknown}")
        else:
            found[name] = text
    if problems:
        raise ElpError(f"transcripts below {root} are not usable: {problem_list(problems)}")
    return found


def require_audio(root: Path, silent: Sequence[tuple[str, str]], *, skip: SplitSkips | None = None) -> None:
    """Refuse parts of the corpus whose transcripts name utterances without audio: a score would be of something else.

    Args:
        root: corpus root.
        silent: utterances without audio, and their tables.
        skip: takes files that are not there; None makes them an error.

    Raises:
        ElpError: names the first ten and the number of the others.
    """
    absent = [f"{table.rpartition('/')[0]}/{name}" for name, table in silent]
    if absent and skip is None:
        raise ElpError(
            f"{root} is not complete: {counted(len(absent), 'utterance has', 'utterances have')} a transcript but no "
            f".flac: {problem_list(absent)}; "
            "unpack the corpus again, or name the utterances to use in a table (datarc.bucket_file)"
        )
    for path in absent:
        audio = root / f"{path}.flac"
        skip.note(AudioError(f"{audio} is missing, but there is a transcript of it", audio), lasting=True)


class LibriSpeech(Dataset):
    """Batches of one split; an item is ``(wavs, labels, names)``.

    Args:
        root: corpus root.
        folders: the parts of the corpus that make the split.
        batch_size: utterances of a batch, before halving.
        characters: the dictionary.
        audio: reads the files.
        superb: write labels as S3PRL does (word end and ``</s>`` at the end).
        superb_batches: keep the benchmark's batching (see ``make_batches``).
        training: whether this is the training split.
        bucket_file: folder of S3PRL's length tables, or None to measure.
        skip: takes files that cannot be used, which are then left out of their batch; None lets them stop the run.
    """

    def __init__(
        self,
        root: Path,
        folders: Sequence[str],
        *,
        batch_size: int,
        characters: Characters,
        audio: AudioReader,
        superb: bool,
        superb_batches: bool,
        training: bool,
        bucket_file: str | None = None,
        skip: SplitSkips | None = None,
    ) -> None:
        self.root, self.audio, self.skip = root, audio, skip
        # a given table may select some of the utterances
        parts = {} if bucket_file else {folder: read_part(root, folder) for folder in folders}
        entries: list[Entry] = []
        for folder in folders:
            part = length_table(root, folder, bucket_file=bucket_file, skip=skip, chapters=parts.get(folder))
            if skip is None:
                check_audio(part, resample=audio.resample, channels=audio.channels, where=str(root / folder))
            entries += part
        entries.sort(key=lambda entry: (-entry.length, entry.path))
        paths = [entry.path for entry in entries]
        require_audio(root, [item for part in parts.values() for item in part.silent], skip=skip)
        tables = {folder: table for part in parts.values() for folder, table in part.tables.items()}
        tables = tables or read_tables(root, sorted({path.rpartition("/")[0] for path in paths}))
        texts = check_transcripts(root, paths, tables, characters)
        self.labels = {name: characters.encode(text, superb=superb) for name, text in texts.items()}
        self.batches = make_batches(entries, batch_size, superb=superb_batches, training=training)
        if not self.batches:
            raise ElpError(f"{root} has too few utterances in {', '.join(folders)} to make a batch")

    def __len__(self) -> int:
        return len(self.batches)

    def files(self) -> list[Path]:
        """The audio files of the split."""
        return [self.root / path for batch in self.batches for path in batch]

    def __getitem__(self, index: int) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
        wavs, names = [], []
        for path in self.batches[index]:
            try:
                wavs.append(self.audio(self.root / path).numpy())
            except AudioError as error:
                if self.skip is None:
                    raise
                self.skip.note(error)
                last = error
            else:
                names.append(stem(path))
        if not wavs:
            raise last
        return wavs, [np.asarray(self.labels[name], dtype=np.int64) for name in names], names


def only(items: Sequence[tuple]) -> tuple:
    """Collate for a data set whose items are batches already."""
    return items[0]
