"""Layer selections and sizes as users write them, resolved for one model."""

from __future__ import annotations

import re
from fractions import Fraction

from upstream_elp.errors import ElpError

SIZE_MULTIPLE = 8
"""Relative sizes are rounded to a multiple of this."""
YAML_BASE = 60
"""YAML 1.1 reads an unquoted ``1:3`` as a number to this base, 63."""


def resolve_layers(spec: str | int | list[int], layers: int, *, where: str = "layers") -> tuple[int, ...]:
    """Turn a layer selection into indices, counted from 0 at the input side.

    Args:
        spec: ``all``; a slice such as ``:-1`` (all but the last) or ``2:``; an inclusive range ``0-10``; ``top:4`` (the
            four nearest the output) or ``top:1/3`` (that share of the layers, rounded, at least one); one index; or a
            list of indices.
        layers: number of encoder layers.
        where: key to name in errors.

    Raises:
        ElpError: unreadable selection, empty selection, or an index outside the model.
    """
    chosen = _parse(spec, layers, where)
    outside = [index for index in chosen if not 0 <= index < layers]
    if outside or not chosen:
        found = f"layer {outside[0]}" if outside else "no layer"
        hint = "; in YAML a slice needs quotes: '1:3'" if isinstance(spec, int) and spec >= YAML_BASE else ""
        raise ElpError(f"{where}: {spec!r} selects {found}, but the model has the layers 0-{layers - 1}{hint}")
    if len(set(chosen)) != len(chosen):
        raise ElpError(f"{where}: {spec!r} names a layer twice")
    return tuple(sorted(chosen))


def _parse(spec: str | int | list[int], layers: int, where: str) -> list[int]:
    if isinstance(spec, list):
        return list(spec)
    text = str(spec).strip()
    if text == "all":
        return list(range(layers))
    if re.fullmatch(r"\d+", text):
        return [int(text)]
    if match := re.fullmatch(r"top:(\d+)", text):
        count = int(match[1])
        return list(range(layers - count, layers))
    if match := re.fullmatch(r"top:(\d+/0*[1-9]\d*)", text):
        share = Fraction(match[1])
        count = max(1, round(share * layers)) if share else 0
        return list(range(layers - count, layers))
    if match := re.fullmatch(r"(\d+)-(\d+)", text):
        return list(range(int(match[1]), int(match[2]) + 1))
    if match := re.fullmatch(r"(-?\d+)?:(-?\d+)?", text):
        start, stop = (int(group) if group else None for group in match.groups())
        return list(range(layers))[start:stop]
    raise ElpError(
        f"{where}: cannot read {spec!r}; write all, :-1, 0-10, top:4, top:1/3, one index, or a list of indices"
    )


def resolve_size(spec: str | int, width: int, *, where: str = "size") -> int:
    """Turn an absolute or relative size into a number of units.

    Args:
        spec: an integer, or a fraction of ``width`` such as ``1/3``, rounded to a multiple of 8 and at least 8.
        width: the model's width.
        where: key to name in errors.

    Raises:
        ElpError: if it is not a positive size.
    """
    text = str(spec).strip()
    if re.fullmatch(r"\d+/0*[1-9]\d*", text):
        exact = Fraction(text) * width
        size = max(SIZE_MULTIPLE, SIZE_MULTIPLE * round(exact / SIZE_MULTIPLE)) if exact > 0 else 0
    elif re.fullmatch(r"-?\d+", text):
        size = int(text)
    else:
        raise ElpError(f"{where}: cannot read the size {spec!r}; write an integer or a fraction of the width like 1/3")
    if size <= 0:
        raise ElpError(f"{where}: the size must be positive, got {spec!r}")
    return size
