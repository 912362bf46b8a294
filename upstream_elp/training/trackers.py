"""Experiment trackers that people already use: Weights & Biases and MLflow, off by default (``runner.trackers``).

They get the scalars that TensorBoard gets. A resumed run continues the same run of the tracker.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import write_json

RUNS = "trackers.json"
"""File in the experiment folder with the tracker's name of the run."""


class Tracker(ABC):
    """A run of a tracker, outside the experiment folder.

    Args:
        folder: the experiment folder, whose name is that of the run.
        known: the tracker's name of a run that is continued; None for a new one.
        config: what to report about the run.
    """

    id: str
    """The tracker's name of the run."""

    @abstractmethod
    def __init__(self, folder: Path, known: str | None, config: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def log(self, name: str, value: float, step: int) -> None:
        """Report a scalar of a step."""

    @abstractmethod
    def close(self) -> None:
        """End the run."""


class Wandb(Tracker):
    """Weights & Biases; ``WANDB_PROJECT``, ``WANDB_MODE`` and its other variables apply."""

    def __init__(self, folder: Path, known: str | None, config: Mapping[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        # not forced to continue: an offline run that was never uploaded is unknown to the server
        self.run = wandb.init(
            dir=str(folder), name=folder.name, id=known, resume="allow" if known else None, config=dict(config)
        )
        self.run.define_metric("*", step_metric="step")  # wandb's own steps must not go back, but those of a run may
        self.id = self.run.id

    def log(self, name: str, value: float, step: int) -> None:
        self.run.log({name: value, "step": step})

    def close(self) -> None:
        self.run.finish()


class Mlflow(Tracker):
    """MLflow; ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` apply."""

    def __init__(self, folder: Path, known: str | None, config: Mapping[str, Any]) -> None:
        self.mlflow = importlib.import_module("mlflow")
        run = self.mlflow.start_run(run_id=known, run_name=None if known else folder.name)
        self.id = run.info.run_id
        if known is None:
            self.mlflow.log_dict(dict(config), "config.json")

    def log(self, name: str, value: float, step: int) -> None:
        self.mlflow.log_metric(name, value, step=step)

    def close(self) -> None:
        self.mlflow.end_run()


TRACKERS: dict[str, type[Tracker]] = {"wandb": Wandb, "mlflow": Mlflow}


def start(names: Sequence[str], folder: Path, *, config: Mapping[str, Any]) -> list[Tracker]:
    """Start trackers, or continue the runs that earlier processes of the same experiment started.

    Args:
        names: of :data:`TRACKERS`.
        folder: the experiment folder.
        config: what to report about the run.

    Raises:
        ElpError: a package is missing, a tracker does not start, or the names of earlier runs cannot be read.
    """
    if not names:
        return []
    file = folder / RUNS
    try:
        runs = dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    except (OSError, ValueError, TypeError) as error:
        raise ElpError(
            f"{file} cannot be read ({error}); delete it to start new runs in {' and '.join(names)}"
        ) from error
    started: list[Tracker] = []
    for name in names:
        try:
            tracker = TRACKERS[name](folder, runs.get(name), config)
        except ModuleNotFoundError as error:
            raise ElpError(
                f"runner.trackers has {name}, but {error.name} is not installed; run pip install {name}, or remove it"
            ) from error
        except Exception as error:  # their exceptions have no common class, and nothing has been trained yet
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ElpError(f"runner.trackers has {name}, but it does not start ({why}); see its settings") from error
        started.append(tracker)
        runs[name] = tracker.id
    write_json(file, runs)
    return started
