"""The settings that a search proposes, by Optuna's tree-structured Parzen estimator (TPE).

Each proposal follows from the search's seed, its number, and the results of the batches before its own, so that it is
the same in whatever order runs end, and after any interruption. The results are those of the runs' folders; Optuna's
own storage is not used.
"""

from __future__ import annotations

import importlib
import json
import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import write_json
from upstream_elp.sweep import identity, ranges
from upstream_elp.sweep.ranges import Range, Space, Values
from upstream_elp.sweep.searching import Search

FILE = "proposals.json"
PATIENCE = 20
"""How often the sampler may repeat itself before a setting is drawn at random."""


def check_installed(where: str) -> None:
    """Refuse a search for which Optuna is missing.

    Raises:
        ElpError: it is not installed.
    """
    try:
        _optuna()
    except ModuleNotFoundError as error:
        raise ElpError(
            f'{where}: search.engine is optuna, but {error.name} is not installed; run pip install "s3prl-elp[optuna]"'
        ) from error


class Proposals:
    """The proposed settings of each search, which the folder of the sweep records.

    Args:
        search: the plan's search.
        out: the folder of the sweep.

    Raises:
        ElpError: the recorded proposals cannot be read.
    """

    def __init__(self, search: Search, out: Path) -> None:
        self.search, self.path = search, out / FILE
        self.known: dict[str, list[dict[str, Any]]] = {}
        if not self.path.is_file():
            return
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            self.known = {str(key): [dict(setting) for setting in found] for key, found in content.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ElpError(
                f"{self.path} must have the proposals of the search, but cannot be read ({error}); delete it, and they "
                "are computed again"
            ) from error

    def name(self, space: Space, keys: Sequence[str]) -> str:
        """What the proposals of a search are recorded under.

        Args:
            space: what may be tried.
            keys: the identities of the runs without a setting.
        """
        described = {
            key: {**vars(each), "whole": each.whole} if isinstance(each, Range) else each for key, each in space.items()
        }
        return identity.digest([list(keys), described, self.search.batch, self.search.sampler_seed])

    def extend(self, name: str, space: Space, values: Sequence[float | None], *, upwards: bool) -> None:
        """Propose the settings of one more batch, or the rest of it.

        Args:
            name: from :meth:`name`.
            space: what may be tried.
            values: the mean on dev of each setting that was proposed; None if it diverged.
            upwards: whether higher values are better.
        """
        settings = self.known.setdefault(name, [])
        begun = len(settings) // self.search.batch * self.search.batch
        for number in range(len(settings), min(begun + self.search.batch, self.search.trials)):
            seed = int(identity.digest([name, number])[:8], 16)
            settings.append(propose(space, settings, values[:begun], seed=seed, upwards=upwards))

    def save(self) -> None:
        """Record the proposals."""
        write_json(self.path, self.known)


def propose(
    space: Space, settings: Sequence[Mapping[str, Any]], values: Sequence[float | None], *, seed: int, upwards: bool
) -> dict[str, Any]:
    """A setting that was not proposed yet; there must be one.

    Args:
        space: what may be tried.
        settings: what was proposed.
        values: the results of the first of these, None for one that diverged; those of the rest are not known.
        seed: the seed of the draws.
        upwards: whether higher values are better.
    """
    optuna = _optuna()
    worst = -math.inf if upwards else math.inf
    forms = {key: _form(optuna, each) for key, each in space.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # before version 5, the constant liar is called experimental
        # what has no result yet counts as bad, so that a batch spreads out
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=False)
    study = optuna.create_study(sampler=sampler, direction="maximize" if upwards else "minimize")
    for number, setting in enumerate(settings):
        done = number < len(values)
        value = values[number] if done else None
        study.add_trial(
            optuna.trial.create_trial(
                params={key: _encoded(space[key], setting[key]) for key in space},
                distributions=forms,
                state=optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.RUNNING,
                value=(worst if value is None else value) if done else None,
            )
        )
    for found in _candidates(study, forms, space, seed):
        if found not in settings:
            return found
    raise AssertionError("the candidates do not end")


def _candidates(study: Any, forms: Mapping[str, Any], space: Space, seed: int) -> Iterator[dict[str, Any]]:
    for _ in range(PATIENCE):
        asked = study.ask(dict(forms)).params
        yield {key: _decoded(each, asked[key]) for key, each in space.items()}
    draw = random.Random(seed)
    while True:
        yield ranges.drawn(space, draw)


def _form(optuna: ModuleType, each: Values) -> Any:
    kinds = optuna.distributions
    if not isinstance(each, Range):  # by their places: a value may be a list
        return kinds.CategoricalDistribution(tuple(range(len(each))))
    return (kinds.IntDistribution if each.whole else kinds.FloatDistribution)(each.low, each.high, log=each.log)


def _encoded(each: Values, value: Any) -> Any:
    return value if isinstance(each, Range) else each.index(value)


def _decoded(each: Values, value: Any) -> Any:
    return each.near(value) if isinstance(each, Range) else each[value]


def _optuna() -> ModuleType:
    """Optuna, which otherwise reports every study that is created."""
    optuna = importlib.import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
