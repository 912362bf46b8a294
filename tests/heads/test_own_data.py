"""The tasks on a user's own data: trained from a manifest, evaluated, resumed, exported and used."""

import json

import pytest
import torch
import yaml

from downstream_heads import registry
from tests.own_data import rows_of, synthesise, write_csv, write_jsonl
from tests.programs import elp
from tests.task_runs import SHORT, SMALL
from tests.toys import tiny_backbone
from upstream_elp import inference
from upstream_elp.base.errors import ElpError
from upstream_elp.run import run

pytest.importorskip("espeakng_loader", reason="needs the extra `synth`")

TASKS = ("elp_asr", "elp_sv", "elp_er", "elp_ic")
ANSWERS = {
    "elp_asr": "test-clean-noLM-hyp.ark",
    "elp_sv": "test_predict.txt",
    "elp_er": "test_predict.txt",
    "elp_ic": "test_predict.csv",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return synthesise(tmp_path_factory.mktemp("mini"))


@pytest.fixture
def manifest(corpus, cache):
    """A manifest in the corpus' folder, for this test only."""
    path = write_csv(corpus / "mine.csv", rows_of(corpus))
    yield path
    path.unlink()


def flags(task, data, exp, *more, **runner):
    values = {f"config.runner.{key}": value for key, value in {**SHORT, **runner}.items()}
    values["config.downstream_expert.datarc.num_workers"] = 0
    values |= {f"config.downstream_expert.{key}": value for key, value in SMALL.get(task, {}).items()}
    overrides = [*(f"{key}={value}" for key, value in values.items()), *more]
    upstream = ["-m", "train", "-u", "elp_local", "-k", str(tiny_backbone()), "--device", "cpu"]
    return [*upstream, "-d", task, "-p", str(exp), "--data", str(data), "-o", ",,".join(overrides)]


def lines(exp):
    return [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("task", TASKS)
def test_train_evaluate_export_and_infer(task, manifest, tmp_path, monkeypatch, capsys):
    exp, out = tmp_path / "exp", tmp_path / "adapter"
    dev, test = (registry.find(task).split(name) for name in ("dev", "test"))
    run(flags(task, manifest, exp))
    assert {line["split"] for line in lines(exp)} == {"train", dev}
    best = exp / f"{dev}-best.ckpt"
    run(["-m", "evaluate", "-t", "test", "-e", str(best), "--data", str(manifest), "--device", "cpu"])
    evaluated = lines(exp)[-1]
    assert evaluated["split"] == test and "fold" not in evaluated
    assert set(evaluated["intervals"]) >= {registry.find(task).main_metric}  # from the speakers in the manifest
    answers = (exp / ANSWERS[task]).read_text().splitlines()
    assert len(answers) == evaluated["items"]

    assert elp("export", best, out, "--model-card", monkeypatch=monkeypatch) == 0
    assert "| trained on | own data (mine.csv) |" in (out / "README.md").read_text()
    rows = [row for row in rows_of(manifest.parent) if row["split"] == "test"]
    labels = yaml.safe_load((out / "head_config.yaml").read_text())["labels"]
    train = [row for row in rows_of(manifest.parent) if row["split"] == "train"]
    model = inference.load(out, device="cpu", backbone=str(tiny_backbone()))
    files = {str(manifest.parent / row["path"]): row for row in rows}
    if task == "elp_sv":
        first, second, score = _pair(answers[0], manifest)
        assert labels is None
        assert model.compare_pairs([(first, second)])[0].score == pytest.approx(score, abs=1e-6)
        return
    reported = {row["path"]: answer for row, answer in zip(rows, model.answers(list(files), batch_size=1), strict=True)}
    if task == "elp_asr":
        assert labels[5:] == sorted({character for row in train for character in row["text"]} - {" "})
        assert dict(line.partition(" ")[::2] for line in answers) == {path: one.text for path, one in reported.items()}
    elif task == "elp_er":
        assert labels == sorted({row["label"] for row in train})
        assert dict(line.split(" ", 1) for line in answers) == {path: one.label for path, one in reported.items()}
    else:
        assert {slot: set(column) for slot, column in labels.items()} == {
            slot: {row[slot] for row in train} for slot in ("action", "object", "location")
        }
        spelled = {path: [choice.label for choice in one.slots.values()] for path, one in reported.items()}
        assert {line.split(",")[0]: line.split(",")[1:] for line in answers} == spelled


def _pair(line, manifest):
    names, score = line.rsplit(" ", 1)
    known = [row["path"] for row in rows_of(manifest.parent)]
    first = next(path for path in known if names.startswith(f"{path}_"))
    return str(manifest.parent / first), str(manifest.parent / names[len(first) + 1 :]), float(score)


@pytest.mark.parametrize("task", TASKS)
def test_a_resumed_run_equals_an_uninterrupted_one(task, manifest, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(flags(task, manifest, whole))
    run(flags(task, manifest, parts, total_steps=2))
    run(
        ["-m", "train", "-e", str(parts), "--device", "cpu", "-o", "config.runner.total_steps=4"]
    )  # --data is remembered
    one, other = (torch.load(exp / "states-4.ckpt", weights_only=True) for exp in (whole, parts))
    for block in ("Upstream", "Downstream", "Featurizer"):
        assert one[block].keys() == other[block].keys()
        assert all(torch.equal(one[block][key], other[block][key]) for key in one[block] if "best" not in key), block


def test_parts_of_a_recording_give_what_files_of_their_own_give(manifest, corpus, tmp_path):
    """One long recording with start and end per row trains the same model as the utterances that it consists of."""
    import numpy as np
    import soundfile

    rows, at = rows_of(corpus), 0
    waves = [soundfile.read(corpus / row["path"], dtype="int16")[0] for row in rows]
    parts = []
    for number, (row, wave) in enumerate(zip(rows, waves, strict=True)):
        times = {"start": at / 16000, ("end", "duration")[number % 2]: None}
        times[list(times)[1]] = (at + len(wave)) / 16000 if number % 2 == 0 else len(wave) / 16000
        parts.append({**row, "path": "long.flac", **times})
        at += len(wave)
    soundfile.write(tmp_path / "long.flac", np.concatenate(waves), 16000)
    cut = write_jsonl(tmp_path / "cut.jsonl", parts)
    trained = []
    for name, data in (("files", manifest), ("parts", cut)):
        run(flags("elp_ic", data, tmp_path / name, total_steps=2))
        trained.append(torch.load(tmp_path / name / "states-2.ckpt", weights_only=True)["Downstream"])
    assert all(torch.equal(trained[0][key], trained[1][key]) for key in trained[0] if key.endswith(("weight", "bias")))


def test_own_label_columns_of_ic(corpus, cache, tmp_path):
    """Any columns, also the speaker: then speakers must be in several splits, which is only a warning."""
    rows = sorted(rows_of(corpus), key=lambda row: row["speaker"])  # of each speaker six
    rows = [{**row, "split": ("train", "train", "dev", "test")[n % 4]} for n, row in enumerate(rows)]
    rows = [{**row, "path": str(corpus / row["path"])} for row in rows]
    exp = tmp_path / "exp"
    columns = "config.downstream_expert.datarc.labels=[speaker,label]"
    run(flags("elp_ic", write_jsonl(tmp_path / "mine.jsonl", rows), exp, columns))
    sizes = [len({row[column] for row in rows if row["split"] == "train"}) for column in ("speaker", "label")]
    state = torch.load(exp / "states-4.ckpt", weights_only=True)["Downstream"]
    assert sum(sizes) in {len(value) for key, value in state.items() if key.endswith("bias")}
    assert {"acc", "speaker_acc", "label_acc"} <= lines(exp)[-1]["metrics"].keys()
    assert (exp / "dev_truth.csv").read_text().splitlines()[0].startswith("/")  # outside the manifest's folder


def test_trials_from_a_list(manifest, tmp_path):
    of = {row["path"]: row["speaker"] for row in rows_of(manifest.parent) if row["split"] == "test"}
    names = sorted(of)
    listed = [(int(of[a] == of[b]), a, b) for a, b in zip(names, reversed(names), strict=True) if a != b]
    listed += [(1, names[0], names[1])]
    trials = tmp_path / "trials.txt"
    trials.write_text("".join(f"{label} {a} {b}\n" for label, a, b in listed))
    exp = tmp_path / "exp"
    given = f"config.downstream_expert.datarc.trials={trials}"
    run(flags("elp_sv", manifest, exp, given))
    run(["-m", "evaluate", "-t", "test", "-e", str(exp / "dev-best.ckpt"), "--device", "cpu"])
    truth = [line.rsplit(" ", 1) for line in (exp / "test_truth.txt").read_text().splitlines()]
    assert truth == [[f"{a}_{b}", str(label)] for label, a, b in listed]


@pytest.mark.parametrize(
    ("task", "more", "sentence"),
    [
        ("elp_ks", [], "Speech Commands is needed here"),
        ("elp_er", ["-v", "fold1"], "has splits instead of folds; remove -v"),
        ("elp_er", ["-o", "config.downstream_expert.datarc.label=3"], "datarc.label must be the name of a column"),
        ("elp_er", ["-o", "config.downstream_expert.datarc.label=mood"], "mine.csv has no column mood"),
        ("elp_ic", ["-o", "config.downstream_expert.datarc.labels=[a,a]"], "datarc.labels must be a list of the names"),
        (
            "elp_ic",
            ["-o", "config.downstream_expert.datarc.labels=[file]"],
            "datarc.labels must be a list of the names",
        ),
        ("elp_asr", ["-o", "config.downstream_expert.datarc.bucket_file=x"], "bucket_file must be null with the manif"),
    ],
)
def test_wrong_options_are_refused_before_training(task, more, sentence, manifest, tmp_path):
    asked = flags(task, manifest, tmp_path / "exp")
    if more[:1] == ["-o"]:
        asked[-1] += f",,{more[1]}"
        more = []
    with pytest.raises(ElpError, match=sentence):
        run([*asked, *more])


OF_CORPUS = {
    "elp_asr": {"train": "[train-other-500]", "dev-clean": "[dev-other]", "test-other": "[x]"},
    "elp_er": {"folds": "random", "valid_ratio": 0.5, "split_seed": 3, "dev_session": "Session2", "missing": "skip"},
    "elp_sv": {"held_out": 0.5},
}


@pytest.mark.parametrize(("task", "key"), [(task, key) for task, keys in OF_CORPUS.items() for key in keys])
def test_options_of_the_corpus_are_refused(task, key, manifest, tmp_path, monkeypatch, capsys):
    """In `-o` whatever the value is, and in a configuration file if no packaged one has the value."""
    dotted, value = f"downstream_expert.datarc.{key}", OF_CORPUS[task][key]
    sentence = rf"{dotted} chooses among the files of .* and has no effect on .*mine.csv, whose rows say"
    with pytest.raises(ElpError, match=sentence):
        run(flags(task, manifest, tmp_path / "exp", f"config.{dotted}={value}"))
    words = ("check", "-d", task, "--data", manifest, "-o", f"config.{dotted}={value}")
    assert elp(*words, monkeypatch=monkeypatch) == 2 and "has no effect on" in capsys.readouterr().err
    own = {"base": task, "downstream_expert": {"datarc": {key: yaml.safe_load(str(value))}}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    words = ("check", "-d", task, "--data", manifest, "-c", tmp_path / "own.yaml")
    packaged = (task, key) == ("elp_er", "folds")  # er_reference has random folds
    assert (elp(*words, monkeypatch=monkeypatch) == 2) != packaged


@pytest.mark.parametrize("recipe", ["asr_reference", "er_reference", "er_quick", "sv_reference"])
def test_the_packaged_recipes_accept_own_data(recipe, manifest, monkeypatch, capsys):
    words = ("check", "-d", recipe.partition("_")[0], "--data", manifest, "-c", recipe)
    elp(*words, monkeypatch=monkeypatch)
    assert "has no effect" not in capsys.readouterr().err


def test_every_key_of_the_corpus_is_tested():
    known = {task: {*about.of_corpus} for task, about in registry.tasks().items() if about.of_corpus}
    meta = {"meta_data"}  # S3PRL's metadata; refused in the same way
    assert {task: keys - meta - {"dev-other", "test-clean"} for task, keys in known.items()} == {
        task: {*keys} for task, keys in OF_CORPUS.items()
    }


def test_a_missing_list_of_trials_is_reported_before_training_and_refused_at_the_test(manifest, tmp_path, capsys):
    exp, given = tmp_path / "exp", "config.downstream_expert.datarc.trials=none.txt"
    run(flags("elp_sv", manifest, exp, given))
    assert "an evaluation of test will meet 1 problem: the trial list" in capsys.readouterr().err
    with pytest.raises(ElpError, match=r"the trial list .*none.txt \(.*datarc.trials\) is missing; correct its path"):
        run(["-m", "evaluate", "-t", "test", "-e", str(exp / "dev-best.ckpt"), "--device", "cpu"])


def test_other_corpora_do_not_accept_label_columns(own_data, tmp_path):
    with pytest.raises(ElpError, match=r"labels must be \[action, object, location\] for Fluent Speech Commands"):
        run(flags("elp_ic", own_data, tmp_path / "exp", "config.downstream_expert.datarc.labels=[action]"))


def test_a_sweep_takes_a_manifest(manifest, tmp_path, monkeypatch, capsys):
    plan = tmp_path / "plan.yaml"
    text = {
        "data": str(manifest),
        "backbones": [str(tiny_backbone())],
        "tasks": ["ic"],
        "methods": ["weighted_sum"],
        "seeds": [0],
    }
    plan.write_text(yaml.safe_dump(text))
    assert elp("sweep", plan, "--dry-run", "--out", tmp_path / "sweep", monkeypatch=monkeypatch) == 0, (
        capsys.readouterr()
    )
    assert "ic" in capsys.readouterr().out
