"""The runs of a quickstart, and what each must produce."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from downstream_heads import registry
from upstream_elp.adapters.config import load_config, preset_names, recipes_dir
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of
from upstream_elp.experiment.facts import RESULTS, read_results

EVALUATIONS = 3
"""Number of evaluations of the dev set in a run."""


TASKS = {name: task for name, task in registry.tasks().items() if task.quick is not None}
SYNTHESISED = tuple(name for name, task in TASKS.items() if task.synthesised)
"""The tasks whose corpora ``elp mini-superb`` makes."""
METHODS = ("weighted_sum", "elp", "full_finetune")


@dataclass(frozen=True)
class Job:
    """One training run with its evaluation; its settings decide whether a result on disk belongs to it."""

    task: str
    method: str
    seed: int
    steps: int
    data: str
    data_id: str
    """Identifies the corpora: the hash of a synthesised set's manifest, or else the path."""
    backbone: str
    backbone_sha256: str
    device: str
    folder: str
    config: str
    config_sha256: str

    @property
    def results(self) -> Path:
        """The file for training's report, to which evaluations are added."""
        return Path(self.folder) / RESULTS

    def tested(self) -> dict[str, Any] | None:
        """The latest evaluation of the test set, as in ``metrics.jsonl``; None if there is none yet."""
        lines = read_results(self.results)["tests"] if self.results.is_file() else []
        return next((line for line in reversed(lines) if line["split"] == TASKS[self.task].split("test")), None)

    @property
    def description(self) -> Path:
        """The file that describes a run once it has begun."""
        return Path(self.folder) / "job.json"

    @property
    def train_argv(self) -> list[str]:
        """Flags of ``elp run`` for training or resuming."""
        every = max(1, self.steps // EVALUATIONS)
        runner = {
            "total_steps": self.steps,
            "eval_step": every,
            "save_step": every,
            "log_step": max(1, self.steps // 12),
        }
        overrides = ",,".join(f"config.runner.{key}={value}" for key, value in runner.items())
        return [
            *("-m", "train", "-u", "elp_local", "-k", self.backbone, "-g", self.method, "-d", self.task),
            *("-c", self.config, "-p", self.folder, "-a", "--seed", str(self.seed), "--device", self.device),
            *("--data", self.data, "-o", overrides),
        ]  # fmt: skip

    def test_argv(self, checkpoint: Path) -> list[str]:
        """Flags of ``elp run`` for evaluating a checkpoint on the test set."""
        split = TASKS[self.task].split("test")
        return ["-m", "evaluate", "-e", str(checkpoint), "-t", split, "--device", self.device, "--data", self.data]

    def settings(self) -> dict[str, object]:
        """The values that a result on disk must share to belong to this run; paths and devices do not matter."""
        plain = asdict(self)
        keys = ("task", "method", "seed", "steps", "data_id", "backbone_sha256", "config_sha256")
        return {key: plain[key] for key in keys}


def make_jobs(
    *,
    out: Path,
    data: Path,
    backbone: Path,
    tasks: list[str],
    methods: list[str],
    steps: int | None,
    seed: int,
    device: str,
) -> list[Job]:
    """All runs, longest first.

    Args:
        out: folder of the whole quickstart.
        data: folder with the corpora.
        backbone: checkpoint of the frozen model.
        tasks: names of :data:`TASKS`, with or without ``elp_``.
        methods: adapter presets.
        steps: optimizer steps per run; None for the number in the task's recipe.
        seed: S3PRL's ``--seed``.
        device: torch device.

    Raises:
        ElpError: an unknown task or preset, or missing data or backbone.
    """
    tasks = check_names(tasks, methods)
    check_places(data, backbone)
    manifest = data / "manifest.json"
    data_id = sha256_of(manifest) if manifest.is_file() else str(data.resolve())
    shared = {
        "seed": seed, "data": str(data), "data_id": data_id, "backbone": str(backbone),
        "backbone_sha256": _sha256_of_all(backbone), "device": device,
    }  # fmt: skip
    order = [*METHODS[::-1], *methods]
    return [_job(name, method, out, steps, shared) for method in sorted(methods, key=order.index) for name in tasks]


def check_names(tasks: list[str], methods: list[str]) -> list[str]:
    """Check tasks and methods, and return the tasks' full names.

    Raises:
        ElpError: an unknown task or preset, none at all, or two whose runs would share a folder.
    """
    tasks = [registry.whole_name(name) for name in tasks]
    for flag, names, known in (("--tasks", tasks, list(TASKS)), ("--methods", methods, preset_names())):
        if not names:
            raise ElpError(f"{flag} is empty; choose from {', '.join(known)}")
        for name in names:
            twins = [other for other in names if _folder(other) == _folder(name)]
            if len(twins) > 1:
                raise ElpError(
                    f"{flag}: {' and '.join(twins)} would share the folder {_folder(name)}; list each name once, and "
                    "do not name a file like a preset or another file"
                )
    for name in tasks:
        if name not in TASKS:
            raise ElpError(f"unknown task {name!r}; the tasks are: {', '.join(TASKS)}")
    for method in methods:
        load_config(method)
    return tasks


def check_synthesised(tasks: list[str]) -> None:
    """Refuse tasks whose corpora cannot be synthesised.

    Raises:
        ElpError: naming these tasks.
    """
    if lacking := [name for name in tasks if not TASKS[name].synthesised]:
        raise ElpError(
            f"--tasks {','.join(lacking)}: mini-SUPERB does not include the corpus; pass real corpora with --data, or "
            f"choose from {', '.join(SYNTHESISED)}"
        )


def _folder(method: str) -> str:
    return Path(method).stem


def check_places(data: Path | None, backbone: Path | None) -> None:
    """Raise an :class:`ElpError` if the corpora or the backbone are missing; None is not checked."""
    from upstream_elp.backbones.huggingface_files import is_hugging_face_folder

    if data is not None and not data.is_dir():
        raise ElpError(f"--data {data}: no such folder; name the folder with the corpora (see docs/real-corpora.md)")
    if backbone is not None and not (backbone.is_file() or is_hugging_face_folder(backbone)):
        raise ElpError(f"--backbone {backbone}: no such checkpoint, or folder in Hugging Face's format")


def _sha256_of_all(backbone: Path) -> str:
    """The sha256 of a file, or of the names and hashes of a folder's files."""
    if backbone.is_file():
        return sha256_of(backbone)
    sums = {path.name: sha256_of(path) for path in sorted(backbone.iterdir()) if path.is_file()}
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()


def _job(name: str, method: str, out: Path, steps: int | None, shared: dict[str, Any]) -> Job:
    path = recipes_dir() / "tasks" / TASKS[name].quick
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    described = {"config": config, "adapter": load_config(method).to_dict()}
    return Job(
        **shared,
        task=name,
        method=method,
        steps=steps or int(config["runner"]["total_steps"]),
        folder=str(out / "runs" / name / _folder(method)),
        config=str(path),
        config_sha256=hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest(),
    )


def finished(job: Job) -> bool:
    """Whether the run has been trained and tested.

    Raises:
        ElpError: if the folder contains a run with other settings, finished or interrupted.
    """
    from upstream_elp.experiment.existing import states

    if not job.description.is_file() or not (job.results.is_file() or states(Path(job.folder))):
        return False
    known = json.loads(job.description.read_text(encoding="utf-8"))
    for key, value in job.settings().items():
        if known.get(key) != value:
            raise ElpError(
                f"{job.folder} contains a run with {key} {known.get(key)!r} instead of {value!r}; "
                "choose another --out, or remove that folder"
            )
    return job.tested() is not None
