"""Libri-light's labelled sets (10 minutes, 1 hour, 10 hours): layout, transcripts and length tables.

The archive ``librispeech_finetuning.tgz`` contains six folds of ten minutes, ``1h/0`` to ``1h/5``, and ``9h``; each has
``clean`` and ``other`` with LibriSpeech's chapters (Kahn et al. 2020, arXiv 1912.07875).
``1h`` consists of the six folds, ``10h`` of everything.
"""

from collections.abc import Iterable
from pathlib import Path

from upstream_elp.audio.headers import Options
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.problems import Problem
from upstream_elp.corpora import checks
from upstream_elp.corpora.chapters import Chapters, scan_chapters, speaker_of
from upstream_elp.corpora.description import Corpus, PrepareCommand
from upstream_elp.corpora.preparation import Report, begin, summarise, write_length_tables

ARCHIVE = "librispeech_finetuning"
FOLDS = tuple(f"1h/{fold}" for fold in range(6))
SUBSETS: dict[str, tuple[str, ...]] = {
    **{f"10min-{fold[-1]}": (fold,) for fold in FOLDS},
    "1h": FOLDS,
    "10h": (*FOLDS, "9h"),
}
KINDS = ("clean", "other")
# from the list of the 10 h set in the L-E adapters' published code (2,763 utterances of 24 speakers, 9.75 h)
OFFICIAL_10H = {"files": 2763, "speakers": 24}
CORPUS = Corpus(
    name="Libri-light",
    folder="LibriSpeech",
    source="https://dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz",
    layout=f"{ARCHIVE}/{{1h/0..5,9h}}/{{clean,other}} with LibriSpeech's chapters",
    signs=(ARCHIVE, "1h", "9h"),
    holds=(ARCHIVE, "1h", "9h"),
    command=PrepareCommand(
        name="librilight",
        summary="Length tables of Libri-light's 10 min, 1 h and 10 h sets.",
        text="""Check Libri-light's labelled sets in ROOT (with librispeech_finetuning) and write
        OUT/len_for_bucket/SUBSET.csv.

        The archive is dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz. Unpack it into the LibriSpeech
        folder, so that one root and one OUT serve training on 10h and testing on dev-clean.
        """,
        splits=tuple(SUBSETS),
        skips=True,
    ),
)


def pick_subsets(wanted: Iterable[str]) -> list[str]:
    """Return the subsets to prepare: the given ones, or all.

    Raises:
        ElpError: a name is not a subset.
    """
    wanted = list(dict.fromkeys(wanted))
    unknown = [name for name in wanted if name not in SUBSETS]
    if unknown:
        raise ElpError(f"unknown Libri-light subset {', '.join(unknown)}; the subsets are: {', '.join(SUBSETS)}")
    return wanted or list(SUBSETS)


def prepare(root: Path, out: Path, *, splits: Iterable[str] = (), options: Options | None = None) -> Report:
    """Check the labelled sets of Libri-light and write ``len_for_bucket/<subset>.csv``.

    Args:
        root: folder that contains ``librispeech_finetuning``, or that folder; the paths in tables are relative to it.
        out: folder for the tables.
        splits: subsets from ``10min-0`` .. ``10min-5``, ``1h``, ``10h``; empty for all.
        options: how to read.

    Raises:
        ElpError: ``root`` is not this archive, or a subset is unknown.
    """
    options = options or Options()
    subsets = pick_subsets(splits)
    report = begin(CORPUS, root, out)
    top = root / ARCHIVE if (root / ARCHIVE).is_dir() else root
    parts = list(dict.fromkeys(part for subset in subsets for part in SUBSETS[subset]))
    found = {part: _scan_part(report, top, part, subsets) for part in parts}
    every = [file for part in found.values() for file in part.files]
    silent = sum(len(part.silent) for part in found.values())
    if silent:
        # a chapter may be spread over folds, so this does not mean that the archive is incomplete
        what = counted(silent, "transcript has", "transcripts have")
        report.warnings.append(f"{what} no audio in the same fold and will not be used.")
    report.warnings += [remark for part in found.values() for remark in part.remarks]
    headers = report.read(every, options)
    report.check_audio(headers)
    report.problems += checks.duplicate_problems(every)
    broken = report.skipped(skip_broken=options.skip_broken)
    kept = {part: [file for file in chapters.files if file not in broken] for part, chapters in found.items()}
    tables = {subset: [file for part in SUBSETS[subset] for file in kept[part]] for subset in subsets}
    for subset, members in tables.items():
        report.splits.append(summarise(subset, members, headers, map(speaker_of, members)))
    figures = {split.name: split for split in report.splits}
    if "10h" in figures:
        counts = [(f"{what} of 10h", getattr(figures["10h"], what), count) for what, count in OFFICIAL_10H.items()]
        report.warnings += checks.count_warnings(counts)
    write_length_tables(report, tables, headers, options=options)
    return report


def _scan_part(report: Report, top: Path, part: str, subsets: list[str]) -> Chapters:
    """Scan one fold or ``9h``, with ``clean`` and ``other`` together."""
    both = Chapters()
    for kind in KINDS:
        folder = top / part / kind
        name = folder.relative_to(report.root).as_posix()
        found = scan_chapters(report.root, folder)
        if not (found.files or found.closed or found.silent):
            users = ", ".join(subset for subset in subsets if part in SUBSETS[subset])
            sentence = f"{name} is missing or contains no .flac files, but {users} needs it; unpack the archive again."
            report.problems.append(Problem("layout", name, sentence, False))
        both.files += found.files
        both.remarks += found.remarks
        report.problems += found.problems
        both.silent += found.silent
    return both
