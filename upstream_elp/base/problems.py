"""What can be wrong with a corpus, and how a long list of it is shown: the common cause first, then the details."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from upstream_elp.base.errors import ElpError, counted

AUDIO = "audio files"
MANY = 3
SHOWN_PER_KIND = 20
SHOWN_IN_ERROR = 10
AUDIO_KINDS = frozenset({"unreadable", "empty", "short", "rate", "channels", "missing-audio", "format", "head"})
"""Kinds of problems that concern single audio files: what ``--skip-bad-files`` passes over."""
HARMLESS = frozenset({"misplaced"})
"""Kinds of problems that keep no task from running."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in one sentence.

    Attributes:
        kind: short name of the sort of problem, for grouping (``rate``, ``missing-audio``, ...).
        path: the file or folder it is about, relative to the corpus root.
        text: the sentence, which names ``path``.
        skippable: whether leaving that one file out cures it (then ``--skip-broken`` may).
        cause: what all problems of this sort have in common, to be put behind their number; begins with ``audio files``
            where it is about these.
    """

    kind: str
    path: str
    text: str
    skippable: bool = True
    cause: str = ""


def by_cause(problems: Iterable[Problem]) -> list[list[Problem]]:
    """Put problems of the same kind and cause together, in the order of the first of each."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for number, problem in enumerate(problems):
        groups.setdefault((problem.kind, problem.cause or str(number)), []).append(problem)
    return list(groups.values())


def common_cause(group: list[Problem], *, audio: int) -> str:
    """What a group of problems has in common, such as ``all 24 audio files have ...``; empty for fewer than three.

    Args:
        group: problems of the same kind and cause.
        audio: how many audio files were looked at.
    """
    count, cause = len(group), group[0].cause
    if count < MANY or not cause:
        return ""
    if cause.startswith(AUDIO) and count <= audio:
        return f"all {count:,} {cause}" if count == audio else f"{count:,} of {audio:,} {cause}"
    return f"{count:,} {cause}"


def cause_lines(problems: Iterable[Problem], *, audio: int) -> list[str]:
    """The common causes, the most frequent first, and a blank line; nothing where every problem stands for itself."""
    groups = sorted(by_cause(problems), key=len, reverse=True)
    causes = [cause for group in groups if (cause := common_cause(group, audio=audio))]
    return [*(f"{cause}." for cause in causes), ""] if causes else []


def problem_lines(problems: Iterable[Problem], *, shown: int = SHOWN_PER_KIND, rest: str = "") -> Iterable[str]:
    """Yield the problems for a reader, by kind, the first ``shown`` of each; ``rest`` says where the others are."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    for kind, members in kinds.items():
        yield f"{kind} ({len(members)})"
        yield from (f"  - {problem.text}" for problem in members[:shown])
        if len(members) > shown:
            yield f"  ... and {len(members) - shown} more{rest}"


def in_one_line(problems: list[Problem], *, audio: int, shown: int) -> str:
    """The first problems for one sentence: those of a common cause once, with an example."""
    parts = []
    groups = by_cause(problems)
    for group in groups[:shown]:
        cause = common_cause(group, audio=audio)
        parts += [f"{cause}, such as {group[0].path}"] if cause else [problem.text.rstrip(".") for problem in group]
    left = sum(map(len, groups[shown:]))
    return "; ".join(parts) + (f"; and {left} more" if left else "")


def blocking(problems: Iterable[Problem], *, passed: Container[str] = HARMLESS) -> list[Problem]:
    """The problems that forbid a run: those whose kind is not passed over."""
    return [problem for problem in problems if problem.kind not in passed]


def refuse(problems: Iterable[Problem], root: Path, *, passed: Container[str] = HARMLESS, audio: int = 0) -> None:
    """Raise one error that names the problems of a corpus, unless all are of kinds that are passed over.

    Args:
        problems: what a reader found.
        root: the corpus.
        passed: kinds that do not matter here.
        audio: how many audio files were looked at.

    Raises:
        ElpError: names the first ten problems, or causes that many have in common, and the number of all.
    """
    found = blocking(problems, passed=passed)
    if found:
        shown = in_one_line(found, audio=audio, shown=SHOWN_IN_ERROR)
        raise ElpError(
            f"{counted(len(found), 'problem')} in {root}: {shown}; repair the corpus (`elp check` lists all)"
        )
