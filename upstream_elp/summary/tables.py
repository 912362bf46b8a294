"""The tables of outcomes: methods by tasks, the intervals and seeds of each cell, the comparisons, the costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from upstream_elp.base.energy import KINDS
from upstream_elp.base.errors import counted
from upstream_elp.experiment.report import duration, show_energy
from upstream_elp.statistics import Comparison, Interval
from upstream_elp.submission.scoring import POINTS, points_of
from upstream_elp.summary.document import LEFT, RIGHT, UNKNOWN, Entry, Marked, Table, by_columns
from upstream_elp.summary.outcomes import BEST, Outcome, mean
from upstream_elp.summary.pictures import by_task, heading

TRAINED = "trained in the backbone"
MIB = 2**20
SHORT = 10.0
"""Seconds below which a time has a decimal."""


def results(outcomes: Sequence[Outcome]) -> Table:
    """A row per method and a column per task: values, standard errors, and the spread over seeds."""
    tasks = {each.first.task: each.task for each in outcomes}
    firsts: dict[str, Outcome] = {}
    for each in sorted(outcomes, key=lambda each: each.place):
        firsts.setdefault(each.name, each)
    cells = {(each.name, each.first.task): each for each in outcomes}
    rows: list[list[Entry]] = [
        [name, _count(first.trained), *(_value(cells.get((name, task))) for task in tasks)]
        for name, first in firsts.items()
    ]
    headers = ["method", TRAINED, *(heading(task) for task in tasks.values())]
    return Table("results", "Test results of all methods.", headers, rows)


def _value(cell: Outcome | None) -> Entry:
    """``76.1 ± 1.4 (0.8)``: mean, standard error over speakers, standard deviation over seeds."""
    if cell is None:
        return UNKNOWN
    found = cell.value
    rest = "" if found.cluster_se is None else f" ± {found.cluster_se:.1f}"
    rest += "" if found.seed_sd is None else f" ({found.seed_sd:.1f})"
    shown = f"{found.value:.1f}" if found.value == found.value else "not finite"
    return Marked(shown, rest, cell.mark == BEST) if cell.mark else shown + rest


def facts(outcomes: Sequence[Outcome]) -> Table:
    """A row per task: chance, the size of the test set, steps and seeds."""
    rows = []
    for cells in by_task(outcomes):
        first, seeds = cells[0], sorted({len(each.items) for each in cells})
        rows.append(
            {
                "task": first.task.title,
                "chance (%)": _number(first.chance),
                "test items": f"{len(next(iter(first.items.values()))):,}",
                "test speakers": f"{first.value.clusters:,}",
                "steps": ", ".join(dict.fromkeys(each.first.length for each in cells)),
                "seeds": ", ".join(map(str, seeds)),
                "trained in the head": ", ".join(dict.fromkeys(f"{each.head:,}" for each in cells)),
            }
        )
    return by_columns("tasks", "Test sets and trainings of the tasks.", rows)


def intervals(outcomes: Sequence[Outcome]) -> list[Table]:
    """For each task, a row per cell: the mean, its interval, and the seeds separately."""
    tables = []
    for cells in by_task(outcomes):
        rows = [
            {
                "method": each.name,
                "chosen on dev": each.chosen,
                "mean": _marked(each, f"{each.value.value:.2f}"),
                "95 % interval": _range(each.value.low, each.value.high),
                "± over speakers": _number(each.value.cluster_se, 2),
                "s.d. over seeds": _number(each.value.seed_sd, 2),
                "seeds": _seeds(each),
                "each seed": "; ".join(f"{value:.2f}" for value in each.of_seeds.values())
                if len(each.items) > 1
                else UNKNOWN,
                "second metric": f"{each.also.value:.2f}" if each.also else UNKNOWN,
            }
            for each in cells
        ]
        caption = f"{heading(cells[0].task)} on test ({cells[0].value.units})."
        if cells[0].also:
            caption += f" The second metric is {cells[0].task.metrics[cells[0].task.also].heading}."
        caption += _rough(each.value for each in cells)
        tables.append(by_columns(f"intervals_{cells[0].task.short}", caption, rows, left=("chosen on dev",)))
    return tables


def _rough(found: Iterable[Interval | Comparison | None]) -> str:
    """A sentence for a caption, if some intervals are rough."""
    reasons = dict.fromkeys(each.rough for each in found if each is not None and each.rough)
    return f" Intervals are rough or missing: {'; '.join(reasons)}." if reasons else ""


def _seeds(cell: Outcome) -> str:
    have, all_of = len(cell.items), cell.seeds_planned
    return f"{have} of {all_of}" if have < all_of else str(have)


def folds(outcomes: Sequence[Outcome]) -> list[Table]:
    """For each task with folds, the value of each fold, a mean over the seeds."""
    tables = []
    for cells in by_task(outcomes):
        names = sorted({fold for each in cells for fold in each.folds})
        if not names:
            continue
        rows = [
            [each.name, *(_number(mean(each.folds.get(name, ())), 2) for name in names), f"{each.value.value:.2f}"]
            for each in cells
        ]
        caption = f"{heading(cells[0].task)} on test by fold, and the mean over the folds."
        tables.append(Table(f"folds_{cells[0].task.short}", caption, ["method", *names, "mean"], rows))
    return tables


# comparisons -------------------------------------------------------------------------------------------------------


def comparisons(outcomes: Sequence[Outcome]) -> list[Table]:
    """For each task, the differences from the best cell and from the baseline."""
    tables = []
    for cells in by_task(outcomes):
        task = cells[0].task
        if any(each.best for each in cells):
            best = next(each for each in cells if each.mark == BEST)
            rows = [_compared(each, each.best) for each in cells if each is not best]
            caption = f"{heading(task)}: difference from the best value, which {best.name} has, in percentage points."
            caption += _rough(each.best for each in cells)
            tables.append(by_columns(f"best_{task.short}", caption, rows, left=("not compared", "mark")))
        if any(each.baseline for each in cells):
            rows = [
                {**_compared(each, each.baseline), "mark": "", "not compared": "", "not inferior": _verdict(each)}
                for each in cells
                if each.baseline
            ]
            caption = f"{heading(task)}: difference from the baseline, in percentage points."
            if (margin := cells[0].margin) is not None:
                caption += f" Not inferior: the whole interval says that the loss is below {margin:g} points."
            caption += _rough(each.baseline for each in cells)
            tables.append(by_columns(f"baseline_{task.short}", caption, rows, left=("not inferior",)))
    return tables


def _compared(cell: Outcome, found: Comparison | None) -> dict[str, Entry]:
    known = found is not None and found.p_holm is not None
    return {
        "method": cell.name,
        "difference": UNKNOWN if found is None else f"{found.difference:+.2f}",
        "95 % interval": UNKNOWN if found is None else _range(found.low, found.high, sign="+"),
        "p": _p(found and found.p),
        "Holm p": _p(found and found.p_holm),
        "seeds": UNKNOWN if found is None else str(found.seeds),
        "mark": "not significantly different" if cell.mark else "worse" if known else UNKNOWN,
        "not compared": cell.uncompared or UNKNOWN,
    }


def _verdict(cell: Outcome) -> str:
    verdict = cell.non_inferior
    return UNKNOWN if verdict is None else "yes" if verdict else "not shown"


# cost and points ---------------------------------------------------------------------------------------------------


def costs(outcomes: Sequence[Outcome]) -> Table:
    """A row per cell: size, time, energy and memory of its training."""
    rows = [
        {
            "method": each.name,
            "task": each.task.title,
            TRAINED: _count(each.trained),
            "trained in the head": f"{each.head:,}",
            "training time ↓": _time(each.seconds),
            **{f"energy of {name} ↓": _energy(each.energy(kind)) for kind, name in KINDS.items()},
            "peak memory (MiB) ↓": UNKNOWN if each.memory is None else f"{each.memory / MIB:,.0f}",
            "device": ", ".join(dict.fromkeys(run.results["device"] or UNKNOWN for run in each.runs)),
        }
        for cells in by_task(outcomes)
        for each in cells
    ]
    caption = "Time and energy are means per run, evaluations on dev included; memory is the largest peak of a run."
    return by_columns("costs", caption, rows, left=("task", "device"))


def _energy(joules: float | None) -> str:
    return UNKNOWN if joules is None else show_energy(joules)


def of_site(cell: Outcome) -> str | None:
    """The metric of SUPERB's site that a value is; None if the site has none, or a fold is missing."""
    name, folds = f"{cell.task.short.upper()}_{cell.task.main_metric}", len(cell.task.variants)
    return name if name in POINTS and (not folds or len(cell.folds) == folds) else None


