"""Audio in other formats than those of the corpora, and what to do about it."""

from collections.abc import Mapping
from pathlib import Path

from upstream_elp.audio.front import SAMPLE_RATE
from upstream_elp.base.folders import locate
from upstream_elp.base.problems import Problem

OTHERS = (".m4a", ".mp4", ".aac", ".mp3", ".ogg", ".opus", ".wma", ".aif", ".aiff", ".sph", ".webm", ".flac", ".wav")


def command(source: str, target: str) -> str:
    """Return the command that converts any audio file for the tasks."""
    return f"ffmpeg -i {source} -ar {SAMPLE_RATE} -ac 1 {target}"


def format_problem(file: str, *, wanted: str) -> Problem:
    """Describe audio in a format that is not read.

    Args:
        file: the file.
        wanted: the ending of the files that are read.
    """
    ending = "." + file.rpartition(".")[2]
    how = command(f"IN{ending}", f"OUT{wanted}")
    sentence = f"{file} is not read, as it is {ending} instead of {wanted}; convert it ({how})."
    cause = f"{ending} files cannot be read here; convert them ({how})"
    return Problem("format", file, sentence, False, cause)


def absent_problems(root: Path, absent: Mapping[str, Problem]) -> list[Problem]:
    """Explain why audio is missing: a file of the same name in another format is the problem, if there is one.

    Args:
        root: the corpus.
        absent: missing files, and the problem that each one is. Files in folders that cannot be listed are ignored, as
            that is a separate problem.
    """
    others = {file: [_stem(file) + ending for ending in OTHERS] for file in absent}
    closed: dict[str, str] = {}
    found = locate(root, (name for names in others.values() for name in names), closed=closed)
    problems = []
    for file, problem in absent.items():
        if file.rpartition("/")[0] in closed:
            continue
        instead = next((there for name in others[file] if (there := found[name])), None)
        problems.append(format_problem(instead, wanted=file[len(_stem(file)) :]) if instead else problem)
    return problems


def only_other_formats(files: list[str], others: list[str], *, wanted: str) -> list[Problem]:
    """Report audio in other formats, except for originals with a converted file in the same folder.

    Args:
        files: audio that is read.
        others: audio in other formats.
        wanted: the ending of the files that are read.
    """
    converted = {_stem(file) for file in files}
    return [format_problem(file, wanted=wanted) for file in others if _stem(file) not in converted]


def _stem(file: str) -> str:
    return file.rpartition(".")[0]
