"""The plans of the papers' tables: which runs they make, and that each of these can start."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

import upstream_elp
from tests import toy_corpora
from tests.programs import call
from tests.toys import tiny_backbone
from upstream_elp.launch import blocks
from upstream_elp.sweep.plan import read_plan
from upstream_elp.sweep.points import cells
from upstream_elp.sweep.resolve import Resolver

ROOT = Path(__file__).parents[2]
PAPERS = ROOT / "recipes" / "papers"
#: number of runs of each plan by task; ER has five folds
RUNS = {
    "l_e_adapters": {"sv": 5, "er": 25, "asr": 5, "ic": 5},
    "elp_adapters": {"sv": 15, "er": 75, "asr": 15, "ic": 15},
    "adapter_transfer": {"asr": 5},
    "efficient_tuning": {"asr": 16, "ic": 16, "ks": 16, "sv": 16, "er": 80},
}


@pytest.fixture(autouse=True)
def root(monkeypatch):
    """Plans name their adapters relative to the repository."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = toy_corpora.write_all(tmp_path_factory.mktemp("data"))
    toy_corpora.librilight(folder)
    trials = folder / "VoxCeleb1" / "voxceleb1_test_v2.txt"
    trials.with_name("veri_test2.txt").write_text(trials.read_text())
    return folder


def test_every_plan_is_here():
    assert {path.stem for path in PAPERS.glob("*.yaml")} == {*RUNS}


@pytest.mark.parametrize("name", RUNS)
def test_the_runs_of_a_table(name):
    found = cells(read_plan(PAPERS / f"{name}.yaml"))
    assert Counter(cell.task.removeprefix("elp_") for cell in found) == RUNS[name]
    assert all(len(cell.seeds) == 1 for cell in found)
    folds = {cell.fold for cell in found if cell.task == "elp_er"}
    assert folds in (set(), {f"fold{number}" for number in range(1, 6)})


def test_the_l_e_table_has_the_papers_adapters():
    for cell in cells(read_plan(PAPERS / "l_e_adapters.yaml")):
        config = cell.method.config
        assert config.backbone_dropout and cell.seeds == (42,)
        activations = {getattr(options, "activation", None) for options in config.methods.values()} - {None}
        wanted = {"relu"} if cell.task in ("elp_sv", "elp_er") else {"gelu"}
        assert activations == (set() if cell.method.name == "full_finetune_dropout" else wanted)


@pytest.mark.parametrize("name", RUNS)
def test_every_run_can_start(name, data, tmp_path, monkeypatch):
    """Its recipe has this method, its configuration is valid, and its data pass the check; the backbone is tiny."""
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    upstream_elp.register()
    whole = {"base": str(PAPERS / f"{name}.yaml"), "data": str(data), "backbones": [str(tiny_backbone())]}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(whole))
    monkeypatch.setenv("ELP_DATA", str(data))
    plan = read_plan(tmp_path / "plan.yaml")
    resolver, folders = Resolver(tmp_path / "out", plan.data, several=False), set()
    for cell in cells(plan):
        if cell.fold not in (None, "fold1"):
            continue
        for job in resolver.jobs(cell):
            blocks.check(job.config, where=job.folder, ours=True)
            folders.add(job.folder)
    assert len(folders) * (2 if name == "efficient_tuning" else 5 if name == "elp_adapters" else 1) == sum(
        count // 5 if task == "er" else count for task, count in RUNS[name].items()
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", RUNS)
def test_a_table_is_trained_tested_and_reported(name, tmp_path):
    """The plan itself on mini-SUPERB, with one fold of ER and without KS; the data are made once per plan."""
    pytest.importorskip("espeakng_loader", reason="needs the extra `synth`")
    done = call([sys.executable, str(PAPERS / "mini.py"), name, "--out", str(tmp_path)], seconds=3500)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / name / "report" / "report.json").read_text())
    wanted = {task: count // 5 if task == "er" else count for task, count in RUNS[name].items() if task != "ks"}
    backbones = len(yaml.safe_load((PAPERS / f"{name}.yaml").read_text())["backbones"])
    found = Counter(run["task"].removeprefix("elp_") for run in report["runs"] if run["tested"])
    assert found == {task: count // backbones for task, count in wanted.items()}
