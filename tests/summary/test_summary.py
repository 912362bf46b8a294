"""Outcomes of a sweep's runs: values, errors, comparisons, and the files that show them."""

import json

import numpy as np
import pandas as pd
import pytest

from downstream_heads import registry
from upstream_elp.experiment.facts import FORMAT
from upstream_elp.statistics import Items, interval, save_items
from upstream_elp.statistics.items import items_path
from upstream_elp.summary import report, tables
from upstream_elp.summary.outcomes import outcomes
from upstream_elp.sweep.jobs import FINAL, SEARCH, Job, end

SPEAKERS, PER_SPEAKER = 12, 10
TRAINED = {"weighted_sum": 0, "lora_qv8": 3000, "full_finetune": 90000}


def trials(rng, *, separation):
    """Scores of two recordings of each speaker against each other."""
    pairs = [(a, b) for a in range(SPEAKERS) for b in range(a, SPEAKERS)]
    same = np.array([float(a == b) for a, b in pairs])
    columns = {"score": rng.normal(size=len(pairs)) + separation * same, "same": same}
    names = [[f"s{pair[side]}" for pair in pairs] for side in (0, 1)]
    return Items([f"{a} {b}" for a, b in pairs], names[0], columns, second=names[1])


def answers(rng, *, accuracy):
    count = SPEAKERS * PER_SPEAKER
    keys, speakers = [f"k{i}" for i in range(count)], [f"s{i % SPEAKERS}" for i in range(count)]
    return Items(keys, speakers, {"acc": (rng.random(count) < accuracy).astype(float)})


