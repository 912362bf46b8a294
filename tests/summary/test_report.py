"""The report of a sweep: its files, what it says about unfinished runs, and wrong folders."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.programs import elp
from tests.sweep_folders import SPEAKERS, answers, finish, job_of, toy_sweep, trials, write_manifest
from upstream_elp.base.errors import ElpError
from upstream_elp.submission.scoring import POINTS
from upstream_elp.summary import report
from upstream_elp.summary.layers import series
from upstream_elp.summary.outcomes import outcomes
from upstream_elp.summary.runs import UNREADABLE, read_sweep
from upstream_elp.sweep.jobs import fail, read_job
from upstream_elp.sweep.locks import held
from upstream_elp.sweep.plan import parse_plan

PICTURES = {"values", "sizes", "layer_weights", "curves", "search"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A toy sweep with its report; not to be changed."""
    folder = toy_sweep(tmp_path_factory.mktemp("toy") / "sweep")
    return report.write(folder), folder / "report"


class Page(HTMLParser):
    """Addresses that a page loads, anchors, links, and texts by tag."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.links, self.ids, self.tags, self.texts, self._open = [], [], [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        self._open += [] if tag in ("meta", "link", "img") else [tag]
        self.ids += [values["id"]] if "id" in values else []
        if tag == "a":
            self.links.append(values["href"])
        else:
            self.loaded += [values[name] for name in ("src", "href", "data", "srcset", "poster") if name in values]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, "every element is closed"

    def handle_data(self, data):
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)


# files -------------------------------------------------------------------------------------------------------------


def test_all_files_are_written(written):
    outcome, folder = written
    assert outcome.page == folder / "report.html"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"report.html", "report.md", "report.json", "plan.yaml", "commands.sh"} <= names
    assert {f"pictures/{name}.{form}" for name in PICTURES for form in ("png", "svg", "pdf")} <= names
    tables = {
        "results",
        "intervals_ic",
        "intervals_sv",
        "best_ic",
        "baseline_sv",
        "costs",
        "superb_points",
        "search_ic",
    }
    assert {f"tables/{name}.tex" for name in tables} <= names
    frames = {"results", "runs", "search", "curves", "layer_weights"}
    assert {name for name in names if name.endswith(".csv")} == {f"tables/{name}.csv" for name in frames}
    for path in (folder / "pictures").iterdir():
        assert path.read_bytes().startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[path.suffix])


def test_the_main_table_shows_methods_by_size_with_errors_and_bold(written):
    outcome, folder = written
    cells = {(row["method"], row["task"]): row for row in json.loads((folder / "report.json").read_text())["cells"]}
    lines = outcome.text.splitlines()
    assert "IC: accuracy (%) ↑" in lines[0] and "SV: EER (%) ↓" in lines[0]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["weighted_sum", "lora_qv8", "full_finetune"]
    row = cells["full_finetune", "elp_ic"]
    assert f"**{row['value']:.1f}** ± {row['speaker_se']:.1f} ({row['seed_sd']:.1f})" in lines[4]
    assert "**" not in lines[2]
    assert outcome.text in (folder / "report.md").read_text()
    latex = (folder / "tables" / "results.tex").read_text()
    assert rf"\textbf{{\underline{{{row['value']:.1f}}}}} $\pm$" in latex and r"lora\_qv8" in latex
    assert r"accuracy (\%) $\uparrow$" in latex and latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1


def test_tables_for_programs_agree(written):
    _, folder = written
    content = json.loads((folder / "report.json").read_text())
    frame = pd.read_csv(folder / "tables" / "results.csv")
    assert len(frame) == len(content["cells"]) == 6 and frame["speakers"].eq(SPEAKERS).all()
    for row, (_, line) in zip(content["cells"], frame.iterrows(), strict=True):
        assert row["value"] == pytest.approx(line["value"]) and row["mark"] == (
            "" if pd.isna(line["mark"]) else line["mark"]
        )
        assert row["value"] == pytest.approx(np.mean(list(row["each_seed"].values())))
    assert frame[frame["method"] == "weighted_sum"]["baseline_difference"].isna().all()
    runs = pd.read_csv(folder / "tables" / "runs.csv")
    assert len(runs) == 18 and runs["tested"].sum() == 12 and set(runs["state"]) == {"done"}
    curves = pd.read_csv(folder / "tables" / "curves.csv")
    assert set(curves["what"]) == {"train loss", "dev accuracy (%) ↑", "dev EER (%) ↓"} and len(curves) == 24
    first = curves[(curves["what"] == "train loss") & (curves["step"] == 100)]
    assert (first["min"] == 3.0).all() and (first["max"] == 4.0).all() and (first["mean"] == 3.5).all()
    assert len(pd.read_csv(folder / "tables" / "layer_weights.csv")) == 30
    grid = pd.read_csv(folder / "tables" / "search.csv")
    assert grid["chosen"].tolist() == [True, False] * 3 and len(content["search"]) == 6


def test_without_dev_only_the_loss_is_drawn(tmp_path):
    rng = np.random.default_rng(0)
    jobs = [finish(job_of(tmp_path, task, "le", 0), made) for task, made in (
        ("elp_ic", answers(rng, accuracy=0.8)), ("elp_sv", trials(rng, separation=1.0)),
    )]  # fmt: skip
    for job in jobs:
        lines = (job.path / "metrics.jsonl").read_text().splitlines(keepends=True)
        (job.path / "metrics.jsonl").write_text("".join(line for line in lines if '"dev"' not in line))
    report.write(write_manifest(tmp_path, jobs))
    folder = tmp_path / "report"
    assert "The loss of training; no run was evaluated on dev" in (folder / "report.md").read_text()
    assert set(pd.read_csv(folder / "tables" / "curves.csv")["what"]) == {"train loss"}
    with Image.open(folder / "pictures" / "curves.png") as picture:
        assert picture.width > 2 * picture.height, "two panels in one row"


def test_energy_is_shown_if_every_run_of_a_cell_has_it(written, tmp_path):
    _, folder = written
    frame = pd.read_csv(folder / "tables" / "results.csv")
    seeds = pd.read_csv(folder / "tables" / "runs.csv").query("tested")["seed"].unique()
    assert frame["processors_joules"].to_numpy() == pytest.approx(3600 + 720 * seeds.mean())
    assert frame["gpus_joules"].isna().all()
    text = (folder / "report.md").read_text()
    assert "energy of processors" in text and "1.1 Wh" in text and "energy of GPUs" not in text
    rng, jobs = np.random.default_rng(0), []
    for seed, energy in enumerate((True, False)):
        jobs.append(finish(job_of(tmp_path, "elp_ic", "le", seed), answers(rng, accuracy=0.8), energy=energy))
    write_manifest(tmp_path, jobs)
    report.write(tmp_path)
    text = (tmp_path / "report" / "report.md").read_text()
    assert "energy of" not in text and "Energy is not known" in text


def test_points_are_those_of_the_site(written):
    _, folder = written
    row = next(row for row in json.loads((folder / "report.json").read_text())["cells"] if row["task"] == "elp_ic")
    least, best = POINTS["IC_acc"]
    assert row["superb_points"] == pytest.approx(1000 * (row["value"] - least) / (best - least))
    text = (folder / "report.md").read_text()
    section = text[text.index("## SUPERB points") : text.index("## Runs")]
    assert f"| {row['superb_points']:,.0f} |" in re.sub(" +", " ", section) and "mean |" not in section
    assert "points on synthetic corpora" in section and "not comparable" in section


def test_a_second_call_gives_the_same_files(written, tmp_path):
    _, folder = written
    again = report.write(folder.parent, out=tmp_path / "again").page.parent
    for path in folder.rglob("*.*"):
        if path.suffix != ".html":  # it has the time
            assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path


# the page ----------------------------------------------------------------------------------------------------------


def test_the_page_loads_nothing(written):
    outcome, _ = written
    text = outcome.page.read_text(encoding="utf-8")
    page = Page(text)
    assert page.loaded and all(address.startswith("data:") for address in page.loaded)
    assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert "@import" not in text and "url(" not in text
    for address in page.loaded:
        if address.startswith("data:image/svg+xml;base64,"):
            svg = base64.b64decode(address.split(",", 1)[1]).decode()
            assert not re.findall(r'(?:href|src)="(?!#|data:)', svg) and "<script" not in svg


def test_the_table_of_contents_leads_to_every_section(written):
    page = Page(written[0].page.read_text(encoding="utf-8"))
    titles = page.texts["h2"]
    assert len(titles) == len(page.links) >= 10 and len(set(page.ids)) == len(page.ids)
    assert all(link.removeprefix("#") in page.ids for link in page.links) and not page._open
    pictures = [values for tag, values in page.tags if tag == "img"]
    assert len(pictures) == len(PICTURES) and all(values["alt"] for values in pictures)


def test_names_are_not_read_as_html(tmp_path):
    job = finish(job_of(tmp_path, "elp_ic", "a&b<i>", 0), answers(np.random.default_rng(0), accuracy=0.5))
    page = report.write(write_manifest(tmp_path, [job], description="<script>alert(1)</script>")).page
    read = Page(page.read_text(encoding="utf-8"))
    assert "a&b<i>" in read.texts["td"] and not {"i", "script"} & {tag for tag, _ in read.tags}
    assert r"a\&b\textless{}i\textgreater{}" in (page.parent / "tables" / "results.tex").read_text()


# how to repeat it --------------------------------------------------------------------------------------------------


def test_plan_and_commands_repeat_the_sweep(written):
    _, folder = written
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    assert parse_plan({**plan, "backbones": ["wavlm_base"]}, where="plan", name="other").name == "toy"
    script = (folder / "commands.sh").read_text()
    lines = [line for line in script.splitlines() if line.startswith("elp run")]
    assert len(lines) == 2 * 12 and "export OMP_NUM_THREADS=1" in script
    assert sum(line.startswith('elp run -m train -p "$new"/runs/') for line in lines) == 12
    assert all("-best.ckpt" in line for line in lines if "-m evaluate" in line)
    text = (folder / "report.md").read_text()
    assert "cd '/a folder'\nelp sweep toy.yaml" in text
    assert "abababababababab" in text and "cdcdcdcdcdcdcdcd" in text and "2.13.0" in text


def test_a_sweep_of_an_earlier_version_has_a_report(tmp_path):
    folder = toy_sweep(tmp_path)
    content = json.loads((folder / "sweep.json").read_text())
    for key in ("compare", "content", "started"):
        del content[key]
    for job in content["jobs"]:
        del job["depth"]
    (folder / "sweep.json").write_text(json.dumps(content))
    out = report.write(folder).page.parent
    assert not (out / "plan.yaml").exists() and "elp sweep toy.yaml --out" in (out / "report.md").read_text()
    assert not (out / "tables" / "baseline_ic.tex").exists()


# unfinished --------------------------------------------------------------------------------------------------------


def test_runs_that_have_not_ended_are_listed(tmp_path):
    rng = np.random.default_rng(0)
    done = [finish(job_of(tmp_path, "elp_ic", "le", seed), answers(rng, accuracy=0.5)) for seed in (0, 1)]
    new, failed, running, broken, empty = (job_of(tmp_path, "elp_ic", "le", seed) for seed in (2, 3, 4, 5, 6))
    failed.path.mkdir(parents=True)
    fail(failed, "no space left")
    running.path.mkdir(parents=True)
    finish(broken, answers(rng, accuracy=0.5))
    (broken.path / "results.json").write_text("{")
    finish(empty, answers(rng, accuracy=0.5))
    (empty.path / "items-test.csv").unlink()
    folder = write_manifest(tmp_path, [*done, new, failed, running, broken, empty], waiting=3)
    with held(running.path):
        outcome = report.write(folder)
        states = {run.job.seed: run.state for run in read_sweep(folder).runs}
    assert states == {0: "done", 1: "done", 2: "new", 3: "failed", 4: "running", 5: UNREADABLE, 6: UNREADABLE}
    content = json.loads((outcome.page.parent / "report.json").read_text())
    said = "7 runs: 2 done, 1 running, 1 failed, 1 new, 2 unreadable; 3 more runs will follow the search"
    assert content["state"] == said and content["cells"][0]["seeds"] == 2
    page = Page(outcome.page.read_text(encoding="utf-8"))
    assert any(said in text for text in page.texts["p"])
    assert {"no space left", "new", "running"} <= {*page.texts["td"]} and str(failed.log) in page.texts["td"]
    assert any("results.json cannot be read" in text for text in page.texts["td"])
    assert "2 of 7" in page.texts["td"]


def test_seeds_and_folds_that_do_not_count_are_named(tmp_path):
    rng = np.random.default_rng(0)
    there = [(0, "fold1"), (0, "fold2"), (1, "fold1")]
    jobs = [
        finish(job_of(tmp_path, "elp_er", "le", seed, fold=fold), answers(rng, accuracy=0.5)) for seed, fold in there
    ]
    jobs += [job_of(tmp_path, "elp_er", "le", seed, fold="fold3") for seed in (0, 1)]
    text = (report.write(write_manifest(tmp_path, jobs)).page.parent / "report.md").read_text()
    assert "ER: le: 1 seed (1) not counted: a fold is missing." in text
    assert "ER: le: the value is over 2 of 3 folds." in text and "fold2 |" in text


def test_a_search_that_has_not_ended_has_its_grid(tmp_path):
    jobs = [job_of(tmp_path, "elp_ic", "le", 9, stage="search", searched={"optimizer.name": name}) for name in "ab"]
    finish(jobs[0], dev=60.0)
    outcome = report.write(write_manifest(tmp_path, jobs, waiting=2))
    assert outcome.text == "2 runs: 1 done, 1 new; 2 more runs will follow the search; no run is tested yet"
    text = (outcome.page.parent / "report.md").read_text()
    assert "1 search has not ended." in text and "name=a" in text and "## Results" not in text
    assert (outcome.page.parent / "pictures" / "search.svg").is_file()


def test_a_folder_that_has_moved(tmp_path):
    folder = toy_sweep(tmp_path / "here")
    before = report.write(folder).text
    shutil.move(folder, tmp_path / "there")
    assert report.write(tmp_path / "there").text == before
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    jobs = [run.job for run in read_sweep(tmp_path / "there").runs]
    assert all(job.folder.startswith(str(tmp_path / "there")) for job in jobs), "not those of a copy elsewhere"


# layers ------------------------------------------------------------------------------------------------------------


def layer_jobs(folder):
    rng = np.random.default_rng(0)
    jobs = [finish(job_of(folder, "elp_ic", "weighted_sum", 0), answers(rng, accuracy=0.4))]
    for part, layers in (
        ("e_adapter", "top:1"), ("e_adapter", ":-1"), ("l_adapter", "top:2"), ("l_adapter", [0, 1, 2]),
    ):  # fmt: skip
        adapter = {"e_adapter": {"layers": "all"}, "l_adapter": {"layers": "all"}}
        adapter[part] = {"layers": layers}
        varied = {f"adapter.{part}.layers": layers}
        job = job_of(folder, "elp_ic", "le", 0, varied=varied, adapter=adapter)
        jobs.append(finish(job, answers(rng, accuracy=0.6)))
    whole = job_of(folder, "elp_ic", "le", 0, adapter={"e_adapter": {"layers": "all"}, "l_adapter": {"layers": "all"}})
    return [*jobs, finish(whole, answers(rng, accuracy=0.9), weights=False)]


def test_values_by_number_of_adapted_layers(tmp_path):
    folder = write_manifest(tmp_path, layer_jobs(tmp_path))
    found = series(outcomes(read_sweep(folder)))
    counts = {(point.series, point.layers) for point in found.points}
    assert counts == {("le (e_adapter)", n) for n in (1, 3, 4)} | {("le (l_adapter)", n) for n in (2, 3, 4)}
    assert [each.name for each in found.without] == ["weighted_sum"] and not found.unknown
    out = report.write(folder).page.parent
    assert (out / "pictures" / "layers.pdf").is_file() and len(pd.read_csv(out / "tables" / "layers.csv")) == 6
    rows = pd.read_csv(out / "tables" / "results.csv").set_index("method")["value"]
    layers = pd.read_csv(out / "tables" / "layers.csv")
    assert layers[layers["layers"] == 4]["value"].eq(rows["le"]).all()


def test_an_unknown_number_of_layers_is_said(tmp_path):
    folder = write_manifest(tmp_path, layer_jobs(tmp_path), depth=None)
    text = (report.write(folder).page.parent / "report.md").read_text()
    assert "Not shown: le, le layers=" in text and "call elp sweep again to record it" in text


def test_without_layers_in_the_plan_there_is_no_such_picture(written):
    assert not (written[1] / "pictures" / "layers.svg").exists()


# the command and wrong folders -------------------------------------------------------------------------------------


def test_the_command_writes_the_report(tmp_path, monkeypatch, capsys):
    folder = toy_sweep(tmp_path / "sweep", seeds=(0,))
    assert elp("report", folder, "--out", tmp_path / "out", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "| full_finetune" in printed and f"report: {tmp_path}/out/report.html" in printed
    assert not (folder / "report").exists()


def nothing_finished(folder):
    job = job_of(folder, "elp_ic", "le", 0)
    write_manifest(folder, [job])


def broken(text):
    def make(folder):
        folder.mkdir()
        (folder / "sweep.json").write_text(text)

    return make


WRONG = {
    "no folder": (lambda folder: None, "no such experiment folder"),
    "not a sweep": (lambda folder: folder.mkdir(), "name the folder of an experiment or of a sweep"),
    "nothing finished": (nothing_finished, "must have a run that has ended, but has 1 run: 1 new; wait for one"),
    "broken": (broken("{"), "must be the folder of a sweep, but .*sweep.json cannot be read"),
    "a list": (broken("[]"), "must be the folder of a sweep, but .*sweep.json cannot be read"),
    "other format": (broken('{"format": 99}'), "sweep.json cannot be read .format 99"),
    "other jobs": (broken('{"format": 1, "name": "x", "jobs": [{"key": 1}]}'), "sweep.json cannot be read"),
    "not UTF-8": (lambda folder: (folder.mkdir(), (folder / "sweep.json").write_bytes(b"\xff")), "cannot be read"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_folder_is_one_sentence(make, message, tmp_path, monkeypatch, capsys):
    make(tmp_path / "sweep")
    assert elp("report", tmp_path / "sweep", monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "sweep" / "report").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [(["OTHER"], "must be the only one, but there are 2"), (["--format", "csv"], "--format must go without a sweep")],
)
def test_flags_that_do_not_belong_to_a_sweep(more, message, tmp_path, monkeypatch, capsys):
    folder = write_manifest(tmp_path / "sweep", [])
    assert elp("report", folder, *more, monkeypatch=monkeypatch) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_writable_is_one_sentence(tmp_path):
    folder = toy_sweep(tmp_path / "sweep", seeds=(0,))
    (tmp_path / "file").write_text("")
    with pytest.raises(ElpError, match=r"cannot write the report to .*file.* choose a folder with --out"):
        report.write(folder, out=tmp_path / "file")


def test_a_folder_without_a_sweep_is_refused_by_the_function(tmp_path):
    with pytest.raises(ElpError, match="there is no such folder"):
        report.write(tmp_path / "nowhere")
    with pytest.raises(ElpError, match=r"has no sweep\.json; name the folder of --out"):
        report.write(tmp_path)


def test_toy_jobs_are_those_of_a_sweep(tmp_path):
    job = job_of(tmp_path, "elp_sv", "le", 0)
    finish(job, trials(np.random.default_rng(0), separation=1.0))
    job.write()
    assert read_job(job.file) == job
