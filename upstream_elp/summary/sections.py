"""The sections of a report, in their order; each draws the pictures that it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from downstream_heads import registry
from upstream_elp.base.energy import KINDS
from upstream_elp.base.errors import counted
from upstream_elp.summary import course, pictures, reproduce, tables
from upstream_elp.summary.document import Block, Picture, Section, Table, by_columns
from upstream_elp.summary.layers import Series, series
from upstream_elp.summary.outcomes import Outcome
from upstream_elp.summary.pictures import by_task, heading
from upstream_elp.summary.runs import Run, Sweep
from upstream_elp.sweep import search
from upstream_elp.sweep.jobs import DONE

ONE_SEED = "± is one standard error over the speakers of the test set."
SEEDS = "± is one standard error over the speakers of the test set; in brackets, the standard deviation over seeds."
BOLD = (
    "Bold: the best value of a task, and those that do not differ significantly from it (sign-flip test over speakers, "
    "p of at least 0.05 after Holm's correction)."
)


@dataclass(frozen=True)
class Found:
    """What a sweep found: the folder's content, and its compared cells."""

    sweep: Sweep
    cells: Sequence[Outcome]

    @property
    def seeds(self) -> int:
        """The largest number of seeds of a cell."""
        return max((len(each.items) for each in self.cells), default=0)

    @cached_property
    def layers(self) -> dict[str, Series]:
        """The tasks, by their full names, whose cells differ in their adapted layers."""
        found = {cells[0].first.task: series(cells) for cells in by_task(self.cells)}
        return {task: each for task, each in found.items() if each.points or each.unknown}

    @property
    def lead(self) -> list[str]:
        """The first sentences."""
        sweep = self.sweep
        said = [sweep.description, f"Source: {sweep.source}" if sweep.source else ""]
        state = f"{sweep.counts}."
        if self.cells:
            state += f" {tables.how_many(self.cells)}, {counted(self.seeds, 'seed')}."
        return [*(text for text in said if text), state]


def sections(found: Found, folder: Path) -> list[Section]:
    """All sections that have something to show.

    Args:
        found: the content.
        folder: where pictures are written to; those of an earlier call are removed.
    """
    for old in folder.glob("[!.]*"):  # not what another process is writing
        old.unlink(missing_ok=True)
    parts = [
        *([_results(found, folder), _intervals(found), _comparisons(found)] if found.cells else []),
        *([_sizes(found, folder)] if any(each.trained is not None for each in found.cells) else []),
        *([_layers(found, folder)] if found.layers else []),
        *(_course(found, folder) if found.cells else []),
        *([_search(found, folder)] if found.sweep.searches else []),
        *([_cost(found)] if found.cells else []),
        *_points(found),
        _runs(found),
        Section("Reproduce", reproduce.blocks(found.sweep)),
    ]
    return [part for part in parts if part.blocks]


def _results(found: Found, folder: Path) -> Section:
    pictures.plot_values(found.cells, folder / "values.png")
    seeds = " Open circles are seeds." if found.seeds > 1 else ""
    picture = Picture(
        "values",
        f"Filled markers are means, lines their 95 % intervals{' over speakers and seeds' if seeds else ''}.{seeds} "
        "Bold names: the best, and those that do not differ significantly from it.",
        "Test value of each method with its interval, one panel per task.",
    )
    how = f"{SEEDS if found.seeds > 1 else ONE_SEED} {BOLD}"
    underlined = "On this page and in the LaTeX tables, the best value is also underlined."
    return Section("Results", [tables.results(found.cells), how, underlined, picture, tables.facts(found.cells)])


def _intervals(found: Found) -> Section:
    text = "Each interval is over the speakers of the test set."
    if found.seeds > 1:
        text = (
            "“± over speakers” is the standard error of the mean over seeds that comes from the speakers of the test "
            "set only; “s.d. over seeds” is how much a single training differs; the 95 % interval contains both."
        )
    blocks: list[Block] = [text, *tables.intervals(found.cells)]
    if found_folds := tables.folds(found.cells):
        blocks += ["Few speakers per fold make an interval rough: compare the folds.", *found_folds]
    return Section("Intervals and seeds", blocks)


def _comparisons(found: Found) -> Section:
    found_tables = tables.comparisons(found.cells)
    text = (
        "Methods are compared on the same drawn speakers and on the seeds that both have. p is that of a sign-flip "
        "test over speakers; “Holm p” is adjusted for all comparisons of one table."
    )
    return Section("Comparisons", [text, *found_tables] if found_tables else [])


def _sizes(found: Found, folder: Path) -> Section:
    pictures.plot_sizes(found.cells, folder / "sizes.png")
    caption = (
        "Bars are one standard error. Ringed: no other cell is better without training more in the backbone. Values "
        "within their errors of each other can change places."
    )
    picture = Picture("sizes", caption, "Test value against the number of trained parameters, one panel per task.")
    fronts = [
        f"Pareto front of {cells[0].task.title}: {', '.join(each.name for each in cells if each.pareto)}."
        for cells in by_task(found.cells)
        if any(each.pareto for each in cells)
    ]
    return Section("Results against size", [picture, *fronts])


