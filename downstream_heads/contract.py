"""The description of a task: one frozen :class:`Task` in its folder's ``about.py``, which imports nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upstream_elp.base.errors import ElpError

PREFIX = "elp_"
"""Prefix of the names of our tasks."""
FOLDER = Path(__file__).parent
"""The folder of our tasks."""


@dataclass(frozen=True)
class Metric:
    """How to read a metric.

    Attributes:
        title: the name in plots and tables.
        unit: ``%`` for rates, empty if there is none.
        higher_is_better: None if unknown; then no value is reported as the best.
        chance: value of a trivial answer on any corpus; None if it depends on the corpus and the task's expert computes
            it.
    """

    title: str
    unit: str = "%"
    higher_is_better: bool | None = False
    chance: float | None = None

    @property
    def heading(self) -> str:
        """Title, unit and the direction in which it improves, such as ``accuracy (%) ↑``."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.title}{unit} {'↑' if self.higher_is_better else '↓'}"


LOSS = Metric("loss", unit="")
ACCURACY = Metric("accuracy", higher_is_better=True)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task; its folder has the same name.

    Attributes:
        name: name of the folder and value of S3PRL's ``-d``; begins with ``elp_``.
        title: abbreviation for tables and plots.
        corpus: name of a corpus in :mod:`upstream_elp.corpora`.
        metrics: name in ``metrics.jsonl`` -> metric; the first one chooses the best checkpoint. Tasks that use the same
            name must mean the same by it.
        splits: full names of the splits; ``train`` is one of them.
        aliases: other names of splits; ``dev`` and ``test`` are full names or aliases in every task.
        variants: valid values of ``-v``; empty if the task has no variants.
        also: a second metric to show, for runs too short for the first to be useful.
        compares: whether answers are compared in pairs, as voices are.
        of_corpus: keys of ``datarc`` that choose among the files of the corpus, so that they have no effect on a user's
            own data, whose rows say which split they belong to.
        quick: recipe in ``recipes/tasks`` for the short run of ``elp quickstart``; None if there is none.
        synthesised: whether ``elp mini-superb`` synthesises the corpus; otherwise ``elp quickstart`` needs ``--data``.
        expert: class that trains and evaluates, as ``module:attribute`` in the task's folder.
        predictor: class of the trained head in use, in the same form.
        survey: function that checks the corpus before a run, in the same form.
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
    of_corpus: tuple[str, ...] = ()
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
    def command(self) -> str:
        """The value of S3PRL's ``-d``."""
        return self.name

    @property
    def config(self) -> Path:
        """The task's default configuration: SUPERB's recipe."""
        return FOLDER / self.name / "config.yaml"

    @property
    def main_metric(self) -> str:
        """The name of the metric that chooses the best checkpoint."""
        return next(iter(self.metrics))

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of the main metric is better."""
        return bool(self.metrics[self.main_metric].higher_is_better)

    @property
    def chance(self) -> dict[str, float]:
        """The chance level of the metrics for which it does not depend on the corpus."""
        return {name: metric.chance for name, metric in self.metrics.items() if metric.chance is not None}

    @property
    def split_names(self) -> dict[str, str]:
        """All names of splits, those that every task has first, and the full name that each means."""
        return {"train": "train", **self.aliases, **{split: split for split in self.splits}}

    def split(self, name: str) -> str:
        """Return the full name of a split.

        Raises:
            ElpError: there is no such split; lists the valid ones.
        """
        found = self.aliases.get(name, name)
        if found not in self.splits:
            raise ElpError(f"{self.name} has no split {name!r}; choose one of: {', '.join(self.splits)}")
        return found

    def load(self, part: str) -> Any:
        """Import the task's ``expert``, ``predictor`` or ``survey``."""
        module, _, attribute = getattr(self, part).partition(":")
        return getattr(importlib.import_module(f"{__package__}.{self.name}.{module}"), attribute)
