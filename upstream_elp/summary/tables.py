"""The tables of outcomes: methods by tasks for people, and one row per cell for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from downstream_heads.contract import Task
from upstream_elp.statistics import Comparison
from upstream_elp.summary.outcomes import Outcome

UNKNOWN = "-"


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row per cell with plain values."""
    return [
        {
            "task": each.first.task,
            "method": each.name,
            "backbone": each.first.backbone,
            "metric": each.task.main_metric,
            "higher_is_better": each.task.higher_is_better,
            "value": each.value.value,
            "se": each.value.se,
            "low": each.value.low,
            "high": each.value.high,
            "speakers": each.value.clusters,
            "rough": each.value.rough,
            "seeds": each.value.seeds,
            "seed_sd": each.value.seed_sd,
            "also": each.also and each.also.value,
            "chance": each.chance,
            "items": len(each.items[0]),
            **_compared("best", each.best),
            **_compared("baseline", each.baseline),
            "trained": each.trained,
            "head": each.head,
            "steps": each.first.steps,
            "train_seconds": round(each.seconds, 1),
        }
        for each in outcomes
    ]


def _compared(name: str, found: Comparison | None) -> dict[str, float | None]:
    return {
        f"{name}_difference": found and found.difference,
        f"{name}_se": found and found.se,
        f"{name}_p": found and found.p_holm,
    }


def markdown(outcomes: Sequence[Outcome]) -> str:
    """One table: a row per method, a column per task, standard errors, and bold for what is not worse than the best."""
    tasks = {each.first.task: each.task for each in outcomes}
    names = dict.fromkeys(each.name for each in outcomes)
    sizes = {each.name: (each.trained, each.first.backbone is not None) for each in outcomes}
    lines = []
    for name in sorted(names, key=lambda name: (sizes[name], list(names).index(name))):
        found = {each.first.task: each for each in outcomes if each.name == name}
        cells = {heading(task): _cell(found.get(key)) for key, task in tasks.items()}
        lines.append({"method": name, "trained in the backbone": f"{sizes[name][0]:,}", **cells})
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)


def heading(task: Task) -> str:
    """A task with its metric."""
    return f"{task.title}: {task.metrics[task.main_metric].heading}"


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return UNKNOWN
    text = f"{outcome.value.value:.1f}"
    text = f"**{text}**" if outcome.tied else text
    return text if outcome.value.se is None else f"{text} ± {outcome.value.se:.1f}"


def facts(outcomes: Sequence[Outcome]) -> str:
    """One table with a row per task: chance, the size of the test set, steps and seeds."""
    firsts = {each.first.task: each for each in reversed(outcomes)}
    lines = [
        {
            "task": each.task.title,
            "chance (%)": UNKNOWN if each.chance is None else f"{each.chance:.1f}",
            "test items": f"{len(each.items[0]):,}",
            "test speakers": each.value.clusters,
            "steps": each.first.length,
            "seeds": each.value.seeds,
            "trained in the head": f"{each.head:,}",
            "seconds of training": ", ".join(
                f"{one.name} {one.seconds:.0f}" for one in outcomes if one.task is each.task
            ),
        }
        for each in reversed(firsts.values())
    ]
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)
