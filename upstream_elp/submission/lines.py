"""One file of predictions: its encoding, the form of its lines, and its keys against those of the test set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from upstream_elp.base.errors import ElpError, counted
from upstream_elp.submission.layout import Part

_ODD = re.compile(rb"[^ -~\n]")


def read_predictions(content: bytes, part: Part, *, where: str) -> dict[str, str]:
    """Read a file of predictions as the site does, but refuse what the site would skip or misread.

    The site skips a file that is not plain text, strips its lines, splits them once and lets the last of several
    lines with one key win, without a word about any of it.

    Args:
        content: the file's bytes.
        part: the part of the submission that it is for.
        where: the file, for messages.

    Returns:
        The answer of each key, in the file's order.

    Raises:
        ElpError: another encoding, a line of another form, or a key that appears twice.
    """
    _check_encoding(content, where)
    found: dict[str, str] = {}
    for number, line in enumerate(content.decode("ascii").split("\n")[:-1], start=1):
        place = f"{where} line {number}"
        key, _, answer = line.partition(part.separator)
        if not key or key != key.strip() or not line.strip():
            raise ElpError(f"{place} must begin with the name of an utterance, but is {line[:80]!r}; evaluate again")
        if fault := part.fault(answer):
            raise ElpError(f"{place}: the answer for {key} {fault}, but is {answer[:80]!r}; evaluate again")
        if key in found:
            raise ElpError(
                f"{place}: the key {key} must appear once, but appears again (the site would take the last line); "
                "evaluate again"
            )
        found[key] = answer
    return found


def _check_encoding(content: bytes, where: str) -> None:
    """Raise an error unless the bytes are lines of printable ASCII, each with its newline: surely text/plain."""
    if not content:
        raise ElpError(f"{where} must contain predictions, but is empty; evaluate again")
    if odd := _ODD.search(content):
        line = content.count(b"\n", 0, odd.start()) + 1
        raise ElpError(
            f"{where} line {line} must be printable ASCII text with Unix line ends, but has the byte "
            f"0x{odd.group()[0]:02x} (the site silently skips files that are not plain text); save the file as ASCII"
        )
    if not content.endswith(b"\n"):
        raise ElpError(f"{where} must end with a newline, but its last line has none, so it may be cut; evaluate again")


def check_keys(
    predicted: Collection[str], expected: Collection[str], *, where: str, others: Mapping[str, Collection[str]] = {}
) -> None:
    """Check that a file answers the whole test set and nothing else.

    Args:
        predicted: the keys of the file.
        expected: the keys of the test set.
        where: the file, for messages.
        others: other test sets by name, to say where unknown keys belong.

    Raises:
        ElpError: a key is missing or unknown.
    """
    unknown = _without(predicted, expected)
    if unknown:
        owners = Counter(name for name, keys in others.items() for key in unknown if key in keys)
        hint = f" (those of {owners.most_common(1)[0][0]})" if owners else ""
        raise ElpError(
            f"{where} must contain only keys of the test set, but has {counted(len(unknown), 'other key')}{hint}, such "
            f"as {unknown[0]} (the site would give no score); evaluate the right test set"
        )
    missing = _without(expected, predicted)
    if missing:
        raise ElpError(
            f"{where} must answer the whole test set, but {counted(len(missing), 'key')} of {len(expected):,} "
            f"{'is' if len(missing) == 1 else 'are'} missing, such as {missing[0]} (the site would silently score the "
            f"{counted(len(predicted), 'other')}); evaluate again"
        )


def checked(
    contents: Mapping[Part, bytes], expected: Mapping[Part, Mapping[str, str]], *, names: Mapping[Part, str]
) -> dict[Part, dict[str, str]]:
    """Read files of predictions and check each against its test set.

    Args:
        contents: the bytes of each part's file.
        expected: the true answer of each key, by part.
        names: what to call each file in messages.

    Returns:
        The answers of each part by key.

    Raises:
        ElpError: a file has another encoding or form, or its keys are not those of the test set.
    """
    found = {}
    for part, content in contents.items():
        found[part] = read_predictions(content, part, where=names[part])
        others = {other.name: keys for other, keys in expected.items() if other is not part}
        check_keys(found[part], expected[part], where=names[part], others=others)
    return found


def _without(keys: Collection[str], known: Collection[str]) -> Sequence[str]:
    known = known if isinstance(known, set | dict | frozenset) else set(known)
    return [key for key in keys if key not in known]
