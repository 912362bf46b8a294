"""LibriSpeech: its layout, the reader of its parts, and the length tables of ``elp prepare``."""

from collections.abc import Iterable
from pathlib import Path

from upstream_elp.audio.headers import Options
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.folders import subfolders
from upstream_elp.base.problems import Problem
from upstream_elp.corpora import checks
from upstream_elp.corpora.chapters import Utterance, missing_audio, place_of, rows_of, scan_chapters, speaker_of
from upstream_elp.corpora.description import Corpus, PrepareCommand
from upstream_elp.corpora.preparation import Report, begin, summarise, write_length_tables
from upstream_elp.corpora.reading import Reading

SPLITS = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)
SUPERB_SPLITS = ("train-clean-100", "dev-clean", "test-clean")
# speakers: Panayotov et al. 2015, table 1; files: sentences in sclite's reports on whole dev and test sets
OFFICIAL_SPEAKERS = dict(zip(SPLITS, (251, 921, 1166, 40, 33, 40, 33), strict=True))
OFFICIAL_FILES = {"dev-clean": 2703, "test-clean": 2620, "dev-other": 2864, "test-other": 2939}
CORPUS = Corpus(
    name="LibriSpeech",
    folder="LibriSpeech",
    source="https://www.openslr.org/12 (train-clean-100, dev-clean, test-clean)",
    layout="<split>/<speaker>/<chapter>/<speaker>-<chapter>-<nnnn>.flac and <speaker>-<chapter>.trans.txt",
    signs=("*/*/*/*.trans.txt",),
    holds=SPLITS,
    keys=("root", "libri_root"),
    command=PrepareCommand(
        name="librispeech",
        summary="Length tables of LibriSpeech's splits.",
        text="""Check LibriSpeech in ROOT (with train-clean-100, dev-clean, ...) and write
        OUT/len_for_bucket/SPLIT.csv.

        Get it from openslr.org/12. By default, all splits in ROOT are prepared, and OUT is a separate folder below
        $ELP_CACHE or ~/.cache/s3prl-elp.
        """,
        splits=SPLITS,
        skips=True,
    ),
)


def read_part(
    root: Path, part: str, *, characters: frozenset[str] = checks.CHARACTERS, split: str | None = None
) -> Reading[Utterance]:
    """Read one part of the corpus: the only reader of LibriSpeech, for all commands and tasks.

    Args:
        root: the corpus.
        part: its folder, such as ``train-clean-100``.
        characters: the dictionary of the transcripts, in upper case.
        split: the split that uses the part, for the message if it is missing.

    Returns:
        The utterances with audio, sorted by path, then those with only a transcript.
    """
    reading: Reading[Utterance] = Reading()
    if not (root / part).is_dir():
        there = ", ".join(subfolders(root))
        sentence = (
            f"{part} is missing, but the split {split or part} needs it; the folders here are: {there or 'none'}."
        )
        reading.problems.append(Problem("layout", part, sentence, False))
        return reading
    found = scan_chapters(root, root / part, characters=characters)
    reading.problems += found.problems + missing_audio(root, found.silent)
    reading.remarks += found.remarks
    if not (found.files or found.closed or found.silent):
        reading.problems.append(Problem("layout", part, f"{part} contains no .flac files.", False))
    reading.rows += rows_of(found.files, found.tables)
    for item, where in found.silent:
        path = place_of(item, where)
        reading.rows.append(Utterance(path, found.tables[path.rpartition("/")[0]].texts[item]))
        reading.gone.add(path)
    return reading


def pick_splits(root: Path, wanted: Iterable[str]) -> list[str]:
    """Return the splits to prepare: the given ones, or all that exist.

    Raises:
        ElpError: a given split does not exist.
    """
    there = [split for split in SPLITS if (root / split).is_dir()]
    wanted = list(dict.fromkeys(wanted))
    absent = [split for split in wanted if split not in there]
    if absent:
        raise ElpError(f"{root} has no split {', '.join(absent)}; its splits are: {', '.join(there) or 'none'}")
    return wanted or there


def prepare(root: Path, out: Path, *, splits: Iterable[str] = (), options: Options | None = None) -> Report:
    """Check splits of LibriSpeech and write ``len_for_bucket/<split>.csv``.

    Args:
        root: folder that contains ``train-clean-100`` and so on.
        out: folder for the tables.
        splits: the splits; empty for all that exist.
        options: how to read.

    Raises:
        ElpError: ``root`` is not LibriSpeech, or a split does not exist.
    """
    options = options or Options()
    report = begin(CORPUS, root, out)
    parts = {split: read_part(root, split) for split in pick_splits(root, splits)}
    files = {split: [row.path for row in reading.present] for split, reading in parts.items()}
    every = [file for members in files.values() for file in members]
    headers = report.read(every, options)
    report.problems += [problem for reading in parts.values() for problem in reading.problems]
    report.check_audio(headers)
    report.problems += checks.duplicate_problems(every)
    broken = report.skipped(skip_broken=options.skip_broken)
    tables = {split: [file for file in members if file not in broken] for split, members in files.items()}
    for split, members in tables.items():
        report.splits.append(summarise(split, members, headers, map(speaker_of, members)))
    report.warnings += [remark for reading in parts.values() for remark in reading.remarks]
    report.warnings += _remarks(report, {split: set(map(speaker_of, members)) for split, members in files.items()})
    write_length_tables(report, tables, headers, options=options)
    return report


def _remarks(report: Report, speakers: dict[str, set[str]]) -> list[str]:
    counts = [
        (f"files of {split.name}", split.files, OFFICIAL_FILES[split.name])
        for split in report.splits
        if split.name in OFFICIAL_FILES
    ]
    counts += [(f"speakers of {split.name}", split.speakers, OFFICIAL_SPEAKERS[split.name]) for split in report.splits]
    remarks = checks.count_warnings(counts)
    for a, b, shared in checks.shared_speakers(speakers):
        count = counted(len(shared), "speaker")
        remarks.append(f"{a} and {b} share {count} (such as {shared[0]}); the official splits share none.")
    absent = [split for split in SUPERB_SPLITS if not (report.root / split).is_dir()]
    if absent:
        remarks.append(f"SUPERB's ASR also needs {', '.join(absent)}.")
    return remarks
