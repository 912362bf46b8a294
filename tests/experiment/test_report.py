"""The report of an experiment: every figure comes from the folder, and rewriting it gives the same figures."""

import csv
import json
import re
import struct
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from downstream_heads import registry
from tests.host_toys import stock_words
from tests.task_tools import make_expert
from tests.toy_corpora import write_all
from upstream_elp.base.errors import ElpError
from upstream_elp.cli import group
from upstream_elp.corpora.registry import corpus
from upstream_elp.experiment.facts import FACTS
from upstream_elp.experiment.logs import Logs, read_logs, summarize
from upstream_elp.experiment.report import duration, rewrite, table, write_report
from upstream_elp.run import run
from upstream_elp.statistics import Interval
from upstream_elp.training.datafiles import data_fingerprint, task_fingerprint

GROUPS = {"head": 1e-3, "l_adapter": 1e-4, "e_adapter": 1e-4, "encoder": 0.0}


def train_line(step, loss, **changes):
    line = {"step": step, "epoch": step // 40, "loss": loss, "grad_norm": 1.0, "lr": GROUPS, "skipped": 0}
    return {**line, "utterances": 80, "seconds": 4.0, **changes}


def metric_line(split, step, **metrics):
    return {"task": "elp_asr", "split": split, "step": step, "items": 9, "metrics": metrics, "chance": {}}


def checkpoint(weights, *, adapted=(), upstream="elp_local"):
    args = Namespace(upstream=upstream, upstream_ckpt="b.pt", upstream_model_config="le", downstream="elp_asr", seed=3)
    return {
        "Args": args,
        "Config": {"runner": {"eval_dataloaders": ["dev-clean"]}},
        "Step": 40,
        "Featurizer": {} if weights is None else {"weights": torch.tensor(weights)},
        "Upstream": {f"l_adapter.{layer}.linear.weight": torch.zeros(2, 2) for layer in adapted},
        "Downstream": {"linear.weight": torch.zeros(5), "best_score": torch.zeros(1)},
    }


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def folder(tmp_path):
    """A run of 60 steps, stopped at 50 and resumed from 40, with one test of its best checkpoint."""
    expdir = tmp_path / "exp"
    expdir.mkdir()
    steps = [train_line(step, 10.0 / step) for step in (10, 20, 30, 40)]
    write_lines(expdir / "train.jsonl", [*steps, train_line(50, 77.0), train_line(50, None), train_line(60, 0.5)])
    write_lines(
        expdir / "metrics.jsonl",
        [
            metric_line("train", 20, wer=90.0, loss=0.6),
            metric_line("dev-clean", 20, wer=50.0, uer=20.0, loss=3.0),
            metric_line("dev-clean", 40, wer=30.0, uer=22.0, loss=2.0),
            metric_line("dev-clean", 60, wer=99.0, uer=None, loss=2.5),
            metric_line("dev-clean", 60, wer=30.0, uer=None, loss=2.5),
            {**metric_line("test-clean", 0, wer=33.0, uer=21.0), "checkpoint": "dev-clean-best.ckpt"},
        ],
    )
    torch.save(checkpoint([0.0, 1.0, 2.0], adapted=(0, 1, 3)), expdir / "dev-clean-best.ckpt")
    return expdir


def facts(**changes):
    known = {
        "command": ["elp", "run"], "versions": {"torch": "2"}, "environment": {"ELP_DATA": "/d"},
        "config": {"runner": {"eval_dataloaders": ["dev-clean"]}},
        "args": {"downstream": "elp_asr", "upstream": "elp_local"}, "adapter": {"name": "le"}, "seed": 3,
        "backbone": {"name": None, "sha256": "b"},
        "parameters": {"head": 5, "l_adapter": 1200, "frozen": 94_000_000}, "seconds": 3725.4,
        "energy_joules": {"processors": 81_000.0, "gpus": 7.2e6},
        "peak_memory_bytes": 3 * 2**30, "device": "cpu", "data": {"train": {"files": 2, "bytes": 3, "sha256": "a"}},
        "skipped_steps": 1, "fp16_overflows": 0, "skipped_files": 0,
    }  # fmt: skip
    assert set(known) == set(FACTS)
    return {**known, **changes}


def size_of_png(path):
    """(width, height) in pixels."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", content[16:24])


def test_best_and_final_values_with_their_steps(folder):
    reported = write_report(folder, facts())
    results = json.loads((folder / "results.json").read_text())
    wer, uer = (results["metrics"]["dev-clean"][name] for name in ("wer", "uer"))
    best = {"best": 30.0, "best_step": 40, "at_best_checkpoint": 30.0}
    assert wer == {**best, "final": 30.0, "final_step": 60, "unit": "%"}
    best = {"best": 20.0, "best_step": 20, "at_best_checkpoint": 22.0}
    assert uer == {**best, "final": None, "final_step": 60, "unit": "%"}
    assert [(line["split"], line["checkpoint"]) for line in results["tests"]] == [("test-clean", "dev-clean-best.ckpt")]
    assert {key: results[key] for key in FACTS} == facts()
    assert results["missing"] == []
    for words in (
        "dev-clean WER                    30.00 % at step 40 (last: 30.00 % at step 60)",
        "22.00 % at step 40 (last: not finite at step 60)", "test-clean WER", "33.00 % of dev-clean-best.ckpt",
        "1,205 (head 5, l_adapter 1,200)", "94,000,000", "1 h 02 min", "22.5 Wh", "energy of GPUs", "2 kWh",
        "3.00 GiB on cpu", "skipped steps",
    ):  # fmt: skip
        assert words in reported
    assert "train" not in reported.split("trained")[0] and "skipped files" not in reported


def test_a_step_that_stands_twice_counts_the_last_time(folder):
    logs = read_logs(folder)
    assert [line["step"] for line in logs.train] == [10, 20, 30, 40, 50, 60]
    assert logs.train[4]["loss"] is None
    write_report(folder, facts())
    training = json.loads((folder / "results.json").read_text())["training"]
    assert training == {
        "steps": 60, "epochs": 1, "loss_first": 1.0, "loss_last": 0.5, "utterances": 480, "seconds": 24.0,
        "utterances_per_second": 20.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "best"), [("acc", (3.0, 2)), ("wer", (1.0, 1)), ("min_dcf", (1.0, 1)), ("unheard_of", (None, None))]
)
def test_the_better_direction_is_the_metrics(name, best):
    point = summarize({1: 1.0, 2: 3.0, 3: 3.0, 4: None}, name)
    assert (point["best"], point["best_step"]) == best
    assert (point["final"], point["final_step"]) == (None, 4)


@pytest.mark.parametrize(
    ("weights", "adapted", "names"),
    [
        ([0.0, 1.0, 2.0], (0, 1, 3), ["L-adapter 1", "L-adapter 2", "L-adapter 4"]),
        ([0.0, 1.0, 2.0], (), ["hidden state 0", "hidden state 1", "hidden state 2"]),
        ([0.0, 1.0, 2.0], (0, 1), ["hidden state 0", "hidden state 1", "hidden state 2"]),  # -s chose other features
        ([0.5], (), []),
        (None, (0, 1), []),
    ],
)
def test_layer_weights_are_the_best_checkpoints_softmax_by_name(folder, weights, adapted, names):
    torch.save(checkpoint(weights, adapted=adapted), folder / "dev-clean-best.ckpt")
    torch.save(checkpoint([9.0, 9.0]), folder / "states-60.ckpt")
    torch.save(checkpoint([9.0, 9.0]), folder / "another-best.ckpt")
    write_report(folder, facts())
    written = (folder / "layer_weights.csv", folder / "layer_weights.png")
    assert [path.exists() for path in written] == [bool(names)] * 2
    if names:
        rows = list(csv.reader(written[0].open()))
        assert rows[0] == ["layer", "weight"]
        # softmax of 0, 1, 2: e**k / (1 + e + e**2)
        assert [(name, float(value)) for name, value in rows[1:]] == [
            (name, pytest.approx(value, abs=1e-6))
            for name, value in zip(names, (0.090031, 0.244728, 0.665241), strict=True)
        ]
        assert min(size_of_png(written[1])) > 300


def test_the_curves_have_a_panel_for_each_quantity(folder):
    from upstream_elp.experiment.curves import _panels

    panels = {panel.label: panel for panel in _panels(read_logs(folder))}
    assert list(panels) == ["loss", "WER (%)", "character error rate (%)", "learning rate"]
    assert set(panels["loss"].lines) == {"train", "dev-clean"} and panels["loss"].log
    assert set(panels["WER (%)"].lines) == {"train", "dev-clean"} and not panels["WER (%)"].log
    assert set(panels["learning rate"].lines) == {"head", "l_adapter, e_adapter", "encoder"}
    assert panels["learning rate"].log
    assert panels["learning rate"].lines["encoder"] == dict.fromkeys((10, 20, 30, 40, 50, 60))
    write_report(folder, facts())
    width, height = size_of_png(folder / "curves.png")
    assert width > height > 500


@pytest.mark.parametrize(("lowest", "logarithmic"), [(1.0, False), (0.2, True)])
def test_every_axis_has_numbers_and_no_legend_hides_a_line(lowest, logarithmic, tmp_path, monkeypatch):
    """A logarithmic axis from 1 to 1.6 would have only the number 1; a split has one colour in all panels."""
    from upstream_elp.experiment import curves

    logs = Logs(train=[train_line(10, 1.6), train_line(20, lowest)])
    logs.curves = {"train": {"loss": {10: 1.6}}, "dev": {"eer": {10: 40.0, 20: 30.0}, "loss": {10: 1.5}}}
    figures = []
    monkeypatch.setattr(curves, "save", lambda figure, path: figures.append(figure))
    assert curves.plot_curves(logs, tmp_path / "curves.png")
    figures[0].canvas.draw()
    axes = {axis.get_ylabel(): axis for axis in figures[0].axes}
    assert axes["loss"].get_yscale() == ("log" if logarithmic else "linear")
    for axis in axes.values():
        assert axis.get_xlim() == pytest.approx((0, 20.6))
        low, high = axis.get_ylim()
        assert sum(low <= tick <= high for tick in axis.get_yticks()) >= 2
        assert axis.get_legend().get_window_extent().y0 >= axis.get_window_extent().y1
    assert {
        line.get_color() for label in ("loss", "EER (%)") for line in axes[label].lines if line.get_label() == "dev"
    } == {"C1"}


def test_the_protocol_that_chooses_on_test_is_reported(folder):
    """SUPERB's speaker verification chooses on test, so the report of such a score has to say so."""
    notes = {"items": 24, "chance": {"eer": 50.0}, "protocol": "superb", "selected_on": "test"}
    write_lines(folder / "metrics.jsonl", [{**metric_line("test", 20, eer=30.0), **notes}])
    reported = write_report(folder, facts())
    assert json.loads((folder / "results.json").read_text())["splits"] == {"test": notes}
    assert "superb: the best checkpoint is chosen on test" in reported


def test_rewriting_gives_the_same_from_the_folder_only(folder):
    write_report(folder, facts())
    before = json.loads((folder / "results.json").read_text())
    for name in ("curves.png", "layer_weights.png", "layer_weights.csv"):
        (folder / name).unlink()
    again = rewrite(folder)
    assert {**again, "written": None} == {**before, "written": None}
    assert all((folder / name).is_file() for name in ("curves.png", "layer_weights.png", "layer_weights.csv"))


def test_a_folder_without_results_is_reported_from_its_checkpoint_and_says_what_is_missing(folder):
    (folder / "metrics.jsonl").unlink()
    results = rewrite(folder)
    assert (results["seed"], results["adapter"]["name"]) == (3, "le")
    assert results["parameters"] == {"head": 5, "featurizer": 3, "l_adapter": 12}
    assert results["missing"] == ["there is no metrics.jsonl", "not recorded: command, versions, data"]
    assert results["metrics"] == {}
    assert (folder / "curves.png").is_file(), "the loss is known"


def test_a_stock_task_is_reported_as_far_as_it_left_data(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    words = [
        "--no-self-check",
        *stock_words("fluent_commands", tmp_path, "-g", "le", total_steps=4, eval_step=2, log_step=1),
    ]
    run(words)
    results = rewrite(tmp_path / "exp")
    assert results["command"] == ["elp", "run", *words]  # S3PRL gets other arguments, which nobody could repeat
    assert results["environment"]["ELP_SELF_CHECK"] == "0" and results["environment"]["PWD"] == str(Path.cwd())
    assert results["backbone"]["name"] is None and len(results["backbone"]["sha256"]) == 64
    assert (results["skipped_steps"], results["skipped_files"]) == (0, 0)
    assert results["missing"] == ["not recorded: data"]
    assert results["training"]["steps"] == 4
    assert set(results["parameters"]) == {"head", "featurizer", "e_adapter", "l_adapter", "layer_norm", "frozen"}
    assert [row["layer"] for row in results["layer_weights"]][:2] == ["L-adapter 1", "L-adapter 2"]
    assert sum(row["weight"] for row in results["layer_weights"]) == pytest.approx(1, abs=1e-5)
    assert {"curves.png", "layer_weights.png"} <= {path.name for path in (tmp_path / "exp").iterdir()}


def test_what_a_stock_task_gives_to_tensorboard_is_reported(tmp_path, monkeypatch):
    """Under its own names, so that its fractions are not mistaken for our percentages."""
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    run(stock_words("fluent_commands", tmp_path, total_steps=4, eval_step=2, log_step=1))
    reported = [float(line.split(": ")[1]) for line in (tmp_path / "exp" / "log.log").read_text().splitlines()[:6]]
    lines = [json.loads(line) for line in (tmp_path / "exp" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2, 2, 3, 4, 4, 4]
    assert {line["split"]: line["items"] for line in lines} == {"train": 4, "dev": 4, "test": 4}
    dev = [line["metrics"]["fluent_commands/acc"] for line in lines if line["split"] == "dev"]
    assert set(dev) <= set(reported) and len(dev) == 2
    results = rewrite(tmp_path / "exp")
    assert results["metrics"]["dev"]["fluent_commands/acc"]["final"] == dev[-1]
    (row,) = [row for row in table(results).splitlines() if row.startswith("dev fluent_commands/acc")]
    assert f"{dev[-1]:.4g} at step 4" in row
    run(["-m", "evaluate", "-e", str(tmp_path / "exp"), "-t", "test", "--device", "cpu"])
    (tested,) = json.loads((tmp_path / "exp" / "results.json").read_text())["tests"]
    assert (tested["checkpoint"], tested["checkpoint_step"], tested["items"]) == ("states-4.ckpt", 4, 4)
    assert tested["metrics"] == lines[-1]["metrics"], "as it was at that step during training"


def test_logs_without_a_checkpoint_and_with_broken_lines(folder):
    (folder / "dev-clean-best.ckpt").write_bytes(b"broken")
    (folder / "train.jsonl").write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "lo')
    reported = write_report(folder, {"seconds": 5})
    assert "1 broken lines of train.jsonl are skipped" in reported
    assert "dev-clean-best.ckpt" in reported
    assert not (folder / "layer_weights.png").exists()
    (folder / "dev-clean-best.ckpt").unlink()
    assert "there is no checkpoint to read layer weights from" in write_report(folder, {})


def test_nothing_is_half_written(folder, monkeypatch):
    write_report(folder, facts())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    from upstream_elp.base.pictures import Figure

    def broken(figure, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(ElpError, match=r"cannot write the report into .*: No space left on device"):
        write_report(folder, facts())
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if name != "results.json")


def test_json_holds_what_json_can(folder):
    odd = facts(config={"a": float("nan"), "b": folder, 3: (1, 2)}, args=Namespace(x=float("inf")))
    write_report(folder, odd)
    text = (folder / "results.json").read_text()
    results = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert results["config"] == {"a": None, "b": str(folder), "3": [1, 2]}
    assert results["args"] == {"x": None}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write_report(path / "no", {}), "no: no such experiment folder"),
        (lambda path: write_report(path, {"sead": 1}), "unknown fact 'sead' for a report; the facts are: command"),
        (lambda path: rewrite(path), "contains neither results.json nor metrics.jsonl nor a checkpoint"),
        (lambda path: (path / "results.json").write_text("[") and rewrite(path), "results.json cannot be read"),
        (lambda path: (path / "results.json").write_text("[]") and rewrite(path), "is not a results.json of format 1"),
    ],
)
def test_wrong_folders_are_one_sentence(make, message, tmp_path):
    with pytest.raises(ElpError, match=message) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


