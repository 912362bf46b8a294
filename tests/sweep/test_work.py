"""A plan as jobs: what is checked before anything runs, folders, states, and the search's choice."""

import dataclasses
import itertools
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tests import sweep_plans
from tests.programs import elp
from tests.toys import tiny_backbone
from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment.facts import FORMAT
from upstream_elp.sweep import jobs as files
from upstream_elp.sweep import show
from upstream_elp.sweep.compare import Compare
from upstream_elp.sweep.estimate import Times, time_left
from upstream_elp.sweep.jobs import DONE, FAILED, NEW, PARTIAL, RUNNING, Job, state_of
from upstream_elp.sweep.locks import held
from upstream_elp.sweep.plan import parse_plan
from upstream_elp.sweep.points import cells
from upstream_elp.sweep.run import record
from upstream_elp.sweep.search import searches
from upstream_elp.sweep.slurm import parse_options, write_script
from upstream_elp.sweep.work import Planner, read_manifest, write_manifest


def finish(job: Job, *, dev=50.0, test=60.0, seconds=12.0):
    """Write the files of a job that has ended."""
    job.path.mkdir(parents=True, exist_ok=True)
    line = {"split": "test", "metrics": {"acc": test}, "chance": {"acc": 25.0}, "items": 8, "checkpoint_step": 4}
    results = {
        "format": FORMAT, "seconds": seconds, "device": "CPU", "peak_memory_bytes": 1, "layer_weights": [],
        "parameters": {"frozen": 7, "head": 20}, "tests": [line] if job.stage == "final" else [],
        "metrics": {"dev": {"acc": {"at_best_checkpoint": dev}}},
    }  # fmt: skip
    (job.path / "results.json").write_text(json.dumps(results))
    files.end(job, train_seconds=seconds, test_seconds=3.0)


# checks ------------------------------------------------------------------------------------------------------------

