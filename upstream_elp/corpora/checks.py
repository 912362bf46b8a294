"""Checks that several corpora need; they return problems and do not access files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from upstream_elp.audio.formats import SAMPLE_RATE, command
from upstream_elp.audio.front import STANDARD
from upstream_elp.audio.headers import Header
from upstream_elp.base.errors import counted
from upstream_elp.base.folders import ADVICE
from upstream_elp.base.problems import AUDIO, Problem

# letters of SUPERB's ASR dictionary; the space stands for its word boundary "|"
CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")


def audio_problems(
    file: str,
    header: Header,
    *,
    min_samples: int = STANDARD.min_samples,
    mix: bool = False,
) -> list[Problem]:
    """Check that a file can be read, is mono, has the sample rate and is long enough.

    Args:
        file: the name of the file in the report.
        header: its header.
        min_samples: smallest number of samples that a backbone accepts.
        mix: whether several channels are accepted.
    """
    if header.error:
        cause = f"{AUDIO} cannot be read: {header.error}"
        return [Problem("unreadable", file, f"{file} cannot be read: {header.error}.", cause=cause)]
    problems = []

    def add(kind: str, fault: str, many: str) -> None:
        problems.append(Problem(kind, file, f"{file} has {fault}.", cause=f"{AUDIO} have {many}"))

    if header.rate != SAMPLE_RATE:
        rate = f"{header.rate} samples a second instead of {SAMPLE_RATE}; convert"
        add("rate", f"{rate} it", f"{rate} them ({command('IN', 'OUT')})")
    if header.channels != 1 and not mix:
        channels = f"{header.channels} channels instead of one; mix"
        add("channels", f"{channels} it down", f"{channels} them down ({command('IN', 'OUT')})")
    if header.samples < min_samples:
        need = f"than the {min_samples} that a backbone needs"
        kind = "short" if header.samples else "empty"
        add(kind, f"{header.samples} samples, fewer {need}", f"fewer samples {need}")
    return problems


def converted(header: Header) -> Header:
    """Return the header of a file after conversion to the tasks' sample rate; without a rate it is unchanged."""
    if not header.rate:
        return header
    return replace(header, samples=round(header.samples * SAMPLE_RATE / header.rate), rate=SAMPLE_RATE)


def closed_problems(closed: Mapping[str, str]) -> list[Problem]:
    """Report folders that cannot be listed.

    Args:
        closed: the folders, and why.
    """
    return [
        Problem(
            "closed-folder",
            folder,
            f"{folder} cannot be listed ({why}); {ADVICE}.",
            False,
            f"folders cannot be listed ({why}); their files would be missing from the data",
        )
        for folder, why in closed.items()
    ]


def again_remarks(again: Sequence[str]) -> list[str]:
    """Return a remark, if needed, on links to folders that are read under another name."""
    if not again:
        return []
    links = counted(len(again), "link", "links")
    return [f"ignored {links} to folders that are read under another name (such as {again[0]})."]


def transcript_problems(
    file: str, text: str | None, *, where: str, characters: frozenset[str] = CHARACTERS
) -> list[Problem]:
    """Check that a transcript exists, is not empty, and has only letters of the dictionary (in either case).

    Args:
        file: the audio file.
        text: its transcript, or None.
        where: the file that contains, or should contain, the transcript.
        characters: the dictionary, in upper case.
    """
    if text is None:
        sentence = f"{file} has no transcript in {where}."
        return [Problem("missing-transcript", file, sentence, cause=f"{AUDIO} have no transcript")]
    if not text.strip():
        sentence = f"{file} has an empty transcript in {where}."
        return [Problem("empty-transcript", file, sentence, cause=f"{AUDIO} have an empty transcript")]
    strange = sorted(set(text.upper()) - characters)
    if not strange:
        return []
    shown = " ".join(repr(character) for character in strange)
    letters = "A-Z, ' and space" if characters == CHARACTERS else f"{len(characters)} symbols"
    sentence = f"{file} has characters outside the dictionary ({letters}) in its transcript in {where}: {shown}."
    cause = f"{AUDIO} have characters outside the dictionary in their transcripts"
    return [Problem("characters", file, sentence, cause=cause)]


def duplicate_problems(files: Iterable[str], *, name: str = "utterance") -> list[Problem]:
    """Report files with the same stem; the first one is kept, later ones are problems.

    Args:
        files: paths with forward slashes.
        name: what the stem identifies, for the message.
    """
    first: dict[str, str] = {}
    problems = []
    for file in files:
        stem = file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        if stem in first:
            sentence = f"{file} is the same {name} as {first[stem]}; remove one of them."
            problems.append(Problem("duplicate", file, sentence, cause=f"{AUDIO} repeat the {name} of another one"))
        else:
            first[stem] = file
    return problems


def shared_speakers(speakers: dict[str, set[str]]) -> list[tuple[str, str, list[str]]]:
    """Return the pairs of splits that share speakers, with these speakers.

    Args:
        speakers: the speakers of each split.
    """
    names = list(speakers)
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    return [(a, b, sorted(speakers[a] & speakers[b])) for a, b in pairs if speakers[a] & speakers[b]]


def count_warnings(counts: Iterable[tuple[str, int, int]]) -> list[str]:
    """Return a remark, if needed, on counts that differ from the published ones: a subset is fine, but not comparable.

    Args:
        counts: what is counted, how many there are, and the published number.
    """
    odd = [f"{what} {found:,} ({official:,})" for what, found, official in counts if found != official]
    if not odd:
        return []
    text = "these counts differ from the published ones (in brackets), so scores will not be comparable: "
    return [f"{text}{', '.join(odd)}."]
