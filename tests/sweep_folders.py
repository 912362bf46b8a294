"""Folders of sweeps with made-up results: nothing is trained."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from downstream_heads import registry
from upstream_elp.experiment.facts import FORMAT
from upstream_elp.statistics import Items, save_items
from upstream_elp.statistics.items import items_path
from upstream_elp.sweep import work
from upstream_elp.sweep.jobs import FINAL, SEARCH, Job, end

SPEAKERS, PER_SPEAKER = 12, 10
LAYERS = 4
TRAINED = {"fbank": 0, "weighted_sum": 0, "lora_qv8": 3000, "le": 20000, "full_finetune": 90000}


def trials(rng, *, separation):
    """Scores of two recordings of each speaker against each other."""
    pairs = [(a, b) for a in range(SPEAKERS) for b in range(a, SPEAKERS)]
    same = np.array([float(a == b) for a, b in pairs])
    columns = {"score": rng.normal(size=len(pairs)) + separation * same, "same": same}
    names = [[f"s{pair[side]}" for pair in pairs] for side in (0, 1)]
    return Items([f"{a} {b}" for a, b in pairs], names[0], columns, second=names[1])


def answers(rng, *, accuracy, speakers=SPEAKERS):
    """Right and wrong answers."""
    count = speakers * PER_SPEAKER
    keys, names = [f"k{i}" for i in range(count)], [f"s{i % speakers}" for i in range(count)]
    return Items(keys, names, {"acc": (rng.random(count) < accuracy).astype(float)})


def job_of(folder: Path, task, method, seed, *, stage=FINAL, fold=None, varied=None, searched=None, adapter=None):
    """A run of a sweep in a folder, without any file."""
    values = "".join(
        f"-{key.rpartition('.')[2]}={value}" for key, value in {**(varied or {}), **(searched or {})}.items()
    )
    name = f"{method}{values}-{fold or ''}seed{seed}".replace(":", "_").replace("/", "_").replace("&", "_")
    path = folder / ("search" if stage == SEARCH else "runs") / registry.find(task).short / name
    return Job(
        key=f"{stage} {task} {name}", folder=str(path), stage=stage, task=task, method=method,
        upstream="elp_local", seed=seed, config={"runner": {"total_steps": 200}}, fold=fold, varied=varied or {},
        searched=searched or {}, adapter=adapter, place="backbone.pt",
        backbone=None if method == "fbank" else "small",
    )  # fmt: skip


def finish(job: Job, items: Items | None = None, *, dev=40.0, weights=True, energy=True):
    """Write the files of a run that has ended; without items, it belongs to a search."""
    task = registry.find(job.task)
    job.path.mkdir(parents=True, exist_ok=True)
    dev_split, test_split, dev_metric = task.split("dev"), task.split("test"), task.also or task.main_metric
    lines = [
        {"split": "train", "step": 100, "metrics": {"loss": 3.0 + job.seed}},
        {"split": "train", "step": 200, "metrics": {"loss": 1.0 + job.seed}},
        {"split": dev_split, "step": 100, "metrics": {dev_metric: 30.0 + job.seed}},
        {"split": dev_split, "step": 200, "metrics": {dev_metric: 40.0 + 2 * job.seed}},
    ]
    (job.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    layers = [
        {"layer": f"hidden state {i}", "weight": (1 + 0.1 * job.seed * (1 - 2 * (i % 2))) / 5}
        for i in range(LAYERS + 1)
    ]
    results = {
        "format": FORMAT, "seconds": 10.0 + job.seed, "device": "CPU (x86_64)", "peak_memory_bytes": 2**28,
        "energy_joules": {"processors": 3600.0 + 720 * job.seed} if energy else None,
        "metrics": {dev_split: {task.main_metric: {"at_best_checkpoint": dev}}},
        "parameters": {"frozen": 7, "head": 20, "featurizer": 5, "lora": 9},
        "layer_weights": layers if weights else [], "tests": [],
        "versions": {"torch": "2.13.0"}, "environment": {"OMP_NUM_THREADS": "1"},
        "backbone": {"name": None, "sha256": "ab" * 32},
        "data": {"train": {"files": 3, "missing": 0, "bytes": 99, "sha256": "cd" * 32}},
    }  # fmt: skip
    if items is not None:
        line = {
            "split": test_split, "step": 0, "items": len(items), "metrics": {task.main_metric: 50.0},
            "checkpoint": f"{dev_split}-best.ckpt", "checkpoint_step": 200, "chance": {task.main_metric: 25.0},
        }  # fmt: skip
        results["tests"] = [line]
        save_items(items_path(job.path, test_split), items)
    (job.path / "results.json").write_text(json.dumps(results))
    end(job, train_seconds=1.0, test_seconds=1.0)
    return job


def write_manifest(folder: Path, jobs, *, depth=LAYERS, **known):
    """Write ``sweep.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": work.FORMAT, "name": "toy", "description": "Made up.", "source": "", "plan": "toy.yaml", "waiting": 0,
        "content": {"tasks": ["ic"], "methods": ["le"], "seeds": [0]},
        "started": {"command": ["elp", "sweep", "toy.yaml"], "folder": "/a folder"},
        "compare": {"baseline": "weighted_sum", "margins": {"": 1.5}},
        **known,
    }  # fmt: skip
    described = [
        {**asdict(job), "trainable": TRAINED.get(job.method, 5), "depth": depth if job.backbone else None}
        for job in jobs
    ]
    (folder / work.MANIFEST).write_text(json.dumps({**content, "jobs": described}))
    return folder


def toy_sweep(folder: Path, *, seeds=(0, 1)) -> Path:
    """A finished sweep of three methods on two tasks, with a search."""
    rng, jobs = np.random.default_rng(0), []
    chosen = {"optimizer.lr": 0.001}
    for method, accuracy, separation in (
        ("weighted_sum", 0.4, 0.5), ("lora_qv8", 0.9, 0.9), ("full_finetune", 0.92, 2.5),
    ):  # fmt: skip
        for value, dev in ((0.001, 60.0), (0.01, 50.0)):
            searched = {"optimizer.lr": value}
            jobs.append(finish(job_of(folder, "elp_ic", method, 9, stage=SEARCH, searched=searched), dev=dev))
        for seed in seeds:
            ic = job_of(folder, "elp_ic", method, seed, searched=chosen)
            jobs.append(finish(ic, answers(rng, accuracy=accuracy)))
            jobs.append(finish(job_of(folder, "elp_sv", method, seed), trials(rng, separation=separation)))
    return write_manifest(folder, jobs)
