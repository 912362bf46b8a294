"""How to repeat a sweep: its plan, the commands of its runs, and the versions, data and backbones that it used."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from downstream_heads import registry
from upstream_elp.experiment.existing import starter
from upstream_elp.summary.document import UNKNOWN, Block, Code, Table
from upstream_elp.summary.runs import Run, Sweep

PLAN, COMMANDS = "plan.yaml", "commands.sh"
HASH = 16
"""Characters of a sha256 that tables show; ``report.json`` has all."""
THREADS = "OMP_NUM_THREADS"


def plan_text(sweep: Sweep) -> str:
    """The plan as a file for ``elp sweep``; empty if the folder does not have it."""
    if not sweep.content:
        return ""
    content = {"name": sweep.name, **{key: value for key, value in sweep.content.items() if key != "name"}}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def again(sweep: Sweep) -> str:
    """The lines that carry out the whole sweep again."""
    started, lines = sweep.started, []
    if started:
        lines += [f"cd {shlex.quote(started['folder'])}", shlex.join(started["command"])]
    else:
        lines += [f"elp sweep {shlex.quote(sweep.plan)} --out {shlex.quote(str(sweep.folder))}"]
    return "\n".join(lines)


def commands(sweep: Sweep) -> str:
    """A script that trains and tests every tested run again, one by one, into a new folder."""
    runs = sweep.tested
    lines = [
        "#!/usr/bin/env bash",
        f"# Trains and tests the runs of the sweep {sweep.name} again: bash {COMMANDS} NEW_FOLDER",
        "set -euo pipefail",
        'new="${1:?name a new folder}"',
    ]
    threads = {str((run.results.get("environment") or {}).get(THREADS) or "") for run in runs} - {""}
    if len(threads) == 1:  # on a CPU, the last digits depend on it
        lines.append(f"export {THREADS}={shlex.quote(threads.pop())}")
    for run in runs:
        # the commands make an absolute folder of every run's part of its path
        place = "/".join(run.job.path.parts[-3:])
        checkpoint = Path(str(run.test.get("checkpoint") or "")).name
        lines += ["", f"# {run.job.title}", _line(run.job.fresh_argv(f"{_NEW}/{place}"), run.job.processes)]
        lines.append(_line(run.job.test_argv(Path(f"{_NEW}/{place}/{checkpoint}"))))
    return "\n".join(lines) + "\n"


_NEW = "NEW_FOLDER"


def _line(argv: Iterable[str], processes: int = 1) -> str:
    words = [f'"$new"/{shlex.quote(word[len(_NEW) + 1 :])}' if word.startswith(f"{_NEW}/") else shlex.quote(word)
             for word in argv]  # fmt: skip
    return " ".join([starter(processes), *words])


# what was used -----------------------------------------------------------------------------------------------------


def used(sweep: Sweep) -> dict[str, Any]:
    """Versions, devices, backbones and data of all runs that have ended, each value once, as plain values."""
    runs = [run for run in sweep.runs if run.results is not None]
    versions = [run.results.get("versions") or {} for run in runs]
    packages = dict.fromkeys(package for each in versions for package in each)
    return {
        "versions": {package: _distinct(each.get(package) for each in versions) for package in packages},
        "devices": _distinct(run.results.get("device") for run in runs),
        "threads": _distinct((run.results.get("environment") or {}).get(THREADS) for run in runs),
        "backbones": _distinct(_backbone(run) for run in runs if run.results.get("backbone")),
        "data": _distinct(
            {"task": run.job.task, "fold": run.job.fold, "split": split, **facts}
            for run in runs
            for split, facts in (run.results.get("data") or {}).items()
        ),
    }


def _backbone(run: Run) -> dict[str, Any]:
    found = run.results["backbone"]
    return {"backbone": run.job.backbone, "place": run.job.place or found.get("name"), "sha256": found.get("sha256")}


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return found


def blocks(sweep: Sweep) -> list[Block]:
    """The section of the report."""
    facts, plan = used(sweep), plan_text(sweep)
    parts: list[Block] = [Code("The last call of this sweep:", again(sweep), language="bash")]
    if plan:
        text = f"The plan, {PLAN} next to this page; elp sweep {PLAN} --out NEW_FOLDER carries it out anew"
        parts.append(Code(f"{text}. Its paths are relative to the folder of that call.", plan, language="yaml"))
    if sweep.tested:
        title = f"The commands of all tested runs ({COMMANDS} next to this page)"
        parts.append(Code(title, commands(sweep), long=True, language="bash"))
    if facts["versions"]:
        rows = [[package, ", ".join(found)] for package, found in facts["versions"].items()]
        parts.append(Table("versions", "Versions of all runs.", ["package", "version"], rows, ["left", "left"]))
    said = ", ".join(map(str, facts["devices"]))
    threads = f"; {THREADS}={', '.join(map(str, facts['threads']))}" if facts["threads"] else ""
    parts += [f"Devices: {said}{threads}."] if said else []
    if facts["backbones"]:
        rows = [[str(each["backbone"]), str(each["place"]), _short(each["sha256"])] for each in facts["backbones"]]
        caption = "Backbones, with the beginning of the sha256 of their tensors."
        parts.append(Table("backbones", caption, ["backbone", "place", "sha256"], rows, ["left"] * 3))
    if facts["data"]:
        parts.append(_data(facts["data"]))
    return parts


def _data(found: Sequence[dict[str, Any]]) -> Table:
    rows = [
        [
            registry.described(each["task"]).title, each["fold"] or UNKNOWN, each["split"], f"{each['files']:,}",
            f"{each['bytes']:,}", _short(each["sha256"]),
        ]
        for each in found
    ]  # fmt: skip
    caption = "Data: the beginning of the sha256 of the names and sizes of each split's files."
    headers = ["task", "fold", "split", "files", "bytes", "sha256"]
    return Table("data", caption, headers, rows, ["left", "left", "left", "right", "right", "left"])


def _short(sha256: str | None) -> str:
    return UNKNOWN if sha256 is None else sha256[:HASH]
