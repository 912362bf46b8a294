"""Layer selections and sizes as users write them, resolved for a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from upstream_elp.base.errors import ElpError, shown

SIZE_MULTIPLE = 8
"""Relative sizes are rounded to a multiple of this number."""
YAML_BASE = 60
"""YAML 1.1 reads an unquoted ``1:3`` as a number in this base, 63."""


def resolve_layers(spec: str | int | list[int], layers: int, *, where: str = "layers") -> tuple[int, ...]:
    """Turn a layer selection into indices, counted from 0 at the input side.

    Args:
        spec: ``all``; a slice such as ``:-1`` (all but the last) or ``2:``; an inclusive range such as ``0-10``;
            ``top:4`` (the four nearest the output) or ``top:1/3`` (that share of the layers, rounded, at least one);
            one index; or a list of indices.
        layers: number of encoder layers.
        where: key to name in errors.

    Raises:
        ElpError: an unreadable or empty selection, or an index outside the model.
    """
    chosen = _parse(spec, layers, where)
    outside = next((index for index in chosen if not 0 <= index < layers), None)
    if outside is not None or not chosen:
        found = "no layer" if outside is None else f"layer {outside}"
        sexagesimal = str(spec).isdecimal() and int(spec) >= YAML_BASE
        hint = "; in YAML a slice needs quotes: '1:3'" if sexagesimal else ""
        raise ElpError(f"{where}: {shown(spec)} selects {found}, but the model has the layers 0-{layers - 1}{hint}")
    if len(set(chosen)) != len(chosen):
        raise ElpError(f"{where}: {shown(spec)} names a layer twice; name it once")
    return tuple(sorted(chosen))


def _parse(spec: str | int | list[int], layers: int, where: str) -> Sequence[int]:
    """Return the indices as written; ranges stay ranges, since they may reach far beyond the model."""
    if isinstance(spec, list):
        return spec
    text = str(spec).strip()
    if text == "all":
        return range(layers)
    if re.fullmatch(r"\d+", text):
        return [int(text)]
    if match := re.fullmatch(r"top:(\d+)", text):
        return range(layers - int(match[1]), layers)
    if match := re.fullmatch(r"top:(\d+/0*[1-9]\d*)", text):
        share = Fraction(match[1])
        count = max(1, round(share * layers)) if share else 0
        return range(layers - count, layers)
    if match := re.fullmatch(r"(\d+)-(\d+)", text):
        return range(int(match[1]), int(match[2]) + 1)
    if match := re.fullmatch(r"(-?\d+)?:(-?\d+)?", text):
        start, stop = (int(group) if group else None for group in match.groups())
        return range(layers)[start:stop]
    raise ElpError(
        f"{where}: cannot read {shown(spec)}; write all, :-1, 0-10, top:4, top:1/3, one index, or a list of indices"
    )


def resolve_size(spec: str | int, width: int, *, where: str = "size") -> int:
    """Turn an absolute or relative size into a number of units.

    Args:
        spec: an integer, or a fraction of ``width`` such as ``1/3``, which is rounded to a multiple of 8, at least 8.
        width: the model's width.
        where: key to name in errors.

    Raises:
        ElpError: not a positive size.
    """
    text = str(spec).strip()
    if re.fullmatch(r"\d+/0*[1-9]\d*", text):
        exact = Fraction(text) * width
        size = max(SIZE_MULTIPLE, SIZE_MULTIPLE * round(exact / SIZE_MULTIPLE)) if exact > 0 else 0
    elif re.fullmatch(r"-?\d+", text):
        size = int(text)
    else:
        raise ElpError(
            f"{where}: cannot read the size {shown(spec)}; write an integer or a fraction of the width like 1/3"
        )
    if size <= 0:
        raise ElpError(f"{where}: the size must be positive, but is {shown(spec)}")
    return size


def resolve_sizes(
    sizes: str | int | Mapping[str | int, str | int],
    selection: str | int | list[int],
    layers: int,
    width: int = 1,
    *,
    where: str = "method",
    key: str = "size",
) -> dict[int, int]:
    """Return the size of each selected layer.

    Args:
        sizes: one size for all layers, or a mapping from layer selections to sizes, as in :func:`resolve_layers` and
            :func:`resolve_size`. A mapping must name every selected layer once and no other layer. If the selection is
            ``all``, the mapping itself is the selection: layers without a size get no adapter.
        selection: the method's ``layers``.
        layers: number of encoder layers.
        width: the model's width, for sizes that are relative to it.
        where: method to name in errors.
        key: option of the method to name in errors.

    Returns:
        Sizes by layer index, in the order of the layers.

    Raises:
        ElpError: an unreadable selection or size, or a layer that has two sizes, has none, or is not selected.
    """
    place = f"{where}.{key}"
    if not isinstance(sizes, Mapping):
        size = resolve_size(sizes, width, where=place)
        return dict.fromkeys(resolve_layers(selection, layers, where=f"{where}.layers"), size)
    given = _sizes_given(sizes, layers, width, place)
    chosen = given if selection == "all" else resolve_layers(selection, layers, where=f"{where}.layers")
    for index in range(layers):
        if (index in given) != (index in chosen):
            fault, selects = ("has no size", "selects") if index in chosen else ("has a size", "does not select")
            raise ElpError(f"{place} {fault} for layer {index}, which {where}.layers {selects}; correct one of them")
    return {index: given[index] for index in sorted(given)}


def _sizes_given(sizes: Mapping[str | int, str | int], layers: int, width: int, where: str) -> dict[int, int]:
    """Return the size of every layer that a mapping names."""
    given: dict[int, int] = {}
    origin: dict[int, str | int] = {}
    for part, size in sizes.items():
        number = resolve_size(size, width, where=f"{where}[{part}]")
        for index in resolve_layers(part, layers, where=where):
            if index in given:
                both = f"in {shown(origin[index])} and in {shown(part)}"
                raise ElpError(f"{where} has two sizes for layer {index}, {both}; keep one of them")
            given[index], origin[index] = number, part
    return given


def each_size(sizes: str | int | Mapping[str | int, str | int], where: str) -> Iterator[tuple[str, str | int]]:
    """Yield each size of an option with its name in errors; there is one for all layers or one per selection."""
    if not isinstance(sizes, Mapping):
        yield where, sizes
        return
    for part, size in sizes.items():
        yield f"{where}[{part}]", size
