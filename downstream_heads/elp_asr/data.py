"""LibriSpeech as S3PRL batches it: sorted by length, so that a batch wastes little padding."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from downstream_heads.common.loaders import AudioReader
from downstream_heads.common.options import problem_list
from downstream_heads.common.skips import SplitSkips
from downstream_heads.elp_asr.characters import Characters
from downstream_heads.elp_asr.table import Entry, check_audio, length_table
from upstream_elp.errors import AudioError, ElpError, counted
from upstream_elp.prepare.files import list_files
from upstream_elp.prepare.librispeech import read_transcripts as read_table
from upstream_elp.prepare.librispeech import stem

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


def read_transcripts(root: Path, paths: Sequence[str], characters: Characters) -> dict[str, str]:
    """Transcripts by utterance name, from the ``<speaker>-<chapter>.trans.txt`` beside the audio.

    Raises:
        ElpError: an utterance without transcript, an empty one, or a character that the dictionary lacks; all are told.
    """
    found: dict[str, str] = {}
    problems, untold = [], set()
    for folder in map(Path, sorted({path.rpartition("/")[0] for path in paths})):
        table = root / folder / f"{folder.parent.name}-{folder.name}.trans.txt"
        if table.is_file():
            texts, _, fault = read_table(table)
            found.update(texts)
            problems += [f"{folder / table.name} {fault}"] if fault else []
        else:
            problems.append(f"{folder / table.name} is missing")
            untold.add(folder.as_posix())
    for path in paths:
        name = stem(path)
        if untold and path.rpartition("/")[0] in untold:
            continue
        if name not in found:
            problems.append(f"{name} has no transcript")
        elif not found[name]:
            problems.append(f"{name} has an empty transcript")
        elif unknown := characters.unknown_characters(found[name]):
            problems.append(f"{name} has characters that the dictionary lacks: {unknown}")
    if problems:
        raise ElpError(f"transcripts below {root} are not usable: {problem_list(problems)}")
    return {name: found[name] for name in map(stem, paths)}


def require_audio(root: Path, folders: Sequence[str], paths: Sequence[str], *, skip: SplitSkips | None = None) -> None:
    """Refuse parts of the corpus whose transcripts name utterances without audio: a score would be of something else.

    Args:
        root: corpus root.
        folders: parts of the corpus that are used as a whole.
        paths: the audio that is there.
        skip: takes files that are not; None makes them an error.

    Raises:
        ElpError: names the first ten and the number of the others.
    """
    present = {path.rpartition(".")[0] for path in paths}
    absent = []
    for folder in folders:
        for table in list_files(root / folder, suffix=".trans.txt", root=root):
            chapter = table.rpartition("/")[0]
            texts, *_ = read_table(root / table)
            absent += [path for name in texts if (path := f"{chapter}/{name}") not in present]
    if absent and skip is None:
        raise ElpError(
            f"{root} is not complete: {counted(len(absent), 'utterance has', 'utterances have')} a transcript but no "
            f".flac: {problem_list(absent)}; "
            "unpack the corpus again, or name the utterances to use in a table (datarc.bucket_file)"
        )
    for path in absent:
        audio = root / f"{path}.flac"
        if not audio.is_file():  # one that is there was noted when its length was asked for
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
        entries: list[Entry] = []
        for folder in folders:
            part = length_table(root, folder, bucket_file=bucket_file, skip=skip)
            if skip is None:
                check_audio(part, resample=audio.resample, channels=audio.channels, where=str(root / folder))
            entries += part
        entries.sort(key=lambda entry: (-entry.length, entry.path))
        if not bucket_file:  # a given table may select a part
            require_audio(root, folders, [entry.path for entry in entries], skip=skip)
        texts = read_transcripts(root, [entry.path for entry in entries], characters)
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
