"""The values of a report for programs: rows of plain values for CSV, and everything for JSON."""

from __future__ import annotations

from typing import Any

from downstream_heads import registry
from upstream_elp.base.energy import KINDS
from upstream_elp.statistics import Comparison
from upstream_elp.submission.scoring import points_of
from upstream_elp.summary import reproduce
from upstream_elp.summary.course import bands
from upstream_elp.summary.outcomes import Outcome
from upstream_elp.summary.runs import Run
from upstream_elp.summary.sections import Found
from upstream_elp.summary.tables import of_site
from upstream_elp.sweep import search
from upstream_elp.sweep.jobs import FINAL, dev_value
from upstream_elp.sweep.names import written

FORMAT = 1


def everything(found: Found) -> dict[str, Any]:
    """The content of ``report.json``."""
    sweep = found.sweep
    return {
        "format": FORMAT,
        "name": sweep.name,
        "description": sweep.description,
        "source": sweep.source,
        "state": sweep.counts,
        "waiting": sweep.waiting,
        "compare": sweep.compare.to_dict(),
        "cells": [{**cell(each), "each_seed": each.of_seeds, "folds": dict(each.folds)} for each in found.cells],
        "runs": [{**run(each), "layer_weights": (each.results or {}).get("layer_weights")} for each in sweep.runs],
        "search": search.grid(sweep.searches),
        "used": reproduce.used(sweep),
        "started": dict(sweep.started),
        "plan": dict(sweep.content),
    }


def frames(found: Found) -> dict[str, list[dict[str, Any]]]:
    """The rows of each CSV file by its name."""
    grid = [
        {**search.flat(row), "seeds": " ".join(map(str, row["seeds"]))} for row in search.grid(found.sweep.searches)
    ]
    return {
        "results": [cell(each) for each in found.cells],
        "runs": [_flat(run(each)) for each in found.sweep.runs],
        "search": grid,
        "layers": [
            {"task": point.outcome.first.task, "series": point.series, "layers": point.layers, **_value(point.outcome)}
            for each in found.layers.values()
            for point in each.points
        ],
        "layer_weights": [{**_named(each), **one} for each in found.cells for one in each.layer_weights],
        "curves": [{**_named(each), **line} for each in found.cells for line in bands(each).to_dict(orient="records")],
    }


def _named(each: Outcome) -> dict[str, Any]:
    return {"task": each.first.task, "method": each.name}


def _value(each: Outcome) -> dict[str, Any]:
    return {"value": each.value.value, "se": each.value.se, "low": each.value.low, "high": each.value.high}


def cell(each: Outcome) -> dict[str, Any]:
    """One cell; ``se``, ``low`` and ``high`` are over speakers and seeds, ``speaker_se`` over speakers only."""
    point = of_site(each)
    return {
        **_named(each),
        "backbone": each.first.backbone,
        "setting": written(each.first.varied),
        "chosen": each.chosen,
        "metric": each.task.main_metric,
        "higher_is_better": each.task.higher_is_better,
        **_value(each),
        "speaker_se": each.value.cluster_se,
        "speakers": each.value.clusters,
        "rough": each.value.rough,
        "seeds": len(each.items),
        "seeds_planned": each.seeds_planned,
        "seed_sd": each.value.seed_sd,
        "also": each.also and each.also.value,
        "chance": each.chance,
        "items": len(next(iter(each.items.values()))),
        "mark": each.mark,
        **_compared("best", each.best),
        **_compared("baseline", each.baseline),
        "margin": each.margin,
        "non_inferior": each.non_inferior,
        "not_compared": each.uncompared,
        "trained": each.trained,
        "pareto": each.pareto,
        "head": each.head,
        "steps": each.first.steps,
        "train_seconds": each.seconds,
        **{f"{kind}_joules": each.energy(kind) for kind in KINDS},
        "peak_memory_bytes": each.memory,
        "superb_points": points_of({point: each.value.value})[point] if point else None,
    }


def _compared(name: str, found: Comparison | None) -> dict[str, float | None]:
    return {
        f"{name}_{key}": found and getattr(found, attribute)
        for key, attribute in (
            ("difference", "difference"), ("se", "se"), ("low", "low"), ("high", "high"), ("p", "p"),
            ("p_holm", "p_holm"), ("seeds", "seeds"),
        )
    }  # fmt: skip


def run(each: Run) -> dict[str, Any]:
    """One run, also if it has not ended."""
    job, task, results = each.job, registry.described(each.job.task), each.results or {}
    parameters = results.get("parameters") or {}
    test = each.test or {}
    return {
        "task": job.task,
        "method": job.method,
        "backbone": job.backbone,
        "fold": job.fold,
        "seed": job.seed,
        "setting": written(job.varied),
        "searched": written(job.searched),
        "stage": job.stage,
        "state": each.state,
        "why": each.why,
        "metric": task.main_metric,
        "higher_is_better": task.higher_is_better,
        "test": (test.get("metrics") or {}).get(task.main_metric),
        "dev": dev_value(job) if results else None,
        "metrics": dict(test.get("metrics") or {}),
        "chance": (test.get("chance") or {}).get(task.main_metric),
        "items": test.get("items"),
        "best_step": test.get("checkpoint_step"),
        "trainable": each.trained,
        "head": parameters.get("head"),
        "featurizer": parameters.get("featurizer"),
        "steps": job.steps,
        "train_seconds": results.get("seconds"),
        **{f"{kind}_joules": (results.get("energy_joules") or {}).get(kind) for kind in KINDS},
        "peak_memory_bytes": results.get("peak_memory_bytes"),
        "device": results.get("device"),
        "key": job.key,
        "folder": job.folder,
        "tested": job.stage == FINAL and each.test is not None,
    }


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    metrics = {f"test_{name}": value for name, value in row["metrics"].items() if name != "loss"}
    return {**{key: value for key, value in row.items() if key != "metrics"}, **metrics}
