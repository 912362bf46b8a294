"""What a task says of itself: one frozen :class:`Task` in ``about.py`` of its folder, which imports nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upstream_elp.base.errors import ElpError

PREFIX = "elp_"
"""What the name of each of our tasks begins with."""
FOLDER = Path(__file__).parent
"""The folder of our tasks."""


@dataclass(frozen=True)
class Metric:
    """How to read a metric.

    Attributes:
        title: for axes and tables.
        unit: ``%`` for rates, empty for none.
        higher_is_better: None if not known; then no best value is named.
        chance: what a trivial answer reaches on any corpus; None where it depends on the corpus, and the task's expert
            computes it.
    """

    title: str
    unit: str = "%"
    higher_is_better: bool | None = False
    chance: float | None = None


LOSS = Metric("loss", unit="")
ACCURACY = Metric("accuracy", higher_is_better=True)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task; its folder is called as it is.

    Attributes:
        name: of the folder, and S3PRL's ``-d``; begins with ``elp_``.
        title: the abbreviation in tables and plots.
        corpus: the data: name of a corpus in :mod:`upstream_elp.corpora`.
        metrics: name in ``metrics.jsonl`` to meaning; the first one chooses the best checkpoint. Tasks that share a
            name mean the same by it.
        splits: the splits' full names; ``train`` is one of them.
        aliases: other names of splits; ``dev`` and ``test`` are full names or aliases in every task.
        variants: what ``-v`` may say; empty if the task has no variants.
        also: a second metric to show, for runs that are too short for the first.
        compares: whether answers are compared two by two, as voices are.
        quick: recipe in ``recipes/tasks`` of the short run that ``elp quickstart`` makes; None if there is none.
        synthesised: whether ``elp mini-superb`` makes the corpus; otherwise ``elp quickstart`` needs ``--data``.
        expert: ``module:attribute`` in the task's folder of the class that trains and evaluates.
        predictor: the same of the trained head in use.
        survey: the same of the function that looks at the corpus before a run.
    """

    name: str
    title: str
    corpus: str
    metrics: Mapping[str, Metric]
    splits: tuple[str, ...] = ("train", "dev", "test")
    aliases: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[str, ...] = ()
    also: str | None = None
    compares: bool = False
    quick: str | None = None
    synthesised: bool = False
    expert: str = "task:DownstreamExpert"
    predictor: str = "predictor:Predictor"
    survey: str = "survey:survey"

    @property
    def short(self) -> str:
        """The name without ``elp_``."""
        return self.name.removeprefix(PREFIX)

    @property
    def config(self) -> Path:
        """The configuration that comes with the task: SUPERB's recipe."""
        return FOLDER / self.name / "config.yaml"

    @property
    def main_metric(self) -> str:
        """The name of the metric that chooses the best checkpoint."""
        return next(iter(self.metrics))

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of the main metric is a better one."""
        return bool(self.metrics[self.main_metric].higher_is_better)

    @property
    def chance(self) -> dict[str, float]:
        """Metrics whose chance level does not depend on the corpus, and this level."""
        return {name: metric.chance for name, metric in self.metrics.items() if metric.chance is not None}

    def split(self, name: str) -> str:
        """The full name of a split.

        Raises:
            ElpError: no such split; lists the valid ones.
        """
        found = self.aliases.get(name, name)
        if found not in self.splits:
            raise ElpError(f"{self.name} has no split {name!r}; choose one of: {', '.join(self.splits)}")
        return found

    def load(self, part: str) -> Any:
        """Import the task's ``expert``, ``predictor`` or ``survey``."""
        module, _, attribute = getattr(self, part).partition(":")
        return getattr(importlib.import_module(f"{__package__}.{self.name}.{module}"), attribute)
