"""Problems of a corpus, and how a long list of them is shown: common causes first, then the details."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from upstream_elp.base.errors import ElpError, counted

AUDIO = "audio files"
MANY = 3
SHOWN_PER_KIND = 20
SHOWN_IN_ERROR = 10
AUDIO_KINDS = frozenset({"unreadable", "empty", "short", "rate", "channels", "missing-audio", "format", "head"})
"""Kinds of problems with single audio files, which ``--skip-bad-files`` skips."""
HARMLESS = frozenset({"misplaced"})
"""Kinds of problems that do not stop any task from running."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in one sentence.

    Attributes:
        kind: short name of this kind of problem, for grouping (``rate``, ``missing-audio``, ...).
        path: the file or folder it is about, relative to the corpus root.
        text: the sentence, which names ``path``.
        skippable: whether skipping this one file solves it (then ``--skip-broken`` may do so).
        cause: what all problems of this kind have in common, worded to follow their number; begins with ``audio files``
            if it is about these.
    """

    kind: str
    path: str
    text: str
    skippable: bool = True
    cause: str = ""


def by_cause(problems: Iterable[Problem]) -> list[list[Problem]]:
    """Group problems of the same kind and cause, in the order in which each first occurs."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for number, problem in enumerate(problems):
        groups.setdefault((problem.kind, problem.cause or str(number)), []).append(problem)
    return list(groups.values())


def common_cause(group: list[Problem], *, audio: int) -> str:
    """Say what a group of problems has in common, such as ``all 24 audio files have ...``; empty for fewer than three.

    Args:
        group: problems of the same kind and cause.
        audio: how many audio files were checked.
    """
    count, cause = len(group), group[0].cause
    if count < MANY or not cause:
        return ""
    if cause.startswith(AUDIO) and count <= audio:
        return f"all {count:,} {cause}" if count == audio else f"{count:,} of {audio:,} {cause}"
    return f"{count:,} {cause}"


def cause_lines(problems: Iterable[Problem], *, audio: int) -> list[str]:
    """List the common causes, the most frequent first, and a blank line; nothing if there are none."""
    groups = sorted(by_cause(problems), key=len, reverse=True)
    causes = [cause for group in groups if (cause := common_cause(group, audio=audio))]
    return [*(f"{cause}." for cause in causes), ""] if causes else []


def problem_lines(problems: Iterable[Problem], *, shown: int = SHOWN_PER_KIND, rest: str = "") -> Iterable[str]:
    """Yield the first ``shown`` problems of each kind as lines; ``rest`` says where the others are."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    for kind, members in kinds.items():
        yield f"{kind} ({len(members)})"
        yield from (f"  - {problem.text}" for problem in members[:shown])
        if len(members) > shown:
            yield f"  ... and {len(members) - shown} more{rest}"


def in_one_line(problems: list[Problem], *, audio: int, shown: int) -> str:
    """Join the first problems to one sentence; those with a common cause appear once, with an example."""
    parts = []
    groups = by_cause(problems)
    for group in groups[:shown]:
        cause = common_cause(group, audio=audio)
        parts += [f"{cause}, such as {group[0].path}"] if cause else [problem.text.rstrip(".") for problem in group]
    left = sum(map(len, groups[shown:]))
    return "; ".join(parts) + (f"; and {left} more" if left else "")


def blocking(problems: Iterable[Problem], *, passed: Container[str] = HARMLESS) -> list[Problem]:
    """Return the problems that prevent a run: those whose kind is not in ``passed``."""
    return [problem for problem in problems if problem.kind not in passed]


def refuse(problems: Iterable[Problem], root: Path, *, passed: Container[str] = HARMLESS, audio: int = 0) -> None:
    """Raise one error that names the problems of a corpus, unless all their kinds are in ``passed``.

    Args:
        problems: what a reader found.
        root: the corpus.
        passed: kinds of problems to ignore.
        audio: how many audio files were checked.

    Raises:
        ElpError: names the first ten problems or common causes, and the total number.
    """
    found = blocking(problems, passed=passed)
    if found:
        shown = in_one_line(found, audio=audio, shown=SHOWN_IN_ERROR)
        raise ElpError(
            f"{counted(len(found), 'problem')} in {root}: {shown}; repair the corpus (`elp check` lists all)"
        )
