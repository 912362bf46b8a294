"""Pure checks that more than one corpus needs; each returns problems and touches no file."""

from collections.abc import Iterable

from upstream_elp.prepare.headers import Header
from upstream_elp.prepare.report import Problem

SAMPLE_RATE = 16_000
MIN_SAMPLES = 400  # one frame of the backbones' convolutional front end: 25 ms
# letters of SUPERB's ASR dictionary; the space is its word boundary "|"
CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")


def audio_problems(
    file: str, header: Header, *, sample_rate: int = SAMPLE_RATE, min_samples: int = MIN_SAMPLES
) -> list[Problem]:
    """Check that a file can be read, is mono, has the sample rate and is long enough.

    Args:
        file: the file as the report shall name it.
        header: what is known of it.
        sample_rate: required rate in Hz.
        min_samples: smallest number of samples that a backbone takes.
    """
    if header.error:
        return [Problem("unreadable", file, f"{file} cannot be read: {header.error}.")]
    problems = []
    if header.rate != sample_rate:
        text = f"{file} has {header.rate} samples a second instead of {sample_rate}; convert it."
        problems.append(Problem("rate", file, text))
    if header.channels != 1:
        problems.append(
            Problem("channels", file, f"{file} has {header.channels} channels instead of one; mix it down.")
        )
    if header.samples < min_samples:
        text = f"{file} has {header.samples} samples, fewer than the {min_samples} that a backbone needs."
        problems.append(Problem("short" if header.samples else "empty", file, text))
    return problems


def transcript_problems(
    file: str, text: str | None, *, where: str, characters: frozenset[str] = CHARACTERS
) -> list[Problem]:
    """Check that a transcript exists, says something, and has only letters of the dictionary (in either case).

    Args:
        file: the audio file.
        text: its transcript, or None where there is none.
        where: the file that holds or should hold the transcript.
        characters: the dictionary, upper case.
    """
    if text is None:
        return [Problem("missing-transcript", file, f"{file} has no transcript in {where}.")]
    if not text.strip():
        return [Problem("empty-transcript", file, f"{file} has an empty transcript in {where}.")]
    strange = sorted(set(text.upper()) - characters)
    if not strange:
        return []
    shown = " ".join(repr(character) for character in strange)
    letters = "A-Z, ' and space" if characters == CHARACTERS else f"{len(characters)} symbols"
    sentence = f"{file} has characters outside the dictionary ({letters}) in its transcript in {where}: {shown}."
    return [Problem("characters", file, sentence)]


def duplicate_problems(files: Iterable[str], *, name: str = "utterance") -> list[Problem]:
    """Report files of the same stem; the first one stays, the later ones are the problem.

    Args:
        files: paths with forward slashes.
        name: what a stem names, for the sentence.
    """
    first: dict[str, str] = {}
    problems = []
    for file in files:
        stem = file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        if stem in first:
            problems.append(
                Problem("duplicate", file, f"{file} is the same {name} as {first[stem]}; remove one of them.")
            )
        else:
            first[stem] = file
    return problems


def shared_speakers(speakers: dict[str, set[str]]) -> list[tuple[str, str, list[str]]]:
    """Return the pairs of splits that share speakers, with these.

    Args:
        speakers: the speakers of each split.
    """
    names = list(speakers)
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    return [(a, b, sorted(speakers[a] & speakers[b])) for a, b in pairs if speakers[a] & speakers[b]]


def count_warnings(counts: Iterable[tuple[str, int, int]]) -> list[str]:
    """Return one remark, or none, on counts that are not the published ones: a subset is fine, but not comparable.

    Args:
        counts: what is counted, how many there are, how many were published.
    """
    odd = [f"{what} {found:,} ({official:,})" for what, found, official in counts if found != official]
    if not odd:
        return []
    text = "these counts are not the published ones (in brackets), so scores will not be comparable: "
    return [f"{text}{', '.join(odd)}."]