def superb(outcomes: Sequence[Outcome]) -> Table | None:
    """SUPERB points of each method; None if no task has any."""
    values: dict[str, dict[str, float]] = {}
    for each in outcomes:
        if (name := of_site(each)) is not None:
            values.setdefault(each.name, {})[name] = each.value.value
    if not values:
        return None
    metrics = [name for name in POINTS if any(name in known for known in values.values())]
    rows = []
    for method, known in values.items():
        points = points_of(known)
        shown = (_number(points.get(name), 0) for name in (*metrics, "mean"))
        rows.append(
            {"method": method, **dict(zip([*(name.split("_")[0] for name in metrics), "mean"], shown, strict=True))}
        )
    return by_columns("superb_points", "SUPERB points ↑ (0: filter banks; 1,000: SUPERB's reference value).", rows)


# search ------------------------------------------------------------------------------------------------------------


def search(rows: Sequence[dict], title: str) -> Table:
    """The whole grid of a search for one task: the value of every setting on dev, the chosen ones marked."""
    shown = [
        {
            "method": row["method"],
            "backbone": row["backbone"] or "",
            "fold": row["fold"] or "",
            "setting": row["setting"],
            "dev": _dev(row),
            "each seed": "; ".join(UNKNOWN if value is None else f"{value:.2f}" for value in row["values"]),
            "chosen": "chosen" if row["chosen"] else "",
        }
        for row in rows
    ]
    if len({row["backbone"] for row in shown}) == 1:
        shown = [{**row, "backbone": ""} for row in shown]
    caption = f"{title} on dev of every setting, the mean over the seeds of the search."
    name = f"search_{rows[0]['task'].removeprefix('elp_')}"
    return by_columns(name, caption, shown, left=("backbone", "fold", "setting", "chosen"), keep=("setting", "dev"))