def test_durations():
    assert [duration(s) for s in (0.4, 59.6, 3599, 3600, 90061)] == [
        "0 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "25 h 01 min",
    ]  # fmt: skip


def test_the_command_prints_one_and_compares_several(folder, tmp_path):
    write_report(folder, facts())
    other = tmp_path / "other"
    other.mkdir()
    write_lines(other / "metrics.jsonl", [metric_line("dev", 5, acc=70.0)])
    one = CliRunner().invoke(group, ["report", str(folder)])
    assert one.exit_code == 0 and "30.00 % at step 40" in one.output
    several = CliRunner().invoke(group, ["report", str(folder), str(other)]).output
    first, second = map(rows_of, several.strip().split("\n\n"))  # they are of different tasks
    assert (first["experiment"], first["adapter"], first["dev-clean WER (%)"]) == ("exp", "le", "30.00")
    assert (first["trained parameters"], first["best step"], first["seed"]) == ("1,205", "40", "3")
    assert (second["experiment"], second["dev accuracy (%)"], second["best step"]) == ("other", "70.00", "5")
    assert "adapter" not in second
    out = tmp_path / "all.csv"
    reported = CliRunner().invoke(group, ["report", str(folder), str(other), "--format", "csv", "--out", str(out)])
    assert reported.exit_code == 0 and f"{out}: 2 experiments\n" in reported.output
    reported = CliRunner().invoke(group, ["report", str(folder), "--out", str(tmp_path / "one.md")])
    assert f"{tmp_path / 'one.md'}: 1 experiment\n" in reported.output
    rows = list(csv.DictReader(out.open()))
    assert [row["experiment"] for row in rows] == ["exp", "other"]
    assert float(rows[0]["test-clean WER (%)"]) == 33.0 and rows[1]["test-clean WER (%)"] == ""
    assert (rows[0]["best step"], rows[1]["seed"]) == ("40", "")


