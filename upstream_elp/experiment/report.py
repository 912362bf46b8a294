"""The report of a run: ``results.json``, ``curves.png``, ``layer_weights.{png,csv}`` and a short table.

Everything comes from the experiment folder, except the facts that only the run itself knows
(:data:`upstream_elp.experiment.facts.FACTS`). These are kept in ``results.json``, so the report can be written again
from the folder only.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tabulate import tabulate

from downstream_heads import registry
from upstream_elp.base import energy
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import plain, whole_file
from upstream_elp.experiment.checkpoint import load_checkpoint
from upstream_elp.experiment.facts import FACTS, FORMAT, REPRODUCE, RESULTS, checkpoints, known_facts, read_results
from upstream_elp.experiment.layer_weights import named_layer_weights
from upstream_elp.experiment.logs import METRICS_LOG, TRAIN_LOG, Logs, read_logs, show, summarize
from upstream_elp.host.checkpoints import best_names
from upstream_elp.statistics import Interval


def write_report(expdir: Path, facts: Mapping[str, Any]) -> str:
    """Write the report of one experiment into its folder.

    Args:
        expdir: the experiment folder; ``train.jsonl``, ``metrics.jsonl`` and checkpoints may be missing.
        facts: values for keys of :data:`upstream_elp.experiment.facts.FACTS`.

    Returns:
        A short table.

    Raises:
        ElpError: no such folder, an unknown fact, or a file that cannot be written.
    """
    expdir = Path(expdir)
    if not expdir.is_dir():
        raise ElpError(f"{expdir}: no such experiment folder")
    if unknown := [key for key in facts if key not in FACTS]:
        raise ElpError(f"unknown fact {unknown[0]!r} for a report; the facts are: {', '.join(FACTS)}")
    logs = read_logs(expdir)
    adapted = str(plain(facts.get("args") or {}).get("upstream")).startswith("elp_")
    if unknown := [key for key in (*REPRODUCE, *(["adapter"] if adapted else [])) if not facts.get(key)]:
        logs.missing.append(f"not recorded: {', '.join(unknown)}")
    config = facts.get("config") or {}
    weights, checkpoint, step = _layers(expdir, config, logs)
    if step is None:
        step = _best_step(logs)
    results = {
        "format": FORMAT,
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **{key: plain(facts.get(key)) for key in FACTS},
        "metrics": {
            split: {name: summarize(points, name, chosen=step) for name, points in values.items()}
            for split, values in logs.curves.items()
        },
        "splits": logs.splits,
        "tests": logs.tests,
        "training": _training(logs),
        "best_checkpoint": checkpoint,
        "best_checkpoint_step": step,
        "layer_weights": [{"layer": name, "weight": weight} for name, weight in weights],
        "missing": logs.missing,
    }
    try:
        _write(expdir, results, logs, weights)
    except OSError as error:
        raise ElpError(f"cannot write the report into {expdir}: {error.strerror or error}") from error
    return table(results)


def rewrite(expdir: Path) -> dict[str, Any]:
    """Write a folder's report again, with the facts in its ``results.json`` or else in its checkpoint.

    Returns:
        The content of ``results.json``.

    Raises:
        ElpError: as for :func:`write_report`, or if the folder contains nothing to report on.
    """
    expdir = Path(expdir)
    if not expdir.is_dir():
        raise ElpError(f"{expdir}: no such experiment folder")
    results = expdir / RESULTS
    if not any(path.is_file() for path in (results, expdir / METRICS_LOG, expdir / TRAIN_LOG, *checkpoints(expdir))):
        raise ElpError(
            f"{expdir} contains neither {RESULTS} nor {METRICS_LOG} nor a checkpoint; train into it first, or name the "
            "folder of an experiment or of a sweep"
        )
    write_report(expdir, known_facts(expdir))
    return json.loads(results.read_text(encoding="utf-8"))


def add_tests(expdir: str | os.PathLike) -> None:
    """Add the evaluations of checkpoints to a folder's ``results.json``, if it has one.

    Raises:
        ElpError: if the file cannot be read.
    """
    path = Path(expdir) / RESULTS
    if not path.is_file():
        return
    _write_results(path, {**read_results(path), "tests": read_logs(Path(expdir)).tests})


def table(results: Mapping[str, Any]) -> str:
    """The results in a few lines: metrics with their best step, parameters, time, memory."""
    rows: list[tuple[str, str]] = []
    for split, values in results["metrics"].items():
        for name, point in values.items():
            if split != "train":
                shown = _shown(name, point, results["best_checkpoint_step"])
                rows.append((f"{split} {registry.metric(name).title}", shown))
    for line in results["tests"]:
        for name, value in line["metrics"].items():
            step = line.get("checkpoint_step")
            of = f"{line.get('checkpoint')}" + (f" at step {step:,}" if isinstance(step, int) else "")
            found = Interval.from_dict((line.get("intervals") or {}).get(name))
            margin = f" {found.margin}" if found else ""
            rows.append((f"{line['split']} {registry.metric(name).title}", f"{show(name, value)}{margin} of {of}"))
    rows += _selection(results["splits"])
    parts = results["parameters"] or {}
    trained = {name: count for name, count in parts.items() if name != "frozen" and count}
    if parts:
        each = ", ".join(f"{name} {count:,}" for name, count in trained.items())
        rows.append(("trained parameters", f"{sum(trained.values()):,}" + (f" ({each})" if len(trained) > 1 else "")))
    if parts.get("frozen") is not None:
        rows.append(("frozen parameters", f"{parts['frozen']:,}"))
    if results["seconds"] is not None:
        rows.append(("time", duration(results["seconds"])))
    if results["energy_joules"]:
        rows += [
            (f"energy of {energy.KINDS[kind]}", show_energy(joules))
            for kind, joules in results["energy_joules"].items()
        ]
    if results["peak_memory_bytes"] is not None:
        rows.append(("peak memory", f"{results['peak_memory_bytes'] / 2**30:.2f} GiB on {results['device']}"))
    for key in ("skipped_steps", "fp16_overflows", "skipped_files"):
        count = results[key] if isinstance(results[key], int) else len(results[key] or [])
        rows += [(key.replace("_", " "), f"{count:,}")] if count else []
    rows += [("not known", sentence) for sentence in results["missing"]]
    return tabulate(rows, tablefmt="simple", disable_numparse=True)


def duration(seconds: float) -> str:
    """``75`` -> ``1 min 15 s``."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def show_energy(joules: float) -> str:
    """``7200000`` -> ``2.00 kWh``, and ``81000`` -> ``22.5 Wh``."""
    hours = joules / energy.HOUR
    return f"{hours:.3g} Wh" if hours < 1000 else f"{hours / 1000:.3g} kWh"


