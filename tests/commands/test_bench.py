"""The benchmarks run and write their tables; their measurements are not tested."""

import csv
import json
import sys
from pathlib import Path

import pytest

from tests.programs import call

BENCH = Path(__file__).parents[2] / "recipes" / "bench"


def _run(*arguments, script="methods.py"):
    return call([sys.executable, str(BENCH / script), *arguments], seconds=600)


def test_help_names_the_options():
    done = _run("--help")
    assert done.returncode == 0, done.stderr
    options = ("--device", "--presets", "--batch", "--seconds", "--repeats", "--layer-checks", "--out")
    assert all(option in done.stdout for option in options)


def test_an_unknown_preset_is_named():
    done = _run("--presets", "elp,elq")
    assert done.returncode == 2
    assert "unknown preset 'elq'; the presets are: adapterbias, " in done.stderr


def test_padding_is_measured(tmp_path):
    flags = ["--families", "wav2vec2", "--presets", "le", "--pairs", "2", "--out", str(tmp_path / "padding")]
    done = _run(*flags, script="padding.py")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "padding.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8  # Base-like and Large-like, without and with noise, two pairs each
    large = [row for row in rows if row["backbone"] == "wav2vec2 Large-like"]
    assert len(large) == 4 and all(float(row[which]) < 1e-6 for row in large for which in ("plain", "adapted"))
    assert "| le" in done.stdout


@pytest.mark.slow
def test_a_small_run_writes_its_tables(tmp_path):
    tiny = ["--size", "mini", "--batch", "1", "--seconds", "0.5", "--repeats", "1", "--layer-repeats", "1"]
    done = _run(*tiny, "--presets", "lora_qv8", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("out/*")} == {"methods.md", "methods.csv", "methods.json"}
    text = (tmp_path / "out" / "methods.md").read_text()
    assert text in done.stdout and "LoRA on q and v / plain layer" in text and "seconds 0.5" in text
    with (tmp_path / "out" / "methods.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    # 4 layers, two matrices of 256 x 8 and 8 x 256 on each of two weights
    assert {name: int(row["trainable"]) for name, row in rows.items()} == {"frozen": 0, "lora_qv8": 4 * 2 * 2 * 256 * 8}
    assert next(iter(rows)) == "frozen" and all(float(row["seconds"]) > 0 for row in rows.values())
    measured = json.loads((tmp_path / "out" / "methods.json").read_text())
    assert measured["setting"]["repeats"] == 1 and set(measured["rows"]) == set(rows)
    assert all(len(run["times"]) == len(run["frozen_times"]) == 1 for run in measured["rows"].values())
    assert {name: len(times) for name, times in measured["layer"].items()} == dict.fromkeys(
        ("plain", "lora", "site", "adapter"), 1
    )


@pytest.mark.slow
def test_a_start_on_a_corpus_is_measured(tmp_path):
    assert "--files" in _run("--help", script="start.py").stdout
    done = _run("--files", "2000", "--folder", str(tmp_path), "--out", str(tmp_path / "rows.json"), script="start.py")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["what"] for row in rows] == ["first start", "second start", "one file changed"] * 2
    assert {row["files"] for row in rows} == {2000} and all(row["together"] > 0 for row in rows)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"], "the corpora are removed"


def test_a_killed_training_keeps_no_lock(tmp_path):
    """Progress bars share a lock with forked processes; one that is killed while holding it would block the others."""
    code = f"""
import os, pathlib, runpy, signal
import upstream_elp.run
from tqdm import tqdm

def run(flags):
    tqdm.get_lock().acquire()
    os.kill(os.getpid(), signal.SIGKILL)

upstream_elp.run.run = run
attempt = runpy.run_path({str(BENCH / "kill.py")!r})["_attempt"]
with tqdm(total=1) as bar:
    assert attempt([], pathlib.Path({str(tmp_path / "log.txt")!r})) == -signal.SIGKILL
    bar.update(1)
    bar.refresh()
"""
    done = call([sys.executable, "-c", code], seconds=60)
    assert done.returncode == 0, done.stderr