def finished_job(folder, task, method, seed, items, *, stage=FINAL, fold=None, varied=None):
    """Write the files of a run that has ended."""
    about = registry.find(task)
    path = folder / stage / f"{task}-{method}-{seed}-{fold}-{len(varied or {})}"
    path.mkdir(parents=True)
    job = Job(
        key=path.name, folder=str(path), stage=stage, task=task, method=method, upstream="elp_local", seed=seed,
        config={"runner": {"total_steps": 200}}, fold=fold, varied=varied or {},
    )  # fmt: skip
    test = about.split("test")
    metrics = {about.main_metric: 50.0}
    lines = [
        {"split": "train", "step": 100, "metrics": {"loss": 3.0 + seed}},
        {"split": about.split("dev"), "step": 200, "metrics": {about.also or about.main_metric: 40.0}},
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = {
        "split": test, "step": 0, "items": len(items), "metrics": metrics, "checkpoint": "dev-best.ckpt",
        "checkpoint_step": 200, "chance": {about.main_metric: 25.0},
    }  # fmt: skip
    results = {
        "format": FORMAT, "seconds": 10.0 + seed, "device": "CPU", "metrics": {},
        "parameters": {"frozen": 7, "head": 20, "featurizer": 5, "lora": 9},
        "layer_weights": [{"layer": f"layer {i}", "weight": 0.5 + 0.1 * seed * (1 - 2 * i)} for i in (0, 1)],
        "tests": [line],
    }  # fmt: skip
    (path / "results.json").write_text(json.dumps(results))
    save_items(items_path(path, test), items)
    end(job, train_seconds=1.0, test_seconds=1.0)
    return job


@pytest.fixture
def jobs(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for method, accuracy, separation in (
        ("weighted_sum", 0.4, 0.5),
        ("lora_qv8", 0.9, 0.9),
        ("full_finetune", 0.92, 2.5),
    ):
        for seed in (0, 1):
            found.append(finished_job(tmp_path, "elp_ic", method, seed, answers(rng, accuracy=accuracy)))
            found.append(finished_job(tmp_path, "elp_sv", method, seed, trials(rng, separation=separation)))
    return found


def sizes(jobs):
    return {job.key: TRAINED[job.method] for job in jobs}


def test_each_cell_has_the_value_and_the_error_of_its_seeds(jobs):
    found = outcomes(jobs, sizes(jobs), baseline="weighted_sum")
    assert [each.first.task for each in found] == ["elp_ic"] * 3 + ["elp_sv"] * 3
    for each in found:
        assert [job.seed for job in each.jobs] == [0, 1]
        assert each.value == interval(list(each.items), each.task.main_metric)
        assert each.value.seeds == 2 and each.value.clusters == SPEAKERS and each.value.se > 0
        assert (each.trained, each.head, each.chance, each.seconds) == (TRAINED[each.name], 25, 25.0, 10.5)
        assert [round(one["weight"], 6) for one in each.layer_weights] == [0.55, 0.45]


def test_the_best_and_what_cannot_be_told_apart_from_it(jobs):
    ic = {
        each.name: each for each in outcomes(jobs, sizes(jobs), baseline="weighted_sum") if each.first.task == "elp_ic"
    }
    assert ic["full_finetune"].best is None and ic["full_finetune"].tied
    assert ic["lora_qv8"].tied and ic["lora_qv8"].best.p_holm > 0.05
    assert not ic["weighted_sum"].tied and ic["weighted_sum"].best.difference < -30
    assert ic["weighted_sum"].baseline is None
    assert ic["lora_qv8"].baseline.difference > 2 * ic["lora_qv8"].baseline.se > 0
    sv = {each.name: each for each in outcomes(jobs, sizes(jobs)) if each.first.task == "elp_sv"}
    assert sv["full_finetune"].tied and not sv["weighted_sum"].tied, "a lower EER is better"
    assert all(each.baseline is None for each in sv.values())


def test_the_table_shows_methods_by_size_with_errors_and_bold(jobs):
    found = outcomes(jobs, sizes(jobs), baseline="weighted_sum")
    lines = tables.markdown(found).splitlines()
    assert "IC: accuracy (%) ↑" in lines[0] and "SV: EER (%) ↓" in lines[0]
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(TRAINED)
    full = next(each for each in found if each.name == "full_finetune" and each.first.task == "elp_ic")
    assert f"**{full.value.value:.1f}** ± {full.value.se:.1f}" in lines[4]
    assert "**" not in lines[2]


def test_all_files_are_written(jobs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    text = report.write(out, jobs, sizes(jobs), notes=["Measured on noise."], baseline="weighted_sum")
    assert text.startswith("Measured on noise.\n\n| method")
    frame = pd.read_csv(out / "table.csv")
    assert len(frame) == 6 and frame["speakers"].eq(SPEAKERS).all()
    assert json.loads((out / "table.json").read_text())["cells"][0]["value"] == pytest.approx(frame["value"][0])
    assert frame[frame["method"] == "weighted_sum"]["baseline_difference"].isna().all()
    curves = pd.read_csv(out / "curves.csv")
    assert set(curves["what"]) == {"train loss", "dev accuracy (%)", "dev EER (%)"} and len(curves) == 24
    assert len(pd.read_csv(out / "layer_weights.csv")) == 12
    for name in ("sizes.png", "curves.png", "layer_weights.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_only_tested_runs_count_and_settings_are_rows_of_their_own(tmp_path):
    rng = np.random.default_rng(0)
    searched = finished_job(tmp_path, "elp_ic", "lora_qv8", 9, answers(rng, accuracy=0.5), stage=SEARCH)
    jobs = [
        finished_job(tmp_path, "elp_ic", "lora_qv8", 0, answers(rng, accuracy=0.5), varied={"adapter.lora.rank": rank})
        for rank in (2,)
    ]
    running = finished_job(tmp_path, "elp_ic", "weighted_sum", 0, answers(rng, accuracy=0.5))
    (running.path / "done.json").unlink()
    found = outcomes([searched, *jobs, running], {})
    assert [each.name for each in found] == ["lora_qv8 rank=2"]
    assert report.write(tmp_path, [searched, running], {}, notes=[], baseline=None) == ""


def test_folds_are_joined_within_each_seed_and_incomplete_seeds_do_not_count(tmp_path):
    rng = np.random.default_rng(0)
    parts = [answers(rng, accuracy=0.2), answers(rng, accuracy=0.8)]
    jobs = [
        finished_job(tmp_path, "elp_er", "lora_qv8", seed, items, fold=fold)
        for seed, folds in ((0, ("fold1", "fold2")), (1, ("fold1",)))
        for fold, items in zip(folds, parts, strict=False)
    ]
    (only,) = outcomes(jobs, {})
    means = [100 * part.columns["acc"].mean() for part in parts]
    assert only.value.value == pytest.approx(np.mean(means)) and only.value.seeds == 1
