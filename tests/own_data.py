"""Manifests of own data, made from mini-SUPERB's smallest Fluent Speech Commands: it has all that the tasks need."""

import csv
import json
from pathlib import Path

from upstream_elp.corpora import fluent
from upstream_elp.mini.superb import write_mini_superb

SPLITS = {"train": "train", "valid": "dev", "test": "test"}
SCRIPTS = str.maketrans({"a": "ä", "e": "ე", "o": "漢", "s": "ß", "t": "ŧ"})
"""Letters for others, of which some have no upper case, or one of two letters."""


def synthesise(folder: Path) -> Path:
    """Synthesise the corpora; returns the folder of Fluent Speech Commands."""
    write_mini_superb(folder, size="tiny", jobs=2)
    return folder / fluent.CORPUS.folder


def rows_of(root: Path) -> list[dict[str, str]]:
    """The corpus' utterances as the rows of a manifest next to its folders."""
    rows = []
    for split, ours in SPLITS.items():
        with (root / fluent.table_name(split)).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                slots = {slot: row[slot] for slot in fluent.SLOTS}
                common = {"path": row["path"], "split": ours, "speaker": row["speakerId"]}
                rows.append(
                    {**common, "text": row["transcription"].translate(SCRIPTS), "label": row["action"], **slots}
                )
    return rows


def write_csv(path: Path, rows: list[dict], *, columns: list[str] | None = None, coding: str = "utf-8") -> Path:
    """Write rows as comma-separated values."""
    with path.open("w", encoding=coding, newline="") as file:
        writer = csv.DictWriter(file, columns or list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path