def _layers(found: Found, folder: Path) -> Section:
    blocks: list[Block] = []
    known = {task: each for task, each in found.layers.items() if each.points}
    if known:
        pictures.plot_layers(known, [each.first.method for each in found.cells], folder / "layers.png")
        caption = (
            "Bars are one standard error; points are moved a little sideways, so that bars do not hide each other."
        )
        blocks.append(
            Picture("layers", caption, "Test value against the number of adapted layers, one panel per task.")
        )
    for task, each in known.items():
        rows = [
            [point.series, str(point.layers), f"{point.outcome.value.value:.2f}",
             "-" if point.outcome.value.se is None else f"{point.outcome.value.se:.2f}", point.outcome.name]
            for point in each.points
        ]  # fmt: skip
        blocks.append(
            tables.layers(rows, heading(registry.described(task)), f"layers_{registry.described(task).short}")
        )
    if unknown := sorted({name for each in found.layers.values() for name in each.unknown}):
        blocks.append(
            f"Not shown: {', '.join(unknown)}, as this folder does not record the number of layers of the backbone; "
            "call elp sweep again to record it."
        )
    return Section("Results against adapted layers", blocks)


def _course(found: Found, folder: Path) -> list[Section]:
    parts = []
    if course.plot_layer_weights(found.cells, folder / "layer_weights.png"):
        caption = (
            "The softmax weight that the head gives each layer at the tested checkpoint, a mean over seeds and folds. "
            "A dash: the head does not see this layer. Methods whose head sees one state are not shown."
        )
        picture = Picture("layer_weights", caption, "Heat map of layer weights, methods by layers, one per task.")
        parts.append(Section("Layer weights", [picture]))
    evaluated = course.plot_curves(found.cells, folder / "curves.png")
    band = "lines are means over seeds, bands reach from the smallest to the largest seed" if found.seeds > 1 else (
        "one seed, so there are no bands"
    )  # fmt: skip
    what = "Left the loss of training, right dev" if evaluated else "The loss of training; no run was evaluated on dev"
    picture = Picture("curves", f"{what}: {band}.", "Learning curves of all methods.")
    return [*parts, Section("Learning curves", [picture])]


def _search(found: Found, folder: Path) -> Section:
    searches = found.sweep.searches
    course.plot_search(searches, folder / "search.png")
    grid = search.grid(searches)
    chosen = sum(row["chosen"] for row in grid)
    text = (
        f"{counted(len(grid), 'setting')} in {counted(len(searches), 'search', 'searches')}; each is a mean over the "
        "seeds of the search, which differ from those of the test. These runs never saw the test set."
    )
    if chosen < len(searches):
        text += f" {counted(len(searches) - chosen, 'search has', 'searches have')} not ended."
    caption = "Ringed: the chosen setting. Bars reach from the smallest to the largest seed of the search."
    picture = Picture("search", caption, "Value on dev of every setting, one panel per task.")
    blocks: list[Block] = [text, picture]
    for task in dict.fromkeys(row["task"] for row in grid):
        blocks.append(tables.search([row for row in grid if row["task"] == task], heading(registry.described(task))))
    return Section("Search on dev", blocks)


def _cost(found: Found) -> Section:
    if any(cell.energy(kind) is not None for cell in found.cells for kind in KINDS):
        text = (
            "Energy is what the counters of the processors and GPUs say while a run trains. A counter includes "
            "everything else that runs on its device, such as other jobs at the same time."
        )
    else:
        text = "Energy is not known: no counter could be read; `elp doctor` says why."
    return Section("Time, energy and memory", [tables.costs(found.cells), text])


def _points(found: Found) -> list[Section]:
    table = tables.superb(found.cells)
    if table is None:
        return []
    said = [
        "SUPERB's site places filter banks at 0 and a reference value at 1,000 of each task. These pairs belong "
        "to the site's test sets and protocols: points on synthetic corpora, or with other protocols, are not "
        "comparable with the site's. ER needs all five folds, and the mean ASR, SV, ER and IC."
    ]
    return [Section("SUPERB points", [*said, table])]


def _runs(found: Found) -> Section:
    """What has not ended, failed, or cannot be read, and what is not counted."""
    open_runs = [run for run in found.sweep.runs if run.state != DONE or run.why]
    blocks: list[Block] = [f"{found.sweep.counts}."]
    if open_runs:
        blocks.append(_open(open_runs))
    blocks += [text for each in found.cells for text in _uncounted(each)]
    return Section("Runs", blocks)


def _open(runs: Sequence[Run]) -> Table:
    rows = [
        {
            "run": run.job.title,
            "task": registry.described(run.job.task).title,
            "stage": run.job.stage,
            "state": run.state,
            "why": run.why,
            "log": str(run.job.log) if run.why else "",
        }
        for run in runs
    ]
    caption = (
        "Runs that have not ended, whose results cannot be read, or that diverged in a search; none of the values "
        "above contains them."
    )
    return by_columns("open_runs", caption, rows, left=("task", "stage", "state", "why", "log"))


def _uncounted(cell: Outcome) -> list[str]:
    """Sentences on seeds that are not counted because a fold is missing, and on folds that no seed has."""
    where, said = f"{cell.task.title}: {cell.name}", []
    seeds = sorted({run.job.seed for run in cell.runs} - set(cell.items))
    if seeds:
        said.append(
            f"{where}: {counted(len(seeds), 'seed')} ({', '.join(map(str, seeds))}) not counted: a fold is missing."
        )
    planned = {job.fold for job in cell.planned if job.fold}
    if planned and len(cell.folds) < len(planned):
        said.append(f"{where}: the value is over {len(cell.folds)} of {len(planned)} folds.")
    return said
