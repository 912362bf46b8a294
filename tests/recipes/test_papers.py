"""The scripts of the papers' tables: which runs they make, that each can start, and that they do train."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import upstream_elp
from tests import toy_corpora
from tests.toys import tiny_backbone
from upstream_elp.adapters.config import load_named
from upstream_elp.launch import planning

ROOT = Path(__file__).parents[2]
PAPERS = ROOT / "recipes" / "papers"
#: number of runs of each script for a task; ER has five folds
RUNS = {
    "l_e_adapters": dict.fromkeys(("sv", "asr", "ic"), 5) | {"er": 25},
    "elp_adapters": dict.fromkeys(("sv", "asr", "ic"), 15) | {"er": 75},
    "adapter_transfer": {"asr": 5},
    "efficient_tuning": dict.fromkeys(("sv", "asr", "ic", "ks"), 16) | {"er": 80},
}
RECORD = '#!/usr/bin/env bash\nfor word in "$@"; do printf "%q " "$word"; done >> "$RECORD"\necho >> "$RECORD"\n'


def script(name, *arguments, **environment):
    return subprocess.run(
        ["bash", str(PAPERS / f"{name}.sh"), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def recorded(tmp_path, name, *tasks):
    """The commands of a script, whose runs are replaced by a program that writes them down."""
    stub, record = tmp_path / "elp", tmp_path / "record"
    stub.write_text(RECORD)
    stub.chmod(0o755)
    record.write_text("")
    (tmp_path / "data").mkdir(exist_ok=True)
    done = script(name, tmp_path / "data", tmp_path / "out", *tasks, ELP=str(stub), RECORD=str(record))
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in record.read_text().splitlines()]


def value(command, flag):
    return command[command.index(flag) + 1]


@pytest.mark.parametrize("name", RUNS)
def test_every_script_is_known(name):
    assert {path.stem for path in PAPERS.glob("*.sh")} == {*RUNS, "cells"}


@pytest.mark.parametrize("name", RUNS)
def test_the_runs_of_a_table(name, tmp_path):
    *runs, report = recorded(tmp_path, name)
    assert report[0] == "report"
    counted = {task: sum(value(run, "-d") == f"elp_{task}" for run in runs) for task in RUNS[name]}
    assert counted == RUNS[name] and len(runs) == sum(counted.values())
    assert len({value(run, "-p") for run in runs}) == len(runs)  # every run has its own folder
    again = recorded(tmp_path, name)
    assert [command[0] for command in again] == ["report"]  # what is done is not run again


@pytest.mark.parametrize("name", RUNS)
def test_every_run_can_start(name, tmp_path, monkeypatch):
    """Its recipe has this method, its adapter exists, and its blocks are valid; the backbone is a tiny one."""
    upstream_elp.register()
    monkeypatch.chdir(tmp_path)
    seen = set()
    for command in recorded(tmp_path, name)[:-1]:
        kind = (value(command, "-d"), value(command, "-g"), value(command, "-c"))
        if kind in seen:
            continue
        seen.add(kind)
        flags = ["-k", str(tiny_backbone()), "--device", "cpu"]
        plan = planning.read([*command[1:], "-u", "elp_local", *flags])
        planning.complete(plan)
        assert plan.config["optimizer"] and plan.fresh


def test_the_l_e_table_has_the_papers_adapters(tmp_path):
    runs = recorded(tmp_path, "l_e_adapters")[:-1]
    for run in runs:
        config, names = load_named(value(run, "-g"))
        assert config.backbone_dropout and value(run, "--seed") == "42"
        activations = {getattr(options, "activation", None) for options in config.methods.values()} - {None}
        wanted = {"relu" if value(run, "-d") in ("elp_sv", "elp_er") else "gelu"}
        assert activations == (set() if names[1] == "full_finetune" else wanted)
    assert {value(run, "-v") for run in runs if "-v" in run} == {f"fold{number}" for number in range(1, 6)}


def test_some_tasks_only(tmp_path):
    assert {value(run, "-d") for run in recorded(tmp_path, "l_e_adapters", "ic", "asr")[:-1]} == {"elp_ic", "elp_asr"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "usage: "),
        (("nowhere", "out"), "DATA must be the folder of the corpora, but there is no folder nowhere"),
        ((".", "out", "pr"), "TASK must be one of sv er asr ic, but is pr"),
    ],
)
def test_wrong_arguments(arguments, sentence):
    done = script("l_e_adapters", *arguments, ELP="false")
    assert done.returncode == 2 and sentence in done.stderr and not done.stdout


def test_an_interrupted_script_does_not_go_on(tmp_path):
    done = script("adapter_transfer", tmp_path, tmp_path / "out", ELP="false")
    assert done.returncode == 1 and done.stdout.count("==") == 1


#: what makes a table small: two epochs of the toys, and schedules and crops that fit
SHORT = (
    "config.runner.total_steps=2,,config.runner.eval_step=2,,config.runner.save_step=2,,config.runner.log_step=1,,"
    "config.downstream_expert.datarc.num_workers=0"
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), [("adapter_transfer", "asr"), ("l_e_adapters", "ic")])
def test_a_table_is_trained(name, task, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    toy_corpora.write_all(data)
    toy_corpora.librilight(data)
    elp = Path(sys.executable).with_name("elp")
    backbone = f"elp_local -k {tiny_backbone()}"
    settings = {"ELP": str(elp), "ELP_BACKBONE": backbone, "ELP_OPTIONS": SHORT, "ELP_CACHE": str(tmp_path / "cache")}
    done = script(name, data, out, task, **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    folders = sorted((out / task).iterdir())
    assert len(folders) == RUNS[name][task]
    for folder in folders:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if line["split"] != "train"] == [2]
    assert all(folder.name in done.stdout.split("== ")[-1] for folder in folders)  # the report
