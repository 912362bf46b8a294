"""One run of a sweep: its files, its flags of ``elp run``, and how far it has come."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from downstream_heads import registry
from upstream_elp.base.epochs import epochs_of
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import write_json, write_text
from upstream_elp.experiment.facts import RESULTS, read_results
from upstream_elp.experiment.logs import TRAIN_LOG
from upstream_elp.host.checkpoints import states
from upstream_elp.sweep.locks import locked

SEARCH, FINAL = "search", "final"
"""Stages: runs of a search are compared on dev and never see the test set; the others are tested."""
DONE, RUNNING, PARTIAL, FAILED, NEW = STATES = ("done", "running", "partial", "failed", "new")

LEFT = ("*.ckpt", "metrics.jsonl", "train.jsonl", "args_*.yaml", "config_*.yaml", "adapter_*.yaml", "events.*")
"""Files that a run writes before its first checkpoint."""


@dataclass(frozen=True)
class Job:
    """One run, as its folder's ``job.json`` records it.

    Args:
        key: its identity (:mod:`upstream_elp.sweep.identity`).
        folder: the experiment folder.
        stage: :data:`SEARCH` or :data:`FINAL`.
        task: full name of the task.
        method: name of the method.
        upstream: value of ``-u``.
        seed: value of ``--seed``.
        config: the whole configuration of the task.
        adapter: the whole configuration of the adapter; None without one.
        place: value of ``-k``.
        backbone: name of the backbone.
        fold: value of ``-v``.
        data: folder of the corpora.
        varied: the run's values of the plan's grid.
        searched: its values of the search's grid; of a final run, those that the search has chosen.
        processes: how many processes train together.
    """

    key: str
    folder: str
    stage: str
    task: str
    method: str
    upstream: str
    seed: int
    config: Mapping[str, Any]
    adapter: Mapping[str, Any] | None = None
    place: str | None = None
    backbone: str | None = None
    fold: str | None = None
    data: str | None = None
    varied: Mapping[str, Any] = field(default_factory=dict)
    searched: Mapping[str, Any] = field(default_factory=dict)
    processes: int = 1

    @property
    def path(self) -> Path:
        """The experiment folder."""
        return Path(self.folder)

    @property
    def file(self) -> Path:
        """The file that describes the run, for ``python -m upstream_elp.sweep.job``."""
        return self.path / "job.json"

    @property
    def log(self) -> Path:
        """What the run prints."""
        return self.path / "log.txt"

    @property
    def title(self) -> str:
        """What tables and messages call it: the last two parts of its folder."""
        return "/".join(self.path.parts[-2:])

    @property
    def steps(self) -> int | None:
        """The number of optimizer steps; None if the configuration states epochs."""
        total = self.config["runner"]["total_steps"]
        return None if epochs_of(total) else int(total)

    @property
    def length(self) -> str:
        """The number of steps or epochs, for tables."""
        return str(self.config["runner"]["total_steps"]) if self.steps is None else f"{self.steps:,}"

    def write(self) -> None:
        """Write the files that the run reads."""
        write_text(self.path / "config.yaml", yaml.safe_dump(dict(self.config), sort_keys=False, width=100))
        if self.adapter is not None:
            write_text(self.path / "adapter.yaml", yaml.safe_dump(dict(self.adapter), sort_keys=False, width=100))
        write_json(self.file, asdict(self))

    def train_argv(self) -> list[str]:
        """Flags of ``elp run`` for training, or for resuming if there is a checkpoint, which has its own settings."""
        if not states(self.path):
            return self.fresh_argv(self.folder)
        flags = ["-m", "train", "-p", self.folder, "-a", *self._data()]
        return [*flags, *(("--backbone", self.place) if self.place else ())]

    def fresh_argv(self, folder: str) -> list[str]:
        """Flags of ``elp run`` for training from the beginning into a folder."""
        flags = ["-m", "train", "-p", folder, "-a", *self._data()]
        command, config = registry.described(self.task).command, str(self.path / "config.yaml")
        flags += ["-u", self.upstream, "-d", command, "-c", config, "--seed", str(self.seed)]
        flags += ["-k", self.place] if self.place else []
        flags += ["-g", str(self.path / "adapter.yaml")] if self.adapter is not None else []
        return [*flags, *(("-v", self.fold) if self.fold else ())]

    def test_argv(self, checkpoint: Path) -> list[str]:
        """Flags of ``elp run`` for evaluating a checkpoint on the test set."""
        flags = ["-m", "evaluate", "-e", str(checkpoint), "-t", self.split("test"), *self._data()]
        return [*flags, *(("--backbone", self.place) if self.place else ())]

    def split(self, name: str) -> str:
        """The full name of the task's split."""
        return registry.described(self.task).split(name)

    def _data(self) -> list[str]:
        return ["--data", self.data] if self.data else []


