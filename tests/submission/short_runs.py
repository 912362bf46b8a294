"""Real runs of all four tasks for one step, with predictions for their test sets."""

import json

from tests import toy_corpora
from tests.task_runs import DEV, SMALL
from tests.toys import tiny_backbone
from upstream_elp.run import run

SPLITS = {"elp_asr": "test-clean"}
FOLDS = [f"fold{number}" for number in range(1, 6)]
SHORT = {"total_steps": 1, "eval_step": 1, "save_step": 1, "log_step": 1, "gradient_accumulate_steps": 1}


def train(task, exp, data, *more, upstream="wavlm_local"):
    """Train for one step on a tiny backbone and evaluate the best checkpoint on the test set."""
    values = {f"config.runner.{key}": value for key, value in SHORT.items()}
    values |= {f"config.downstream_expert.{key}": value for key, value in SMALL.get(task, {}).items()}
    values["config.downstream_expert.datarc.num_workers"] = 0
    flags = ["-u", upstream, "-k", str(tiny_backbone()), "-d", task, "-p", str(exp), *more]
    where = ["--data", str(data), "--device", "cpu"]
    run(["-m", "train", *flags, *where, "-o", ",,".join(f"{key}={value}" for key, value in values.items())])
    best = str(exp / f"{DEV[task]}-best.ckpt")
    run(["-m", "evaluate", "-t", SPLITS.get(task, "test"), "-e", best, *where])
    return exp


def all_runs(top):
    """Return the data, and the folders of eight runs: three tasks and five folds."""
    data = toy_corpora.write_all(top / "data")
    found = {task: train(f"elp_{task}", top / task, data) for task in ("asr", "sv", "ic")}
    for fold in FOLDS:
        found[fold] = train("elp_er", top / fold, data, "-v", fold)
    return data, found


def words_of(found):
    """Return the flags of `elp submit` for all of them."""
    return ["--asr", found["asr"], "--sv", found["sv"], "--ic", found["ic"], "--er", *(found[fold] for fold in FOLDS)]


def own_metric(exp, name):
    """Return a metric of a run's last evaluation."""
    return json.loads((exp / "metrics.jsonl").read_text().splitlines()[-1])["metrics"][name]