def _dev(row: dict) -> Entry:
    if row["mean"] is None:
        return UNKNOWN
    return Marked(f"{row['mean']:.2f}", best=True) if row["chosen"] else f"{row['mean']:.2f}"


def layers(rows: Sequence[Sequence[str]], title: str, name: str) -> Table:
    """The values behind the picture of adapted layers."""
    headers = ["series", "adapted layers", "value", "±", "method"]
    return Table(name, f"{title} by number of adapted layers.", headers, rows, [LEFT, RIGHT, RIGHT, RIGHT, LEFT])


# texts -------------------------------------------------------------------------------------------------------------


def _marked(cell: Outcome, text: str) -> Entry:
    return Marked(text, "", cell.mark == BEST) if cell.mark else text


def _number(value: float | None, digits: int = 1) -> str:
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    return f"{seconds:.1f} s" if seconds < SHORT else duration(seconds)


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _range(low: float | None, high: float | None, *, sign: str = "") -> str:
    return UNKNOWN if low is None or high is None else f"{low:{sign}.2f} to {high:{sign}.2f}"


def _p(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4f}"


def how_many(outcomes: Sequence[Outcome]) -> str:
    """``4 methods on 2 tasks``, for titles; settings count as methods."""
    methods, tasks = len({each.name for each in outcomes}), len({each.first.task for each in outcomes})
    return f"{counted(methods, 'method')} on {counted(tasks, 'task')}"