def _selection(splits: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The fold, and the split on which the best checkpoint is chosen, if the protocol says so (maybe the test set)."""
    folds = sorted({facts["fold"] for facts in splits.values() if "fold" in facts})
    chosen = dict.fromkeys(
        (facts.get("protocol"), facts["selected_on"]) for facts in splits.values() if "selected_on" in facts
    )
    rows = [("protocol", f"{protocol}: the best checkpoint is chosen on {split}") for protocol, split in chosen]
    return [*rows, ("fold", ", ".join(folds))] if folds else rows


def _shown(name: str, point: Mapping[str, Any], step: int | None) -> str:
    last = f"{show(name, point['final'])} at step {point['final_step']:,}"
    if point["at_best_checkpoint"] is None or step == point["final_step"]:
        return last
    return f"{show(name, point['at_best_checkpoint'])} at step {step:,} (last: {last})"


def _training(logs: Logs) -> dict[str, Any] | None:
    """First and last loss, utterances and their rate; the seconds in ``train.jsonl`` include evaluations."""
    if not logs.train:
        return None
    utterances, seconds = (sum(line.get(key) or 0 for line in logs.train) for key in ("utterances", "seconds"))
    return {
        "steps": logs.train[-1]["step"],
        "epochs": logs.train[-1].get("epoch"),
        "loss_first": logs.train[0].get("loss"),
        "loss_last": logs.train[-1].get("loss"),
        "utterances": utterances,
        "seconds": round(seconds, 3),
        "utterances_per_second": round(utterances / seconds, 3) if seconds else None,
    }


def _layers(
    expdir: Path, config: Mapping[str, Any], logs: Logs
) -> tuple[list[tuple[str, float]], str | None, int | None]:
    """Layer weights, name and step of the first evaluated split's best checkpoint, or else of the latest one."""
    splits = (config.get("runner") or {}).get("eval_dataloaders") or []
    best = [expdir / name for split in splits for name in best_names(split)]
    path = next((path for path in [*best, *checkpoints(expdir)] if path.is_file()), None)
    if path is None:
        logs.missing.append("there is no checkpoint to read layer weights from")
        return [], None, None
    try:
        checkpoint = load_checkpoint(path)
        return named_layer_weights(checkpoint), path.name, checkpoint.step
    except ElpError as error:  # a report at the end of a long run must not fail over one damaged file
        logs.missing.append(str(error))
        return [], None, None


def _best_step(logs: Logs) -> int | None:
    """The step at which the first metric of an evaluated split was best, for a folder without checkpoints."""
    for split, values in logs.curves.items():
        for name, points in values.items():
            if split != "train" and name != "loss" and (step := summarize(points, name)["best_step"]) is not None:
                return step
    return None


def _write(expdir: Path, results: Mapping[str, Any], logs: Logs, weights: Sequence[tuple[str, float]]) -> None:
    from upstream_elp.experiment.curves import plot_curves, plot_layer_weights

    _write_results(expdir / RESULTS, results)
    plot_curves(logs, expdir / "curves.png")
    if not weights:
        return
    with whole_file(expdir / "layer_weights.csv", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("layer", "weight"), *weights])
    args, adapter = results["args"] or {}, results["adapter"] or {}
    names = [args.get("downstream"), adapter.get("name") or args.get("upstream"), results["best_checkpoint"]]
    plot_layer_weights(weights, expdir / "layer_weights.png", title=", ".join(str(name) for name in names if name))


def _write_results(path: Path, results: Mapping[str, Any]) -> None:
    with whole_file(path, encoding="utf-8") as file:
        file.write(json.dumps(plain(results), indent=2, allow_nan=False) + "\n")
