"""Write a manifest of your own data from a saved folder of Hugging Face's `datasets`, with its audio next to it.

    python recipes/prepare/from_datasets.py SAVED OUT --text sentence --label intent --speaker speaker_id

SAVED is what `save_to_disk` wrote: a data set with splits, or a single split, which becomes `train`. OUT gets
`manifest.jsonl` and a folder `audio`. Audio is copied as it is and not decoded. If SAVED has only the paths of files,
as text, the manifest has them too. It needs `pip install datasets`.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

SPLITS = {"train": "train", "validation": "dev", "valid": "dev", "dev": "dev", "test": "test"}
FORMATS = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff": ".mp3"}
"""Suffixes by the first bytes of a file, for audio without a name."""


def main() -> None:
    """Read the arguments and write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("saved", type=Path, help="the folder that save_to_disk wrote")
    parser.add_argument("out", type=Path, help="a folder that does not exist")
    parser.add_argument("--audio", default="audio", help="column of the audio")
    parser.add_argument("--text", help="column of the transcripts")
    parser.add_argument("--speaker", help="column of the speakers")
    parser.add_argument("--label", action="append", default=[], help="column of a label; may be repeated")
    given = parser.parse_args()
    if given.out.exists():
        sys.exit(f"{given.out} exists; name another folder")
    parts = _parts(given.saved)
    columns = {given.text: "text", given.speaker: "speaker", **{label: label for label in given.label}}
    columns.pop(None, None)
    for split, part in parts.items():
        if absent := [name for name in (given.audio, *columns) if name not in part.column_names]:
            sys.exit(f"{split} has no column {absent[0]}; its columns are {', '.join(part.column_names)}")
    (given.out / "audio").mkdir(parents=True)
    count = 0
    with (given.out / "manifest.jsonl").open("w", encoding="utf-8") as file:
        for split, part in parts.items():
            for row in _rows(part, split, given.audio, columns, given.out):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
    print(f"{given.out / 'manifest.jsonl'}: {count} rows")


def _parts(saved: Path) -> dict[str, Any]:
    """Return the splits by our names."""
    found = datasets.load_from_disk(str(saved))
    if not isinstance(found, datasets.DatasetDict):
        return {"train": found}
    parts: dict[str, Any] = {}
    for name, part in found.items():
        if name not in SPLITS or SPLITS[name] in parts:
            sys.exit(f"the splits must be train, validation and test at most, but one is {name}; rename or remove it")
        parts[SPLITS[name]] = part
    return parts


def _rows(part: Any, split: str, audio: str, columns: dict[str, str], out: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split, and write their audio."""
    classes = {name: part.features[name].names for name in columns if hasattr(part.features[name], "names")}
    part = part.cast_column(audio, datasets.Audio(decode=False))
    for number, row in enumerate(part):
        values = {ours: _value(row[theirs], classes.get(theirs)) for theirs, ours in columns.items()}
        yield {"path": _place(row[audio], out, f"{split}{number:06d}"), "split": split, **values}


def _value(value: Any, names: list[str] | None) -> str:
    """Return a value as text; the numbers of a ClassLabel are their names, and -1 means that there is none."""
    if value is None or (names is not None and value < 0):
        return ""
    return names[value] if names is not None else str(value)


def _place(audio: dict[str, Any], out: Path, name: str) -> str:
    """Return the path of the audio for the manifest, after writing its bytes if there are any."""
    content = audio["bytes"]
    if content is None:
        return str(Path(audio["path"]).absolute())
    suffix = Path(audio["path"] or "").suffix
    if not suffix:
        suffix = next((suffix for start, suffix in FORMATS.items() if content.startswith(start)), ".wav")
    (out / "audio" / f"{name}{suffix}").write_bytes(content)
    return f"audio/{name}{suffix}"


if __name__ == "__main__":
    main()
