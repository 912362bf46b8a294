"""Draw the splits that a manifest lacks: whole speakers, by a seed, and written down as a new manifest."""

import csv
import hashlib
import io
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.files import write_text
from upstream_elp.base.problems import refuse
from upstream_elp.corpora.manifest import PATH, SPEAKER, SPLIT
from upstream_elp.corpora.tables import composed, is_table, read_table

TRAIN = "train"
LEAST = 2
"""Fewest speakers of a drawn split, as speaker verification compares speakers."""


@dataclass
class Drawn:
    """What was drawn.

    Attributes:
        by: the column whose values were kept together.
        groups: how many values of it each split has.
        rows: how many rows each split has.
    """

    by: str
    groups: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


def draw_splits(manifest: Path, out: Path, *, shares: Mapping[str, float], seed: int) -> Drawn:
    """Write a manifest again with the splits that it lacks; rows of these come from train, or from rows without one.

    All rows of a speaker get the same split; without a column ``speaker``, all rows of a file do. Speakers are ordered
    by a hash of the seed and their names, so that the draw is the same everywhere.

    Args:
        manifest: the manifest.
        out: the new one, in the form that its ending says; paths stay valid from its folder.
        shares: the share of the rows of each split to draw; 0 draws none.
        seed: seed of the draw.

    Raises:
        ElpError: the manifest cannot be read or has these splits already, or there are too few speakers.
    """
    if not is_table(out):
        raise ElpError(f"{out} must end in .csv or .jsonl; rename it")
    if out.exists():
        raise ElpError(f"{out} already exists; remove it, or choose another name")
    table = read_table(manifest)
    if not table.problems and PATH not in table.columns:
        raise ElpError(f"{manifest} has no column {PATH}; add it")
    refuse(table.problems, manifest)
    rows = [row for _, row in table.rows]
    splits = [row.get(SPLIT, "") or TRAIN for row in rows]
    wanted = {split: share for split, share in shares.items() if share > 0 and split not in splits}
    if not wanted:
        raise ElpError(f"{manifest} has the splits {', '.join(sorted(set(splits)))} already; there is nothing to draw")
    by = SPEAKER if SPEAKER in table.columns else PATH
    _draw(rows, splits, by, wanted, seed=seed, manifest=manifest)
    moved = os.path.relpath(manifest.absolute().parent, out.absolute().parent)
    for row, split in zip(rows, splits, strict=True):
        row[SPLIT] = split
        if moved != os.curdir:
            row[PATH] = os.path.normpath(Path(moved, row[PATH]))
    _write(out, rows, list(dict.fromkeys([*table.columns, SPLIT])))
    found = Drawn(by, rows=dict(Counter(splits)))
    found.groups = {split: len({row[by] for row in rows if row[SPLIT] == split}) for split in found.rows}
    return found


def _draw(
    rows: list[dict[str, str]], splits: list[str], by: str, wanted: Mapping[str, float], *, seed: int, manifest: Path
) -> None:
    """Change some rows of train to the wanted splits."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        if splits[place] == TRAIN:
            groups[composed(row[by])].append(place)
    if "" in groups:
        raise ElpError(f"{manifest} has no {by} in {counted(len(groups['']), 'row')}; add it")
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    least = LEAST * len(wanted) + 1
    if len(order) < least:
        what = counted(len(order), "different value", "different values")
        raise ElpError(f"{manifest} must have at least {least} different values of {by} to draw from, but has {what}")
    for split, share in wanted.items():
        rest = LEAST * (len(wanted) - 1) + 1 if split == next(iter(wanted)) else 1
        target, taken, count = math.ceil(share * len(rows)), 0, 0
        while len(order) > rest and (count < LEAST or taken < target):
            members = groups[order.pop(0)]
            taken, count = taken + len(members), count + 1
            for place in members:
                splits[place] = split


def _write(out: Path, rows: list[dict[str, str]], columns: list[str]) -> None:
    text = io.StringIO()
    if out.suffix.lower() == ".jsonl":
        text.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    else:
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_text(out, text.getvalue())
