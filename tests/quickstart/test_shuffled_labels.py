"""A control: what the quickstart measures must disappear when the training labels say nothing about the speech."""

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from tests.programs import call
from upstream_elp.mini import fluent
from upstream_elp.mini.superb import write_mini_superb

SLOTS = ["action", "object", "location"]
TRAIN, TEST = (f"{fluent.NAME}/data/{split}_data.csv" for split in ("train", "test"))


def accuracy(data, out):
    """Train a weighted sum of the packaged model's states, and return its accuracy on test in per cent."""
    flags = ["--data", str(data), "--out", str(out), "--tasks", "ic", "--methods", "weighted_sum"]
    done = call([sys.executable, "-m", "upstream_elp.cli", "quickstart", *flags], seconds=600)
    assert done.returncode == 0, done.stderr
    (file,) = out.glob("runs/*/*/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return next(row["metrics"]["acc"] for row in rows if row["split"] == "test")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_shuffled_labels_give_chance(tmp_path):
    write_mini_superb(tmp_path / "data", corpora=[fluent.NAME], size="small", jobs=2)
    shutil.copytree(tmp_path / "data", tmp_path / "shuffled")
    table = pd.read_csv(tmp_path / "data" / TRAIN)
    order = np.random.default_rng(0).permutation(len(table))
    table[SLOTS] = table[SLOTS].to_numpy()[order]
    table.to_csv(tmp_path / "shuffled" / TRAIN, index=False)
    chance = 100 / len(fluent.INTENTS)
    true, shuffled = (accuracy(tmp_path / name, tmp_path / f"{name}-out") for name in ("data", "shuffled"))
    tested = len(pd.read_csv(tmp_path / "data" / TEST))
    error = np.sqrt(chance * (100 - chance) / tested)
    assert true > chance + 10 * error
    assert shuffled < chance + 3 * error  # the three parts of an intent are guessed separately, so it may be less