def read_job(path: str | Path) -> Job:
    """Read a ``job.json``.

    Raises:
        ElpError: it cannot be read.
    """
    try:
        return Job(**json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ElpError(
            f"{path} must describe a run of a sweep, but cannot be read ({error}); start the sweep again"
        ) from (error)


# state -------------------------------------------------------------------------------------------------------------


def state_of(job: Job) -> str:
    """One of :data:`STATES`, from the files in the run's folder."""
    if ended(job) is not None:
        return DONE
    if locked(job.path):
        return RUNNING
    if failure(job):
        return FAILED
    return PARTIAL if states(job.path) or (job.path / TRAIN_LOG).is_file() else NEW


def ended(job: Job) -> dict[str, Any] | None:
    """What the run wrote at its end, see :func:`end`; None if it has not ended."""
    found = _json(job.path / "done.json")
    return found if found is not None and found.get("key") == job.key else None


def failure(job: Job) -> str:
    """Why the last attempt failed; empty if it did not."""
    found = _json(job.path / "failed.json")
    return "" if found is None else str(found.get("why"))


def end(
    job: Job,
    *,
    train_seconds: float,
    test_seconds: float,
    memory: Mapping[str, int] | None = None,
    diverged: str | None = None,
) -> None:
    """Record that the run has ended.

    Args:
        job: the run.
        train_seconds: time of the training.
        test_seconds: time of the evaluation on test.
        memory: its peaks in bytes, see :mod:`upstream_elp.sweep.memory`; None if they are not known.
        diverged: why a run of a search ended without a result; None if it has one.
    """
    facts = {"key": job.key, "train_seconds": round(train_seconds, 3), "test_seconds": round(test_seconds, 3)}
    write_json(job.path / "done.json", {**facts, "memory": dict(memory or {}), "diverged": diverged})


def divergence(job: Job) -> str:
    """Why a run of a search ended without a result; empty if it has one or has not ended."""
    return str((ended(job) or {}).get("diverged") or "")


def fail(job: Job, why: str) -> None:
    """Record that an attempt has failed."""
    write_json(job.path / "failed.json", {"why": why})


def forget_failure(job: Job) -> None:
    """Remove the record of a failed attempt, before the next one."""
    (job.path / "failed.json").unlink(missing_ok=True)


def clear(job: Job) -> None:
    """Remove what an attempt left that ended before its first checkpoint, from which nothing can resume.

    Otherwise a plan whose data or backbone have moved in between would seem to be another experiment.
    """
    if states(job.path):
        return
    for pattern in LEFT:
        for path in job.path.glob(pattern):
            path.unlink()


def tested(job: Job) -> dict[str, Any] | None:
    """The latest evaluation of the test set, as in ``metrics.jsonl``; None if there is none yet."""
    path = job.path / RESULTS
    lines = read_results(path)["tests"] if path.is_file() else []
    return next((line for line in reversed(lines) if line["split"] == job.split("test")), None)


def dev_value(job: Job) -> float | None:
    """The main metric on dev at the best checkpoint; None if there is none, it is not finite, or the run diverged."""
    if divergence(job):
        return None
    path = job.path / RESULTS
    metrics = read_results(path)["metrics"] if path.is_file() else {}
    point = metrics.get(job.split("dev"), {}).get(registry.described(job.task).main_metric)
    return None if point is None else point["at_best_checkpoint"]


def progress(job: Job) -> int:
    """The number of optimizer steps in the run's log; 0 if it has not logged any."""
    return _logged(job)["step"]


def share(job: Job) -> float:
    """The share of the run that its log shows as done, from 0 to 1; whole epochs if its length is stated in epochs."""
    done, epochs = _logged(job), epochs_of(job.config["runner"]["total_steps"])
    return min(1.0, done["epoch"] / epochs if epochs else done["step"] / job.steps)


def _logged(job: Job) -> dict[str, int]:
    path = job.path / TRAIN_LOG
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().splitlines()
    except OSError:
        lines = []
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(line)
            return {"step": int(found["step"]), "epoch": int(found.get("epoch", 0))}
    return {"step": 0, "epoch": 0}


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