SEARCH = {"search": {"seeds": [100, 101], "grid": {"optimizer.lr": [1e-3, 1e-2]}}}
RATE = "optimizer.groups.e_adapter"
BAD = {
    "layers": (
        {"methods": [{"base": "le", "name": "deep", "l_adapter": {"layers": [7]}}]},
        r"deep must fit the backbone .* but does not: .*7.* selects layer 7",
    ),
    "named backbone": (
        {"methods": [{"base": "le", "name": "deep", "l_adapter": {"layers": [12]}}], "backbones": ["wavlm_base"]},
        "deep must fit the backbone wavlm_base, but does not",
    ),
    "no such part": ({"grid": {"adapter.e_adapter.layers": ["all", "top:1"]}}, "weighted_sum has no e_adapter"),
    "no such rate": ({"grid": {RATE: [1e-3, 1e-4]}}, f"{RATE} must fit every method, but weighted_sum has no"),
    "adapter of fbank": (
        {"methods": [{"upstream": "fbank"}], "grid": {"adapter.features": ["last"]}},
        "is one of S3PRL's upstreams and has no adapter",
    ),
    "no such option": ({"methods": ["le"], "set": {"adapter.e_adapter.width": 3}}, "unknown key 'width'"),
    "runner": ({"set": {"runner.total_step": 3}}, "unknown runner.total_step .did you mean total_steps"),
    "optimizer": ({"set": {"optimizer.name": "Adamm"}}, "optimizer.name is 'Adamm'"),
    "data": ({"set": {"downstream_expert.datarc.batchsize": 3}}, "datarc.batchsize"),
    "head": ({"set": {"downstream_expert.modelrc.projector_dims": 3}}, "did you mean projector_dim"),
    "a value": ({"set": {"runner.total_steps.x": 3}}, "total_steps must be a block of keys, but is the value 160"),
    "config": ({"config": "{task}_quik"}, "ic_quik: no such file or recipe; did you mean ic_quick"),
    "another task's": ({"config": "er_quick"}, "er_quick is a recipe for -d elp_er"),
    "upstream": ({"methods": [{"upstream": "fbankk"}]}, "-u fbankk: no such name"),
    "same by content": (
        {"methods": ["le", {"base": "le", "name": "again"}]},
        "methods must differ, but le and again are the same by content",
    ),
    "folds": (
        {"tasks": ["er"], "folds": ["fold2"], "set": {"downstream_expert.datarc.test_fold": "fold1"}},
        "-v is fold2, but config key downstream_expert.datarc.test_fold is fold1",
    ),
    "no dev evaluated": (
        {"set": {"runner.eval_dataloaders": ["test"]}, **SEARCH},
        r"must contain dev, but is \['test'\]; a search needs a dev set",
    ),
    "no dev set": (
        {
            "tasks": ["sv"],
            "set": {"downstream_expert.datarc.protocol": "superb", "downstream_expert.datarc.min_samples": 16000},
            **SEARCH,
        },
        "must have a dev set, but its protocol evaluates test instead",
    ),
    "adapter folder": ({"backbones": ["FOLDER"]}, "is an adapter folder|trained adapter folder"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_what_elp_run_would_refuse_is_refused_before_anything_runs(changes, message, planner, tmp_path):
    if changes.get("backbones") == ["FOLDER"]:
        changes = {"backbones": [str(Path("tests/golden/adapters/le").absolute())]}
    with pytest.raises(ElpError, match=message) as error:
        planner(**changes)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_broken_data_are_refused(planner, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    next((tmp_path / "data" / "fluent_speech_commands_dataset").rglob("*.wav")).write_bytes(b"")
    plan = parse_plan(sweep_plans.content(tmp_path / "data"), where="plan", name="toy")
    with (
        settings.in_force(dataclasses.replace(settings.current(), data=str(tmp_path / "data"))),
        pytest.raises(ElpError, match=r"plan: elp_ic weighted_sum .*1 problem in .*elp check -d elp_ic"),
    ):
        Planner(plan, tmp_path / "out", data=str(tmp_path / "data"))


def test_the_folder_of_another_plan_is_refused(planner, tmp_path):
    write_manifest(planner().work())
    planner()
    with pytest.raises(ElpError, match="must belong to the plan other, but belongs to toy; choose another folder"):
        planner(name="other")
    (tmp_path / "else" / "runs").mkdir(parents=True)
    with pytest.raises(ElpError, match=r"contains runs without sweep.json; choose another folder"):
        planner(tmp_path / "else")
    (tmp_path / "file").write_text("")
    with pytest.raises(ElpError, match="must be a folder, but is a file"):
        planner(tmp_path / "file")
    with pytest.raises(ElpError, match="must be the folder of a sweep"):
        show.status(tmp_path / "nowhere", name="toy")


# jobs --------------------------------------------------------------------------------------------------------------


def test_a_job_is_found_again_whatever_else_the_plan_says(planner, tmp_path):
    work = planner().work()
    first = {job.key: job.folder for job in work.jobs}
    for folder in first.values():
        Path(folder).mkdir(parents=True)
    write_manifest(work)
    copy = shutil.copy(tiny_backbone(), tmp_path / "moved.pt")
    changed = planner(
        methods=["weighted_sum", {"base": "le", "name": "renamed"}, "elp"], seeds=[0, 1], backbones=[str(copy)],
        set={**sweep_plans.SHORT, "downstream_expert.datarc.num_workers": 2, "runner.cache": False},
    ).work()  # fmt: skip
    again = {job.key: job.folder for job in changed.jobs}
    assert len(again) == 6 and first.items() <= again.items()
    assert not first.keys() & {job.key for job in planner(set={**sweep_plans.SHORT, "optimizer.lr": 0.1}).work().jobs}


def test_the_data_count_by_their_files_and_labels(planner, data):
    table = data / "fluent_speech_commands_dataset" / "data" / "train_data.csv"
    text, first = table.read_text(), {job.key for job in planner().work().jobs}
    lines = text.splitlines()
    lines[1] = lines[1].replace("change language,none,none", "activate,lights,kitchen")
    table.write_text("\n".join([*lines, lines[1]]) + "\n")
    try:
        assert lines[1] != text.splitlines()[1]
        table.write_text("\n".join(lines) + "\n")
        assert first.isdisjoint(job.key for job in planner().work().jobs)
    finally:
        table.write_text(text)
    assert first == {job.key for job in planner().work().jobs}


def test_a_job_has_the_flags_of_elp_run(planner, data):
    job = planner(tasks=["er"], methods=["le"], folds=["fold3"], seeds=[5]).work().jobs[0]
    job.write()
    flags = job.train_argv()
    named = dict(itertools.pairwise(flags))
    assert (named["-u"], named["-d"], named["-v"], named["--seed"]) == ("elp_local", "elp_er", "fold3", "5")
    assert named["--data"] == str(data) and named["-k"] == str(tiny_backbone())
    assert "le-fold3-seed5-" in job.path.name and files.read_job(job.file) == job
    (job.path / "states-2.ckpt").touch()
    assert not {"-u", "-k", "-g", "-c"} & {*job.train_argv()}, "a checkpoint has its own settings"


def test_the_states_of_a_job(planner):
    job = planner(methods=["le"]).work().jobs[0]
    assert state_of(job) == NEW
    job.path.mkdir(parents=True)
    with held(job.path):
        assert state_of(job) == RUNNING
    assert state_of(job) == NEW
    (job.path / "train.jsonl").write_text('{"step": 3}\n{"st')
    assert (state_of(job), files.progress(job)) == (PARTIAL, 3)
    files.fail(job, "no space")
    assert (state_of(job), files.failure(job)) == (FAILED, "no space")
    finish(job)
    assert state_of(job) == DONE


def test_an_attempt_without_a_checkpoint_leaves_nothing(planner):
    job = planner(methods=["le"]).work().jobs[0]
    job.path.mkdir(parents=True)
    job.write()
    for name in ("metrics.jsonl", "args_2026-01-01-00-00-00.yaml", "dev-best.ckpt", "log.txt"):
        (job.path / name).touch()
    files.clear(job)
    kept = {"adapter.yaml", "config.yaml", "job.json", "log.txt"}
    assert {path.name for path in job.path.iterdir()} == kept
    for name in ("states-2.ckpt", "metrics.jsonl"):
        (job.path / name).touch()
    files.clear(job)
    assert {path.name for path in job.path.iterdir()} == kept | {"states-2.ckpt", "metrics.jsonl"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["methods", "--array-limit", "3"], "--array-limit must go with --slurm"),
        (["methods", "--slurm", "partition=a", "--gpus", "0"], "--gpus must go without --slurm"),
        (["method"], "did you mean methods"),
        (["methods", "--status", "--out", "nowhere"], "must be the folder of a sweep"),
        (["methods"], "build/mini.pt must be a file, a folder or the name of a backbone"),
    ],
)
def test_a_wrong_command_is_one_sentence(words, message, monkeypatch, capsys):
    assert elp("sweep", *words, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_dry_run_and_the_status_say_how_far_it_is(planner, tmp_path):
    work = planner(seeds=[0, 1]).work()
    assert not work.out.exists()
    text = show.plan(work)
    assert text.count(" new ") == 4 and "unknown" in text and "4 jobs: 4 new" in text
    assert [line.split()[-2] for line in text.splitlines() if "weighted_sum" in line] == ["0", "0"]
    finish(next(job for job in work.jobs if job.method == "le"))
    other = next(job for job in work.jobs if job.method == "weighted_sum")
    other.path.mkdir(parents=True)
    files.fail(other, "no space")
    text = show.plan(work)
    assert text.count("15 s") == 2  # the one that has ended, and the other seed
    assert "4 jobs: 1 done, 1 failed, 2 new; about 45 s of computing left" in text
    assert "of which 2 jobs by the times of others" in text
    write_manifest(work)
    printed = show.status(work.out, name="toy")
    assert "1 done, 1 failed, 2 new" in printed and f"failed (no space); see {other.log}" in printed
    assert read_manifest(work.out)["jobs"] == work.jobs


@pytest.mark.parametrize(("task", "pattern"), [("asr", "LibriSpeech/**/*.trans.txt"), ("sv", "VoxCeleb1/*.txt")])
def test_other_transcripts_or_trials_are_another_run(planner, data, tmp_path, task, pattern):
    own = shutil.copytree(data, tmp_path / "data")
    keys = {
        task: [job.key for job in planner(tasks=[task], corpora=own, set={"runner.total_steps": 4}).work().jobs]
        for task in (task, "ic")
    }
    for file in own.glob(pattern):
        first, *lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join([f"{first.strip()}S\n", *lines] if task == "asr" else lines))  # or a trial less
    again = {
        task: [job.key for job in planner(tasks=[task], corpora=own, set={"runner.total_steps": 4}).work().jobs]
        for task in (task, "ic")
    }
    assert not {*keys[task]} & {*again[task]} and keys["ic"] == again["ic"]


def test_times_are_those_of_the_same_kind(planner):
    work = planner(seeds=[0, 1, 2], tasks=["ic"]).work()
    le = [job for job in work.jobs if job.method == "le"]
    finish(le[0], seconds=10.0)
    finish(le[1], seconds=20.0)
    times = Times(work.jobs)
    assert times.of(le[2]) == 15.0 + 3.0
    assert times.of(next(job for job in work.jobs if job.method == "weighted_sum")) is None
    assert times.left([le[2]], {le[2].key: 0.5}, 4) == (9.0, 0)


def test_the_time_of_a_new_kind_is_guessed_from_its_task_and_else_from_all(planner):
    work = planner(tasks=["ic", "er"]).work()
    jobs = {(job.task, job.method): job for job in work.jobs}
    assert Times(work.jobs).left(work.jobs, {}, 2) == (None, 1)
    finish(jobs["elp_ic", "le"], seconds=10.0)
    assert Times(work.jobs).guess(jobs["elp_er", "le"]) == 13.0
    finish(jobs["elp_er", "le"], seconds=20.0)
    times = Times(work.jobs)
    assert times.guess(jobs["elp_ic", "weighted_sum"]) == 13.0 and times.guess(jobs["elp_er", "weighted_sum"]) == 23.0
    waiting = [jobs["elp_ic", "weighted_sum"], jobs["elp_er", "weighted_sum"]]
    assert time_left(*times.left(waiting, {}, 2)) == "about 18 s left, of which 2 jobs by the times of others"
    assert time_left(None, 1) == "time left unknown, as no job like these has ended"


# search ------------------------------------------------------------------------------------------------------------


def test_a_search_runs_first_and_chooses_by_the_mean_on_dev(planner):
    plan = planner(methods=["le"], seeds=[0, 1, 2], **SEARCH)
    work = plan.work()
    assert (len(work.search), len(work.final), work.waiting) == (4, 0, 3)
    assert {job.seed for job in work.search} == {100, 101}
    assert "3 more runs will follow" in show.plan(work)
    values = {(1e-3, 100): 90.0, (1e-3, 101): 10.0, (1e-2, 100): 60.0, (1e-2, 101): 55.0}
    for job in work.search[:-1]:
        finish(job, dev=values[job.searched["optimizer.lr"], job.seed])
    assert plan.work().waiting == 3, "one of the search's runs has not ended"
    job = work.search[-1]
    finish(job, dev=values[job.searched["optimizer.lr"], job.seed])
    work = plan.work()
    assert [(job.seed, job.searched) for job in work.final] == [(seed, {"optimizer.lr": 1e-2}) for seed in (0, 1, 2)]
    assert all(job.config["optimizer"]["lr"] == 1e-2 for job in work.final)
    record(work)
    grid = pd.read_csv(work.out / "search.csv")
    assert grid["mean"].tolist() == [50.0, 57.5] and grid["chosen"].tolist() == [False, True]
    assert json.loads((work.out / "search.json").read_text())[0]["values"] == [90.0, 10.0]


def test_a_plan_without_seeds_ends_after_its_search(planner):
    plan = planner(methods=["le"], seeds=[], **SEARCH)
    for job in plan.work().search:
        finish(job, dev=1.0)
    work = plan.work()
    assert len(work.search) == 4 and not work.final and not work.waiting
    record(work)
    assert pd.read_csv(work.out / "search.csv")["chosen"].sum() == 1


def test_a_setting_that_diverges_is_not_chosen(planner):
    plan = planner(methods=["le"], **SEARCH)
    for job in plan.work().search:
        bad = job.searched["optimizer.lr"] == 1e-2 and job.seed == 101
        finish(job, dev=None if bad else 99.0 if job.searched["optimizer.lr"] == 1e-2 else 1.0)
    assert [job.searched for job in plan.work().final] == [{"optimizer.lr": 1e-3}]


def test_the_searches_are_found_again_from_the_jobs(planner):
    rest = {key: value for key, value in sweep_plans.SHORT.items() if key != "runner.total_steps"}
    plan = planner(tasks=["ic", "er"], methods=["le"], grid={"runner.total_steps": [4, 6]}, set=rest, **SEARCH)
    work = plan.work()
    assert len(work.searches) == 4
    assert searches(work.jobs, planned=2) == work.searches


# what the report needs ---------------------------------------------------------------------------------------------


def test_the_manifest_has_what_the_report_needs(planner, tmp_path):
    work = planner(
        methods=["le", "weighted_sum", {"upstream": "fbank"}], compare={"baseline": "le", "margin": 2}
    ).work()
    write_manifest(work)
    known = read_manifest(work.out)
    assert Compare.from_dict(known["compare"]) == work.plan.compare == Compare("le", {None: 2.0})
    assert {known["depth"][job.key] for job in work.jobs if job.backbone} == {3}
    assert {known["depth"][job.key] for job in work.jobs if not job.backbone} == {None}
    again = parse_plan(known["content"], where="again", name="toy")
    assert [cell.title for cell in cells(again)] == [cell.title for cell in cells(work.plan)]
    assert known["started"]["folder"] == str(Path.cwd())


# SLURM -------------------------------------------------------------------------------------------------------------


def test_the_script_lists_the_jobs_and_can_be_read(planner, tmp_path):
    work = planner(seeds=[0, 1]).work()
    script = write_script(work.out, work.jobs, name="toy", options="partition=gpu,time=08:00:00,gres=gpu:1,shard:2",
                          limit=20, device=None)  # fmt: skip
    text = script.read_text()
    for line in ("--array=1-4%20", "--requeue", "--signal=TERM@120", "--partition=gpu", "--time=08:00:00",
                 "--gres=gpu:1,shard:2"):  # fmt: skip
        assert f"#SBATCH {line}\n" in text
    assert (work.out / "slurm" / "jobs.txt").read_text().split() == [job.folder for job in work.jobs]
    assert all(files.read_job(job.file) == job for job in work.jobs)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("gpu", "must be options of sbatch"),
        ("array=1-9", "use --array-limit"),
        ("partition=a,output=x", "not set output"),
    ],
)
def test_options_of_sbatch_that_make_no_sense(options, message):
    with pytest.raises(ElpError, match=message):
        parse_options(options)


def test_flags_without_a_value_are_passed_on():
    assert parse_options("partition=a,exclude=n1,n2,exclusive=") == {
        "partition": "a",
        "exclude": "n1,n2",
        "exclusive": "",
    }