def rows_of(table):
    """The last row of a Markdown table, by column."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return dict(zip(cells[0], cells[-1], strict=True))


def test_folds_are_reported_and_averaged(tmp_path):
    for number, value in ((1, 60.0), (2, 70.0)):
        folder = tmp_path / f"fold{number}"
        folder.mkdir()
        lines = [{**metric_line("dev", 5, acc=50.0), "fold": f"fold{number}"}]
        lines.append({**metric_line("test", 0, acc=value), "checkpoint": "dev-best.ckpt", "checkpoint_step": 5})
        write_lines(folder / "metrics.jsonl", lines)
    reported = CliRunner().invoke(group, ["report", str(tmp_path / "fold1")]).output
    assert "60.00 % of dev-best.ckpt at step 5" in reported and re.search(r"^fold +fold1$", reported, re.MULTILINE)
    several = CliRunner().invoke(group, ["report", *(str(tmp_path / f"fold{n}") for n in (1, 2))]).output
    last = rows_of(several.strip())
    assert (last["experiment"], last["dev accuracy (%)"], last["test accuracy (%)"]) == (
        "mean of 2 folds",
        "50.00",
        "65.00",
    )


def test_of_several_evaluations_the_latest_of_a_best_checkpoint_is_compared(tmp_path):
    other = {**metric_line("test", 0, acc=10.0), "checkpoint": "states-1.ckpt"}
    best = {**metric_line("test", 0, acc=80.0), "checkpoint": "dev-best.ckpt"}
    earlier = {**best, "metrics": {"acc": 20.0}}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        lines = [metric_line("dev", 5, acc=50.0), earlier, other, best, other]
        write_lines(tmp_path / name / "metrics.jsonl", lines)
    reported = CliRunner().invoke(group, ["report", str(tmp_path / "one"), str(tmp_path / "two")]).output
    assert rows_of(reported.strip())["test accuracy (%)"] == "80.00"


def with_interval(value, se, **more):
    """A line of an evaluation of test with the interval of its accuracy."""
    found = Interval("acc", value, se, value - 2 * se, value + 2 * se, 0.95, 1000, 2, 0, "fewer than 10 clusters")
    line = {**metric_line("test", 0, acc=value), **more, "checkpoint": "dev-best.ckpt"}
    return {**line, "intervals": {"acc": found.to_dict()}}


def test_intervals_are_in_the_table_and_in_results(tmp_path):
    write_lines(tmp_path / "metrics.jsonl", [metric_line("dev", 5, acc=50.0), with_interval(76.1, 1.4)])
    results = rewrite(tmp_path)
    assert results["tests"][0]["intervals"]["acc"]["se"] == 1.4
    margin = "± 1.40 (95 % 73.30 to 78.90, 2 speakers, rough: fewer than 10 clusters)"
    assert f"76.10 % {margin} of dev-best.ckpt" in table(results)
    broken = {**with_interval(76.1, 1.4), "intervals": {"acc": {"written": "by a later version"}}}
    write_lines(tmp_path / "metrics.jsonl", [broken])
    assert "76.10 % of dev-best.ckpt" in table(rewrite(tmp_path))


def test_standard_errors_are_compared_and_combined_over_folds(tmp_path):
    lines = {"one": with_interval(70.0, 3.0, fold="fold1"), "two": with_interval(80.0, 4.0, fold="fold2")}
    for name, line in lines.items():
        (tmp_path / name).mkdir()
        write_lines(
            tmp_path / name / "metrics.jsonl", [{**metric_line("dev", 5, acc=50.0), "fold": line["fold"]}, line]
        )
    (tmp_path / "three").mkdir()
    write_lines(tmp_path / "three" / "metrics.jsonl", [metric_line("dev", 5, acc=60.0)])
    folders = [str(tmp_path / name) for name in (*lines, "three")]
    output = CliRunner().invoke(group, ["report", *folders]).output
    assert "70.00 ± 3.00" in output and "80.00 ± 4.00" in output and "standard error" not in output
    assert "75.00 ± 2.50" in output  # (9 + 16) ** 0.5 / 2
    as_csv = CliRunner().invoke(group, ["report", *folders, "--format", "csv"]).output
    row = next(csv.DictReader(as_csv.splitlines()))
    assert row["test accuracy (%)"] == "70.0" and row["test accuracy standard error (%)"] == "3.0"


# which data ----------------------------------------------------------------------------------------------------------


def make_files(root, sizes):
    for name, size in sizes.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * size)
    return [root / name for name in sizes]


SIZES = {"a/1.wav": 3, "a/2.wav": 4, "b/c/1.wav": 5}


def test_a_fingerprint_depends_on_names_and_sizes_and_on_nothing_else(tmp_path):
    files = make_files(tmp_path / "here", SIZES)
    first = data_fingerprint(files)
    assert (first["files"], first["bytes"]) == (3, 12)
    assert data_fingerprint([*files[::-1], files[0]]) == first
    (tmp_path / "here" / "a" / "3.wav").write_bytes(b"not used")
    assert data_fingerprint(files) == first
    assert data_fingerprint(make_files(tmp_path / "there" / "deep", SIZES)) == first
    changes = [{**SIZES, "a/1.wav": 4}, {"a/1.wav": 3, "a/2.wav": 4, "b/d/1.wav": 5}, {"a/1.wav": 3, "b/c/1.wav": 9}]
    found = [data_fingerprint(make_files(tmp_path / str(i), sizes))["sha256"] for i, sizes in enumerate(changes)]
    assert len({first["sha256"], *found}) == 4
    assert data_fingerprint([])["files"] == 0
    files[0].unlink()  # as --skip-bad-files allows
    less = data_fingerprint(files)
    assert (less["files"], less["missing"], first["missing"]) == (3, 1, 0) and less["sha256"] != first["sha256"]


@pytest.mark.parametrize("task", registry.names())
def test_every_task_lists_the_files_of_its_splits(task, tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    root = write_all(tmp_path) / corpus(registry.find(task).corpus).folder
    options = {"held_out": 2, "min_samples": 6000} if task == "elp_sv" else {}
    head = make_expert(task, tmp_path / "exp", datarc={"root": str(root), **options})
    train = head.dataset("train")
    found = task_fingerprint(head)
    assert "train" in found and len(found) > 1, "dev is built with train"
    assert all(path.is_file() for files in head.files().values() for path in files)
    utterances = sum(len(item[0]) for item in train) if task == "elp_asr" else len(train)
    assert found["train"]["files"] == utterances
    assert task_fingerprint(torch.nn.Linear(1, 1)) == {}
