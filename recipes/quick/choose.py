"""Write the learning rates that a search has chosen on dev into the quick recipes.

    elp mini-superb data
    elp mini-backbone backbone.pt --pretrained
    elp sweep recipes/quick/rates.yaml --out result/rates
    python recipes/quick/choose.py result/rates

The rates are the block `methods` at the end of each `recipes/tasks/*_quick.yaml`. The whole grid with the values on dev
stays in `result/rates/search.csv`, which goes to `recipes/quick/rates.csv`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import pandas as pd
import yaml

from downstream_heads import registry
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import write_text
from upstream_elp.sweep.names import apart

RECIPES = Path(__file__).parents[1] / "tasks"
GRID = Path(__file__).parent / "rates.csv"
MARK = (
    "# The rates below were chosen on dev, among equally many for every method. recipes/quick/choose.py writes them.\n"
)
UPSTREAMS = {"fbank": "fbank_scaled"}


def nested(keys: dict[str, Any]) -> dict[str, Any]:
    """Turn dotted keys, of which several may have one value, into blocks."""
    content: dict[str, Any] = {}
    for key, value in apart(keys).items():
        block = content
        *parts, last = key.split(".")
        for part in parts:
            block = block.setdefault(part, {})
        block[last] = value
    return content


def chosen(rows: list[dict[str, Any]], task: str) -> dict[str, Any]:
    """Return a task's block `methods`.

    Raises:
        ElpError: the search of a method has not ended.
    """
    of_task = [row for row in rows if row["task"] == task]
    found = {row["method"]: nested(row["searched"]) for row in of_task if row["chosen"]}
    if lacking := sorted({row["method"] for row in of_task} - set(found)):
        raise ElpError(f"the search of {task} must have ended, but {', '.join(lacking)} has no choice; run it again")
    return {UPSTREAMS.get(method, method): values for method, values in found.items()}


def merged(path: Path, methods: dict[str, Any]) -> dict[str, Any]:
    """Add what the file's entries say about anything but the optimizer."""
    known = yaml.safe_load(path.read_text(encoding="utf-8")).get("methods", {})
    others = {name: {key: block for key, block in entry.items() if key != "optimizer"} for name, entry in known.items()}
    return {name: {**others.get(name, {}), **entry} for name, entry in methods.items()}


def written(methods: dict[str, Any]) -> str:
    """The block as YAML, with floats that YAML reads as floats."""
    text = yaml.safe_dump({"methods": {**methods, "others": {}}}, sort_keys=False, width=100)
    return MARK + text


@click.command()
@click.argument("sweeps", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(sweeps: tuple[Path, ...]) -> None:
    """Write the rates that the searches in the folders SWEEPS have chosen, one for all tasks or one per task."""
    rows = [row for sweep in sweeps for row in json.loads((sweep / "search.json").read_text(encoding="utf-8"))]
    blocks = {task: chosen(rows, task) for task in dict.fromkeys(row["task"] for row in rows)}
    for task, methods in blocks.items():
        path = RECIPES / registry.find(task).quick
        kept = path.read_text(encoding="utf-8").partition("\nmethods:")[0].removesuffix(MARK.rstrip("\n")).rstrip("\n")
        write_text(path, f"{kept}\n\n{written(merged(path, methods))}")
        click.echo(f"{path}: {', '.join(methods)}")
    tables = pd.concat([pd.read_csv(sweep / "search.csv") for sweep in sweeps])
    tables.drop(columns=["backbone", "fold"]).to_csv(GRID, index=False)


if __name__ == "__main__":
    try:
        main()
    except ElpError as error:
        sys.exit(f"error: {error}")
