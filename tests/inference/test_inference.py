"""Trained models in use: they answer as in their evaluation, and a folder from anywhere is not a danger."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import yaml
from safetensors.torch import load_file, save_file

import upstream_elp
from downstream_heads import registry
from downstream_heads.common import memory
from downstream_heads.common.scorer import UtteranceScorer
from downstream_heads.elp_asr.decoding import Transcriber
from downstream_heads.elp_sv.embedding import Embedder
from tests import toy_corpora
from tests.audio_files import of_unknown_length, with_sizes, written
from tests.bombs import MARK, OBJECT, Bomb
from tests.checkpoints import load_states
from tests.damage import Files
from tests.mutants import leave_a_site_out_of_the_forward
from tests.programs import elp
from tests.toys import tiny_backbone
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of
from upstream_elp.run import run
from upstream_elp.upstream import expert as expert_module
from upstream_elp.upstream.adapter_folder import read_adapter_folder
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.head_folder import CONFIG_FILE, TENSOR_FILE

TASKS = registry.names()
#: one preset of each kind of features; the one of emotions trains nothing in the backbone
PRESETS = {"elp_asr": "elp", "elp_er": "weighted_sum", "elp_ic": "e_only"}
BATCHES = {"elp_asr": 1, "elp_er": 3, "elp_ic": 4, "elp_sv": 1}
SMALL = {
    "elp_asr": {"modelrc.RNNs.dim": "[8,8]", "modelrc.project_dim": 16},
    "elp_er": {"datarc.eval_batch_size": 3},
    "elp_sv": {
        "modelrc.superb.input_dim": 16,
        "modelrc.superb.agg_dim": 16,
        "datarc.max_timestep": 8000,
        "datarc.min_samples": 16000,
        "datarc.train_batch_size": 4,
    },
}
PREDICTIONS = {
    "elp_asr": "test-clean-noLM-hyp.ark",
    "elp_er": "test_fold1_predict.txt",
    "elp_ic": "test_predict.csv",
}


def train(task, world, exp, *flags, backbone=None, steps=4, more=None):
    values = {f"config.runner.{key}": steps for key in ("total_steps", "eval_step", "save_step", "log_step")}
    values |= {"config.runner.gradient_accumulate_steps": 1, "config.optimizer.lr": 1e-4 if task == "elp_asr" else 0.02}
    values |= {f"config.downstream_expert.{key}": value for key, value in SMALL.get(task, {}).items()}
    values["config.downstream_expert.datarc.num_workers"] = 0
    overrides = ",,".join(f"{key}={value}" for key, value in {**values, **(more or {})}.items())
    words = ["-m", "train", "-u", "elp_local", "-k", str(backbone or world.backbone), "-d", task, "-p", str(exp)]
    run([*words, "--data", str(world.data), "--device", "cpu", *flags, "-o", overrides])
    return exp


class Outputs:
    """Collects the heads' outputs in the task's evaluation and in inference, which share these methods."""

    def __init__(self, patch):
        self.rows = []
        for owner, name in ((UtteranceScorer, "logits"), (Transcriber, "log_probs"), (Embedder, "embed")):
            patch.setattr(owner, name, self._watched(getattr(owner, name)))

    def _watched(self, method):
        def watched(*args, **kwargs):
            result = method(*args, **kwargs)
            tensor = result[0] if isinstance(result, tuple) else result
            self.rows.extend(tensor.detach().clone())
            return result

        return watched


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Corpora, a backbone, and for each task an evaluated experiment with its exported folder; all read-only."""
    root = tmp_path_factory.mktemp("inference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELP_CACHE", str(root / "cache"))
        patch.delenv("ELP_DATA", raising=False)
        made = SimpleNamespace(root=root, data=toy_corpora.write_all(root / "data"), backbone=tiny_backbone(), rows={})
        made.exp = {task: train(task, made, root / task, "-g", PRESETS.get(task, "l_only")) for task in TASKS}
        made.folder = {task: root / "folders" / task for task in TASKS}
        for task, exp in made.exp.items():
            with pytest.MonkeyPatch.context() as watching:
                outputs = Outputs(watching)
                best = str(next(exp.glob("*-best.ckpt")))
                run(["-m", "evaluate", "-t", "test", "-e", best, "--data", str(made.data), "--device", "cpu"])
                made.rows[task] = outputs.rows
            assert elp("export", exp, made.folder[task], monkeypatch=patch) == 0
    return made


@pytest.fixture(autouse=True)
def no_corpus(monkeypatch, tmp_path):
    """Hide the corpora and change to an empty folder: inference must not need them."""
    for variable in ("ELP_DATA", "ELP_BACKBONE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def infer(*words, monkeypatch, capsys):
    """Call ``elp infer``; returns its exit status, its output and its messages."""
    capsys.readouterr()
    status = elp("infer", *words, monkeypatch=monkeypatch)
    reported = capsys.readouterr()
    return status, reported.out, reported.err


def evaluated(task, world):
    """The files of the test part, in the order of the evaluation, under the names of its predictions."""
    rows = [
        line for line in (world.exp[task] / PREDICTIONS.get(task, "test_predict.txt")).read_text().splitlines() if line
    ]
    names = [row.split("," if task == "elp_ic" else " ")[0] for row in rows]
    there = [path for kind in ("*.wav", "*.flac") for path in world.data.rglob(kind)]
    paths = {path.stem: path for path in there} | {f"{path.parent.name}-{path.name}": path for path in there}
    return rows, [str(paths[name]) for name in names]


# --- the same answers as the evaluation -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "exp"])
@pytest.mark.parametrize("task", [name for name, task in registry.tasks().items() if not task.compares])
def test_the_answers_are_those_of_the_evaluation(task, kind, world, monkeypatch, capsys):
    rows, files = evaluated(task, world)
    names = {file: row.rpartition(" ")[0] for file, row in zip(files, rows, strict=True)}
    outputs = Outputs(monkeypatch)
    words = [
        getattr(world, kind)[task],
        *files,
        "--format",
        "json",
        "--batch-size",
        BATCHES.get(task, 32),
        "--device",
        "cpu",
    ]
    status, out, err = infer(*words, "--backbone", world.backbone, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0, err
    document = json.loads(out)
    assert document["task"] == task and document["skipped"] == []
    assert [answer["file"] for answer in document["answers"]] == files
    reported = {
        "elp_asr": lambda a: f"{Path(a['file']).stem} {a['text']}",
        "elp_ic": lambda a: ",".join(
            [Path(a["file"]).stem, *(a[s]["label"] for s in ("action", "object", "location"))]
        ),
    }.get(task, lambda a: f"{names[a['file']]} {a['label']}")  # tasks with one label name files as they like
    assert [reported(answer) for answer in document["answers"]] == rows
    assert len(outputs.rows) == len(world.rows[task]) == len(files)
    assert all(torch.equal(here, there) for here, there in zip(outputs.rows, world.rows[task], strict=True))
    assert len({str(row.tolist()) for row in outputs.rows}) > 1 and rows[0].strip("0123456789- "), (
        "else nothing is tested"
    )


def test_half_precision_is_that_of_the_evaluation(world, tmp_path, monkeypatch):
    exp = train("elp_ic", world, tmp_path / "exp", "-g", "le", more={"config.runner.precision": "bf16"}, steps=2)
    outputs = Outputs(monkeypatch)
    best = str(next(exp.glob("*-best.ckpt")))
    run(["-m", "evaluate", "-t", "test", "-e", best, "--data", str(world.data), "--device", "cpu"])
    there = outputs.rows[:]
    assert elp("export", exp, tmp_path / "out", monkeypatch=monkeypatch) == 0
    files = sorted((world.data / "fluent_speech_commands_dataset/wavs/speakers/testspk").glob("*.wav"))
    for place, precision in ((exp, None), ("out", None), ("out", "fp32")):
        outputs.rows.clear()
        upstream_elp.load(place, backbone=world.backbone, device="cpu", precision=precision)(files, batch_size=4)
        same = [torch.equal(one, other) for one, other in zip(outputs.rows, there, strict=True)]
        assert all(same) == (precision is None)
    outputs.rows.clear()
    run(["-m", "inference", "-t", str(files[0]), "-e", best, "--data", str(world.data), "--device", "cpu"])
    upstream_elp.load(exp, backbone=world.backbone, device="cpu")(files[:1])
    assert torch.equal(*outputs.rows)
    with pytest.raises(ElpError, match="precision must be one of fp32, bf16, fp16, but is 'int8'"):
        upstream_elp.load(exp, precision="int8")


@pytest.mark.parametrize("kind", ["folder", "exp"])
def test_the_scores_are_those_of_the_evaluation(kind, world, monkeypatch, capsys):
    rows = [row.split() for row in (world.exp["elp_sv"] / "test_predict.txt").read_text().splitlines()]
    corpus = world.data / "VoxCeleb1"
    words = [getattr(world, kind)["elp_sv"], "--pairs", corpus / "voxceleb1_test_v2.txt", "--root", corpus / "test/wav"]
    words += ["--backbone", world.backbone, "--json", "scores.json", "--device", "cpu"]
    outputs = Outputs(monkeypatch)
    status, out, err = infer(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0, err
    answers = json.loads(Path("scores.json").read_text())["answers"]
    assert len(answers) == len(rows) == len(out.splitlines())
    for answer, (_, score), line in zip(answers, rows, out.splitlines(), strict=True):
        assert np.float32(answer["score"]) == np.float32(score)
        assert answer["same"] == (answer["score"] >= answer["threshold"])
        decision = "same speaker" if answer["same"] else "different speakers"
        assert line.split("\t") == [answer["first"], answer["second"], f"{answer['score']:.4f}", decision]
    assert len({answer["score"] for answer in answers}) > 3, "the voices must differ at all"
    assert {answer["same"] for answer in answers} == {True, False}
    there = sorted(row.tolist() for row in world.rows["elp_sv"])
    assert sorted(row.tolist() for row in outputs.rows) == there


@pytest.mark.parametrize("task", TASKS)
def test_one_file_by_itself_is_a_batch_of_one(task, world):
    """With the default batch size, an answer only depends on its file, whatever else is in the same call."""
    model = upstream_elp.load(world.folder[task], backbone=world.backbone, device="cpu")
    files = sorted((world.data / "VoxCeleb1" / "test").rglob("*.wav"))[:3]
    together = [answer.to_dict() for answer in model(files)]
    assert together == [model(file).to_dict() for file in files]
    assert [answer["file"] for answer in together] == [str(file) for file in files]


@pytest.mark.parametrize("task", TASKS)
def test_with_features_of_utterance_the_batch_changes_no_answer(task, world, tmp_path, monkeypatch):
    """Its backbone's features depend on padding, and so does the head of speaker verification."""
    exp = train(task, world, tmp_path / "exp", "-g", "le", more={"config.runner.features_of": "utterance"}, steps=2)
    assert elp("export", exp, tmp_path / "out", monkeypatch=monkeypatch) == 0
    assert yaml.safe_load((tmp_path / "out" / CONFIG_FILE).read_text())["features_of"] == "utterance"
    noise = np.random.default_rng(0)
    files = [noise.standard_normal(samples).astype(np.float32) / 10 for samples in (16000, 11000, 13300)]
    expected = None
    for place in (exp, tmp_path / "out"):
        model = upstream_elp.load(place, backbone=world.backbone, device="cpu")
        for size in (1, 2, 3):
            found = rows_of(model, files, size, monkeypatch)
            expected = found if expected is None else expected
            assert all(torch.equal(row, other) for row, other in zip(found, expected, strict=True))
    model.features_of = "batch"
    pairs = zip(rows_of(model, files, 3, monkeypatch), expected, strict=True)
    assert not all(torch.allclose(row[: len(other)], other, rtol=1e-3, atol=1e-4) for row, other in pairs)


def rows_of(model, files, size, monkeypatch):
    """What the head computes for each file, in batches of a size."""
    with monkeypatch.context() as watching:
        outputs = Outputs(watching)
        model(files, batch_size=size)
    assert len(outputs.rows) == len(files)
    return outputs.rows


def test_with_features_of_utterance_the_answers_are_those_of_the_evaluation(world, tmp_path, monkeypatch):
    more = {"config.runner.features_of": "utterance", "config.runner.cache": "auto"}
    exp = train("elp_ic", world, tmp_path / "exp", "-g", "le", more=more, steps=2)
    best = str(next(exp.glob("*-best.ckpt")))
    with monkeypatch.context() as watching:
        outputs = Outputs(watching)
        run(["-m", "evaluate", "-t", "test", "-e", best, "--data", str(world.data), "--device", "cpu"])
    _, files = evaluated("elp_ic", SimpleNamespace(exp={"elp_ic": exp}, data=world.data))
    model = upstream_elp.load(exp, backbone=world.backbone, device="cpu")
    rows = rows_of(model, files, 4, monkeypatch)
    assert len(rows) == len(outputs.rows) > 1
    for row, other in zip(rows, outputs.rows, strict=True):
        torch.testing.assert_close(row, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_a_wave_is_answered_as_its_file(task, world):
    model = upstream_elp.load(world.folder[task], backbone=world.backbone, device="cpu")
    file = next((world.data / "VoxCeleb1" / "test").rglob("*.wav"))
    samples, _ = soundfile.read(file, dtype="float32")
    for wave in (samples, torch.from_numpy(samples), samples.astype(np.float64)):
        assert model(wave).to_dict() == {**model(file).to_dict(), "file": "wave 0"}
    assert not any(p.requires_grad for m in (model.upstream, model.featurizer, model.predictor) for p in m.parameters())
    for problem, wave in {
        "(1, 40000)": samples[None, :],
        "int16": (samples * 1000).astype(np.int16),
        "only 100 samples": samples[:100],
        "NaN or infinite": samples * np.float32("nan"),
    }.items():
        with pytest.raises(ElpError) as caught:
            model(wave)
        assert problem in str(caught.value) and "wave 0" in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "exp"])
def test_an_adapter_that_is_never_entered_gives_no_answers(kind, world, monkeypatch):
    leave_a_site_out_of_the_forward(monkeypatch)
    place = getattr(world, kind)["elp_ic"]
    with pytest.raises(ElpError, match=r"idle\.adapters\.e_adapter is never entered in a forward pass"):
        upstream_elp.load(place, backbone=world.backbone, device="cpu")
    monkeypatch.setenv("ELP_SELF_CHECK", "0")
    upstream_elp.load(place, backbone=world.backbone, device="cpu")


def test_the_example_in_the_documentation(world, monkeypatch, capsys):
    shutil.copytree(world.folder["elp_asr"], "adapters/asr")
    shutil.copy(world.backbone, "wavlm_base_plus.pt")
    file = next((world.data / "LibriSpeech").rglob("*.flac"))
    samples, rate = soundfile.read(file)
    soundfile.write("speech.wav", samples, rate)
    code = upstream_elp.load.__doc__.split("Example::")[1].split("Args:")[0]
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    assert len(lines) == 3
    capsys.readouterr()
    exec("\n".join(lines), {})
    model = upstream_elp.load(world.exp["elp_asr"])
    assert capsys.readouterr().out.strip() == model(str(file)).text != ""


# --- what an exported folder holds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_folder_holds_featurizer_and_head_and_no_place(task, world):
    folder = world.folder[task]
    states = load_states(next(world.exp[task].glob("*-best.ckpt")))
    tensors = load_file(folder / TENSOR_FILE)
    expected = {f"featurizer.{name}": tensor for name, tensor in states["Featurizer"].items()}
    training_only = ("best_score", "_extra_state", "objective.")
    expected |= {
        f"head.{name}": value for name, value in states["Downstream"].items() if not name.startswith(training_only)
    }
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter.safetensors",
        "adapter_config.yaml",
        "head.safetensors",
        "head_config.yaml",
    ]
    adapters = load_file(folder / "adapter.safetensors")
    assert bool(adapters) == (PRESETS.get(task) != "weighted_sum")
    for name in ("adapter_config.yaml", CONFIG_FILE):
        assert os.sep + "tmp" not in (folder / name).read_text() and str(world.root) not in (folder / name).read_text()


def test_an_adapter_without_tensors_is_an_upstream(world):
    """A preset that trains nothing in the backbone leaves an empty tensor file, which loads as the plain backbone."""
    upstream_elp.register()
    from s3prl import hub

    expert = hub.elp_local(ckpt=world.folder["elp_er"], backbone=world.backbone)
    plain = hub.elp_local(ckpt=world.backbone, model_config="weighted_sum")
    wav = torch.from_numpy(toy_corpora.tone())
    with torch.no_grad():
        pairs = zip(expert([wav])["hidden_states"], plain([wav])["hidden_states"], strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_a_head_on_frozen_adapters_is_exported_with_them(world, tmp_path, monkeypatch, capsys):
    """The checkpoint then does not contain adapters; they are those of the folder that was passed to training."""
    given = world.folder["elp_ic"]
    exp = train("elp_er", world, tmp_path / "exp", "--backbone", str(world.backbone), backbone=given, steps=2)
    assert "Upstream" not in load_states(exp / "states-2.ckpt")
    words = ("export", exp, tmp_path / "out", "--backbone", world.backbone)
    assert elp(*words, monkeypatch=monkeypatch) == 0
    assert (tmp_path / "out" / "adapter.safetensors").read_bytes() == (given / "adapter.safetensors").read_bytes()
    file = next((world.data / "IEMOCAP").rglob("*.wav"))
    answers = [upstream_elp.load(place, backbone=world.backbone)(file) for place in (exp, tmp_path / "out")]
    assert answers[0] == answers[1] and answers[0].label in ("neu", "hap", "ang", "sad")


@pytest.mark.parametrize("reason", ["--no-head", "its task is emotion"])
def test_without_its_head_a_folder_answers_nothing(reason, world, tmp_path, monkeypatch, capsys):
    states = load_states(next(world.exp["elp_ic"].glob("*-best.ckpt")))
    if reason != "--no-head":
        states["Args"].downstream = "emotion"
    torch.save(states, tmp_path / "states-4.ckpt")
    flags = [reason] if reason.startswith("--") else []
    assert elp("export", tmp_path / "states-4.ckpt", tmp_path / "out", *flags, monkeypatch=monkeypatch) == 0
    reported = capsys.readouterr().out
    assert "without a head" in reported and reason in reported
    assert not (tmp_path / "out" / CONFIG_FILE).exists()
    wav = toy_corpora.write_wav(tmp_path / "a.wav", toy_corpora.tone())
    status, _, err = infer("out", wav, "--backbone", world.backbone, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 2 and "contains adapters but no head" in err
    if reason != "--no-head":
        status, _, err = infer("states-4.ckpt", wav, monkeypatch=monkeypatch, capsys=capsys)
        assert status == 2 and "its task is emotion" in err


def test_a_checkpoint_from_before_the_label_tables_is_reported(world, tmp_path, monkeypatch, capsys):
    states = load_states(next(world.exp["elp_ic"].glob("*-best.ckpt")))
    del states["Downstream"]["_extra_state"]
    torch.save(states, tmp_path / "states-4.ckpt")
    assert elp("export", tmp_path / "states-4.ckpt", tmp_path / "out", monkeypatch=monkeypatch) == 2
    assert (
        "does not record the meaning of the head's outputs" in capsys.readouterr().err
        and not (tmp_path / "out").exists()
    )


# --- label tables and thresholds in checkpoints ---------------------------------------------------------------------


def test_another_numbering_of_the_labels_is_refused(world, tmp_path, monkeypatch):
    """The csv of the corpus numbers the head's outputs; with its rows in another order, every answer would be wrong."""
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    shutil.copytree(world.data / "fluent_speech_commands_dataset", tmp_path / "data/fluent_speech_commands_dataset")
    table = tmp_path / "data/fluent_speech_commands_dataset/data/train_data.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(rows)]) + "\n")
    best = str(next(world.exp["elp_ic"].glob("*-best.ckpt")))
    with pytest.raises(ElpError, match="numbers the labels of elp_ic differently"):
        run(["-m", "evaluate", "-t", "test", "-e", best, "--data", str(tmp_path / "data"), "--device", "cpu"])


def test_the_threshold_is_that_of_the_evaluated_step(world, tmp_path):
    """A threshold that was measured before the last training steps is not used."""
    path = next(world.exp["elp_sv"].glob("*-best.ckpt"))
    lines = [json.loads(line) for line in (world.exp["elp_sv"] / "metrics.jsonl").read_text().splitlines()]
    recorded = next(line["threshold"] for line in lines if line["split"] == "dev")
    assert upstream_elp.load(path).predictor.threshold == recorded
    states = load_states(path)
    states["Step"] += 1
    torch.save(states, tmp_path / "states-5.ckpt")
    model = upstream_elp.load(tmp_path / "states-5.ckpt")
    files = sorted((world.data / "VoxCeleb1" / "test").rglob("*.wav"))[:2]
    answer = model.compare(*files)
    assert (answer.same, answer.threshold) == (None, None) and str(answer).endswith("no threshold")


def test_the_threshold_makes_misses_and_false_alarms_most_nearly_equal():
    from downstream_heads.elp_sv.metrics import eer_threshold

    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = np.array([0, 1, *rng.integers(0, 2, 18)])
        scores = np.round(rng.normal(labels, 1.0), 1)

        def unequal(threshold, labels=labels, scores=scores):
            misses = (scores[labels == 1] < threshold).mean()
            return abs(misses - (scores[labels == 0] >= threshold).mean())

        assert unequal(eer_threshold(labels, scores)) == pytest.approx(min(unequal(score) for score in scores))
    assert eer_threshold(np.array([0, 1]), np.array([np.nan, 1.0])) is None


# --- the command ----------------------------------------------------------------------------------------------------


def sounds(place):
    """One good file and several that cannot be used."""
    good = toy_corpora.tone(seconds=2.0)
    toy_corpora.write_wav(place / "good.wav", good)
    toy_corpora.write_wav(place / "rate.wav", toy_corpora.tone(seconds=2.0, rate=44100), 44100)
    toy_corpora.write_wav(place / "stereo.wav", np.stack([good, good], axis=1))
    toy_corpora.write_wav(place / "short.wav", good[:300])
    toy_corpora.write_wav(place / "empty.wav", good[:0])
    whole = (place / "good.wav").read_bytes()
    (place / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (place / "text.wav").write_text("no audio")
    return {
        "rate.wav": "44100 Hz",
        "stereo.wav": "2 channels",
        "short.wav": "only 300 samples",
        "empty.wav": "0 samples",
        "cut.wav": "cut off",
        "text.wav": "cannot be decoded",
        "absent.wav": "absent.wav",
    }


def test_a_bad_file_stops_with_its_path_or_is_skipped_and_listed(world, tmp_path, monkeypatch, capsys):
    problems = sounds(tmp_path)
    place, backbone = world.folder["elp_ic"], ("--backbone", world.backbone)
    for name, problem in problems.items():
        words = (place, "good.wav", name, "good.wav", *backbone)
        status, out, err = infer(*words, monkeypatch=monkeypatch, capsys=capsys)
        last = err.splitlines()[-1]
        assert status == 2 and last.startswith("elp: error: ") and name in last and problem in last
        assert out.count("good.wav") == (name != "absent.wav"), "what was answered before is not lost"
    words = (place, "good.wav", *problems, "good.wav", *backbone, "--skip-bad-files", "--json", "out.json")
    status, out, err = infer(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0 and out.count("good.wav\t") == 2 == len(out.splitlines())
    document = json.loads(Path("out.json").read_text())
    assert {row["file"]: problems[row["file"]] in row["problem"] for row in document["skipped"]} == dict.fromkeys(
        problems, True
    )
    assert f"{len(problems)} files skipped; 2 of {len(problems) + 2} answered" in err
    status, out, err = infer(place, "cut.wav", *backbone, "--skip-bad-files", monkeypatch=monkeypatch, capsys=capsys)
    assert status == 2 and "none of the files could be used" in err and not out


@pytest.mark.parametrize("task", TASKS)
def test_headers_as_pipes_write_them_and_codings_that_cannot_seek(task, world, tmp_path, monkeypatch, capsys):
    wav = (toy_corpora.tone(seconds=2.5) * 32768).astype(np.int16)
    (tmp_path / "plain.flac").write_bytes(written(wav, "FLAC", "PCM_16"))
    (tmp_path / "pipe.flac").write_bytes(of_unknown_length(written(wav, "FLAC", "PCM_16")))
    (tmp_path / "crash.wav").write_bytes(with_sizes(written(wav, "WAV", "PCM_16"), riff=0, data=0))
    (tmp_path / "gsm.wav").write_bytes(written(wav, "WAV", "GSM610"))
    names = ("plain.flac", "pipe.flac", "crash.wav", "gsm.wav")
    words = (world.folder[task], *names, "--backbone", world.backbone, "--format", "json")
    words += ("--embeddings",) if registry.find(task).compares else ()
    status, out, err = infer(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0, err
    plain, *others = json.loads(out)["answers"]
    assert {**others[0], "file": ""} == {**others[1], "file": ""} == {**plain, "file": ""}
    assert others[2]["file"] == "gsm.wav"


@pytest.mark.parametrize("task", ["elp_ic", "elp_sv"])
def test_files_of_integers_are_answered_with_one_warning(task, world, tmp_path, monkeypatch, capsys):
    for name in ("a.wav", "b.wav"):
        wav = toy_corpora.tone(seconds=2.5) * 32768
        soundfile.write(tmp_path / name, wav, 16000, subtype="FLOAT")
    words = (world.folder[task], "a.wav", "b.wav", "--backbone", world.backbone)
    status, out, err = infer(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0 and "a.wav" in out
    assert err.count("beyond ±2") == 1 and "WARNING: 2 files contain samples beyond ±2: a.wav (up to " in err


def test_names_that_no_terminal_should_see(world, tmp_path, monkeypatch, capsys):
    """File names may contain any byte, and labels in a folder from anywhere may contain any character."""
    shutil.copytree(world.folder["elp_ic"], "folder")
    _config(lambda raw: raw["labels"].update(action=["\x1b[2J\n1", "\t2", "\x1b]0;x"]))(tmp_path / "folder")
    name = os.fsdecode(b"\xff\n\x1b[2J\t.wav")
    shutil.copy(toy_corpora.write_wav(tmp_path / "plain.wav", toy_corpora.tone()), name)
    words = ("folder", name, "--backbone", world.backbone, "--json", "out.json")
    status, out, err = infer(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0, err
    assert out.count("\n") == 1 and out[:-1].replace("\t", "").isprintable()
    assert out.startswith("\\udcff\\n\\x1b[2J\\t.wav\taction=")
    assert json.loads(Path("out.json").read_text())["answers"][0]["file"] == name


def test_other_rates_and_channels_on_request(world, tmp_path):
    sounds(tmp_path)
    load = {"backbone": world.backbone, "device": "cpu"}
    model = upstream_elp.load(world.folder["elp_asr"], resample=True, channels="mean", **load)
    both = upstream_elp.load(world.folder["elp_asr"], **load)
    assert model("stereo.wav").text == both("good.wav").text
    assert model("rate.wav").text
    with pytest.raises(ElpError, match=r"rate\.wav has a sample rate of 44100 Hz .*load the model with resample=True"):
        both("rate.wav")
    with pytest.raises(ElpError, match=r"stereo\.wav has 2 channels .*load the model with channels='mean'"):
        both("stereo.wav")
    assert upstream_elp.load(world.folder["elp_er"], **load)("rate.wav").label, "the task's own recipe resamples"
    with pytest.raises(ElpError, match="elp_sv averages channels"):
        upstream_elp.load(world.folder["elp_sv"], channels="first", **load)


def test_a_problem_of_the_whole_batch_is_reported_for_the_file_that_has_it(world, tmp_path, monkeypatch):
    """An out-of-memory error names the file that is too long by itself; with skipping, the others are answered."""
    model = upstream_elp.load(world.folder["elp_ic"], backbone=world.backbone, device="cpu")
    upstream, sizes = model.upstream.forward, []

    def small_memory(wavs):
        sizes.append(len(wavs))
        if sum(map(len, wavs)) > 20000:
            raise torch.OutOfMemoryError("no memory")
        return upstream(wavs)

    monkeypatch.setattr(model.upstream, "forward", small_memory)
    for name, seconds in {"a.wav": 0.5, "long.wav": 2.0, "b.wav": 0.5}.items():
        toy_corpora.write_wav(tmp_path / name, toy_corpora.tone(seconds=seconds))
    with pytest.raises(ElpError, match=r"long\.wav: 2 s do not fit into the memory of cpu"):
        model(["a.wav", "long.wav", "b.wav"], batch_size=3)
    bad = []
    answers = list(model.answers(["a.wav", "long.wav", "b.wav"], batch_size=3, on_bad=lambda name, _: bad.append(name)))
    assert [answer.file for answer in answers] == ["a.wav", "b.wav"] and bad == ["long.wav"]


def test_pairs_of_voices(world, tmp_path, monkeypatch, capsys):
    place, backbone = world.folder["elp_sv"], ("--backbone", world.backbone)
    for number, name in enumerate(("a b.wav", "c.wav", "d.wav", "e.wav")):
        toy_corpora.write_wav(tmp_path / name, toy_corpora.tone(seconds=1.5, pitch=120 + 90 * number))
    (tmp_path / "broken.wav").write_text("no audio")
    model = upstream_elp.load(place, backbone=world.backbone)
    scores = {pair: model.compare(*pair).score for pair in (("a b.wav", "c.wav"), ("d.wav", "e.wav"))}
    (tmp_path / "pairs.txt").write_text("a b.wav\tc.wav\n\n1\td.wav\te.wav\n")
    for words in (
        ("a b.wav", "c.wav", "d.wav", "e.wav"),
        ("--pairs", "pairs.txt"),
        ("--pairs", "pairs.txt", "--root", "."),
    ):
        status, out, err = infer(place, *words, *backbone, "--format", "json", monkeypatch=monkeypatch, capsys=capsys)
        assert status == 0, err
        assert {(a["first"], a["second"]): a["score"] for a in json.loads(out)["answers"]} == scores
    with pytest.raises(
        ElpError, match=r"as one list: model\(\[first, second\]\), or compare\(first, second\) to compare"
    ):
        model("a b.wav", "c.wav")
    words = (place, "c.wav", "broken.wav", "d.wav", "e.wav", *backbone, "--skip-bad-files")
    status, out, err = infer(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0 and out.startswith("d.wav\te.wav\t") and len(out.splitlines()) == 1
    assert "broken.wav" in err and "1 file skipped; 1 of 2 answered" in err
    status, out, err = infer(place, "c.wav", "--embeddings", *backbone, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0, err
    values = np.array([float(value) for value in out.split("\t")[1].split()])
    assert status == 0 and len(values) == 16 and np.linalg.norm(values) == pytest.approx(1.0, abs=1e-4)


WRONG = {
    "odd": ("elp_sv", ("good.wav",), "compares pairs, but the number of FILEs is odd (1); pass"),
    "pairs of words": ("elp_ic", ("--pairs", "pairs.txt"), "--pairs and --embeddings are only for elp_sv"),
    "embeddings": ("elp_asr", ("good.wav", "--embeddings"), "--pairs and --embeddings are only for elp_sv"),
    "three names": (
        "elp_sv",
        ("--pairs", "wrong.txt"),
        "--pairs wrong.txt: line 2 must be 'FILE FILE' or a trial, but is 'a b c'",
    ),
    "no list": ("elp_sv", ("--pairs", "none.txt"), "--pairs none.txt cannot be read (No such file"),
    "empty list": ("elp_sv", ("--pairs", "empty.txt"), "--pairs empty.txt contains no pairs"),
    "audio as list": ("elp_sv", ("--pairs", "binary.txt"), "--pairs binary.txt is UTF-16 text; save the file as UTF-8"),
    "both": ("elp_sv", ("good.wav", "--pairs", "pairs.txt"), "--pairs already names the files to compare"),
    "root": ("elp_sv", ("good.wav", "--root", "."), "add it or remove --root"),
    "nothing": ("elp_asr", (), "no audio file is named"),
    "batch": ("elp_asr", ("good.wav", "--batch-size", "0"), "--batch-size must be at least 1, but is 0"),
    "device": ("elp_asr", ("good.wav", "--device", "gpu"), "device 'gpu': no such device; choose cpu"),
    "absent": ("elp_asr", ("good.wav", "x.wav", "y.wav"), "no such file: x.wav, y.wav"),
    "other backbone": ("elp_asr", ("good.wav", "--backbone", "OTHER"), "was trained on another backbone"),
    "no backbone": ("elp_asr", ("good.wav", "--backbone", "none.pt"), "there is no backbone checkpoint"),
    "unwritable": (
        "elp_asr",
        ("good.wav", "--json", "none/out.json"),
        "--json none/out.json cannot be written: the folder none does not exist; create it first",
    ),
    "a folder to write": ("elp_asr", ("good.wav", "--json", "."), "--json . is a folder; name a file in it"),
    "a folder to read": ("elp_asr", ("good.wav", "."), "error: . is a folder, not an audio file"),
    "rate": ("elp_asr", ("rate.wav",), "44100 Hz instead of 16000; convert the file or pass --resample"),
    "channels": (
        "elp_asr",
        ("stereo.wav",),
        "2 channels instead of 1; convert the file or pass --channels mean or --ch",
    ),
    "silence": ("elp_sv", ("silent.wav", "good.wav"), "that backbone and head need; use a recording with more speech"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_words_are_one_sentence(case, world, tmp_path, monkeypatch, capsys):
    task, words, message = WRONG[case]
    sounds(tmp_path)
    toy_corpora.write_wav(tmp_path / "silent.wav", np.zeros(32000, dtype=np.float32))
    (tmp_path / "pairs.txt").write_text("good.wav good.wav\n")
    (tmp_path / "wrong.txt").write_text("good.wav good.wav\na b c\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x80")
    words = [str(tiny_backbone(None, "wavlm", seed=9)) if word == "OTHER" else word for word in words]
    if "--backbone" not in words:
        words += ["--backbone", world.backbone]
    status, out, err = infer(world.folder[task], *words, monkeypatch=monkeypatch, capsys=capsys)
    last = err.splitlines()[-1]
    assert status == 2 and last.startswith("elp: error: ") and message in last, err
    assert not out


def test_a_place_without_anything_trained_is_reported(tmp_path, monkeypatch, capsys):
    toy_corpora.write_wav(tmp_path / "good.wav", toy_corpora.tone())
    status, _, err = infer("nowhere", "good.wav", monkeypatch=monkeypatch, capsys=capsys)
    assert status == 2 and "nowhere: no such experiment folder or checkpoint" in err


def test_the_command_s_help_loads_neither_torch_nor_s3prl():
    code = "import sys, upstream_elp.commands.infer; print({'torch', 's3prl', 'tqdm'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_folder_is_loaded_with_one_hash_of_its_backbone_and_one_pass_of_the_featurizer(world, monkeypatch):
    monkeypatch.setattr(expert_module, "fingerprint", None)  # it also computes projections
    passes = []
    forward = ElpExpert.forward
    monkeypatch.setattr(ElpExpert, "forward", lambda self, wavs: passes.append(len(wavs)) or forward(self, wavs))
    folder = world.folder["elp_ic"]
    model = upstream_elp.load(folder, backbone=world.backbone)
    assert passes.count(1) == 1  # the self-check's batches have two waves
    assert model.upstream.fingerprint == read_adapter_folder(folder).fingerprint


# --- folders from anywhere ------------------------------------------------------------------------------------------


HEAD = Files(CONFIG_FILE, TENSOR_FILE)
_config, _tensors, _bytes = HEAD.change_config, HEAD.change_tensors, HEAD.change_bytes


def _said(text):
    return lambda folder: (folder / CONFIG_FILE).write_text(text)


def _adapter(folder):
    """Another adapter than the one that the head was trained with."""
    path = folder / "adapter.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    raw = yaml.safe_load((folder / "adapter_config.yaml").read_text())
    (folder / "adapter_config.yaml").write_text(yaml.safe_dump({**raw, "tensors_sha256": sha256_of(path)}))


WEIGHT = "head.projector.weight"
UNREADABLE = "head.safetensors is not a readable safetensors file"
FOLDERS = {
    "object": (_said(OBJECT), "head_config.yaml is not a readable YAML file: line 1, could not determine"),
    "object inside": (_said(f"labels:\n  action: {OBJECT}"), "YAML file: line 2, could not determine a constructor"),
    "object as key": (_said(f"? {OBJECT}\n: 1"), "readable YAML file: line 1, could not determine"),
    "name of code": (_said("!!python/name:os.system"), "readable YAML file: line 1, could not determine"),
    "key twice": (_said("task: elp_ic\ntask: elp_er"), "line 2, the key 'task' appears twice"),
    "deep": (_said("[" * 1000), "is not a readable YAML file: it is nested too deeply"),
    "text": (_said("elp_ic"), "head_config.yaml must contain a mapping"),
    "pickle as YAML": (lambda f: (f / CONFIG_FILE).write_bytes(pickle.dumps(Bomb())), "is not a readable YAML file"),
    "pickle": (_bytes(lambda data: pickle.dumps(Bomb())), UNREADABLE),
    "torch.save": (lambda f: torch.save(Bomb(), f / TENSOR_FILE), UNREADABLE),
    "truncated": (_bytes(lambda data: data[:-100]), UNREADABLE),
    "empty": (_bytes(lambda data: b""), UNREADABLE),
    "one bit": (_bytes(lambda data: data[:-1] + bytes([data[-1] ^ 1])), "head.safetensors is damaged or was changed"),
    "no tensors": (lambda f: (f / TENSOR_FILE).unlink(), "has no head.safetensors; copy or export the adapter again"),
    "no adapter": (lambda f: (f / "adapter.safetensors").unlink(), "has no adapter.safetensors"),
    "longer adapter": (
        lambda f: (f / "adapter.safetensors").write_bytes((f / "adapter.safetensors").read_bytes() + b"xx"),
        "adapter.safetensors is damaged or was changed: its sha256 is not the one in adapter_config.yaml; copy or",
    ),
    "another adapter": (_adapter, "this head was trained with another adapter than the one in the folder"),
    "key": (_config(lambda raw: raw.update(code="x")), "unknown key 'code'; the valid keys are: format_version"),
    "no key": (_config(lambda raw: raw.pop("audio")), "the key 'audio' is missing"),
    "version": (_config(lambda raw: raw.update(format_version=9)), "format_version must be 1, but is 9"),
    "task": (_config(lambda raw: raw.update(task="os")), "unknown task 'os'; the tasks are: elp_asr"),
    "task that climbs": (_config(lambda raw: raw.update(task="../x")), "unknown task '../x'; the tasks are: elp_asr"),
    "another task": (_config(lambda raw: raw.update(task="elp_er")), "the key 'labels' must be a list of texts"),
    "kind": (_config(lambda raw: raw.update(upstream_dim="32")), "'upstream_dim' must be a whole number, but is '32'"),
    "truth as number": (
        _config(lambda raw: raw.update(upstream_dim=True)),
        "'upstream_dim' must be a whole number, but is True",
    ),
    "no width": (_config(lambda raw: raw.update(upstream_dim=0)), "'upstream_dim' must be at least 1, but is 0"),
    "rate": (_config(lambda raw: raw.update(upstream_rate=160)), "but its upstream returns 32 every 320"),
    "width": (_config(lambda raw: raw.update(upstream_dim=16)), f"{WEIGHT[5:]} has the shape (256, 32), but its"),
    "precision": (
        _config(lambda raw: raw.update(precision="x")),
        "'precision' must be one of fp32, bf16, fp16, but is 'x'",
    ),
    "features of": (
        _config(lambda raw: raw.update(features_of="word")),
        "'features_of' must be one of batch, utterance, but is 'word'",
    ),
    "feature": (_config(lambda raw: raw["featurizer"].update(feature="__class__")), "the upstream has no such feature"),
    "layer": (_config(lambda raw: raw["featurizer"].update(layer=40)), "-l 40: -s hidden_states has 1 layers"),
    "layer's kind": (
        _config(lambda raw: raw["featurizer"].update(layer="1")),
        "featurizer.layer must be a whole number or null, but is '1'",
    ),
    "featurizer": (
        _config(lambda raw: raw["featurizer"].update(more=1)),
        "'featurizer' must contain exactly feature, layer",
    ),
    "head": (
        _config(lambda raw: raw["modelrc"].update(head="x")),
        "modelrc.head must be one of superb, linear, but is 'x'",
    ),
    "head's key": (_config(lambda raw: raw["modelrc"].update(more=1)), "unknown config key downstream_expert.modelrc"),
    "huge": (_config(lambda raw: raw["modelrc"].update(projector_dim=10**12)), "(256, 32), but its options need (1000"),
    "endless": (
        _config(lambda raw: raw["modelrc"].update(projector_dim=10**30)),
        "a head of these sizes cannot be built",
    ),
    "audio": (
        _config(lambda raw: raw["audio"].update(code="x")),
        "unknown config key audio.code; valid keys: channels",
    ),
    "channels": (
        _config(lambda raw: raw["audio"].update(channels=1)),
        "audio.channels must be one of error, mean, first, but is 1",
    ),
    "slots": (
        _config(lambda raw: raw["labels"].pop("action")),
        ", but its options need",
    ),
    "no slots": (
        _config(lambda raw: raw["labels"].clear()),
        "'labels' must contain lists of labels by slot, such as a",
    ),
    "labels": (_config(lambda raw: raw["labels"].update(action=[1, 2])), "'labels.action' must be a list of texts"),
    "label twice": (
        _config(lambda raw: raw["labels"].update(action=["a", "a"])),
        "'labels.action' names a class twice",
    ),
    "label missing": (_config(lambda raw: raw["labels"]["action"].pop()), "has the shape (10, 256), but its options"),
    "threshold": (
        _config(lambda raw: raw.update(threshold={"value": 1})),
        "'threshold' must be null, since elp_ic has no threshold",
    ),
    "tensor missing": (
        _tensors(lambda t: {k: v for k, v in t.items() if k != WEIGHT}),
        "its head lacks the tensor 'projector.weight",
    ),
    "tensor that climbs": (_tensors(lambda t: {**t, "head.../x": t[WEIGHT] + 0}), "contains the unknown tensor '../x'"),
    "tensor's kind": (
        _tensors(lambda t: {**t, WEIGHT: t[WEIGHT].int()}),
        "projector.weight contains numbers of another type",
    ),
    "tensor's shape": (_tensors(lambda t: {**t, WEIGHT: torch.zeros(2, 2)}), "has the shape (2, 2), but its options"),
    "no number": (
        _tensors(lambda t: {**t, WEIGHT: t[WEIGHT] * torch.nan}),
        "good.wav: the trained model returns values that are not finite",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_wrong_folders_are_one_sentence_and_run_no_code(case, world, tmp_path, monkeypatch, capsys):
    damage, message = FOLDERS[case]
    shutil.copytree(world.folder["elp_ic"], "folder")
    damage(tmp_path / "folder")
    toy_corpora.write_wav(tmp_path / "good.wav", toy_corpora.tone())
    words = ("folder", "good.wav", "--backbone", world.backbone)
    status, out, err = infer(*words, monkeypatch=monkeypatch, capsys=capsys)
    last = err.splitlines()[-1]
    assert status == 2 and last.startswith("elp: error: ") and message in last, err
    assert not out and not (tmp_path / MARK).exists()


SV_FOLDERS = {
    "threshold": (
        _config(lambda raw: raw["threshold"].update(value="high")),
        "threshold.value must be a number, but is 'high'",
    ),
    "threshold's key": (_config(lambda raw: raw["threshold"].update(more=1)), "unknown config key threshold.more"),
    "labels": (_config(lambda raw: raw.update(labels=["a"])), "'labels' must be null, since speaker verification"),
    "audio": (
        _config(lambda raw: raw["audio"].update(too_short=1)),
        "audio.too_short must be one of error, untrimmed, but is 1",
    ),
}
ASR_FOLDERS = {
    "special": (_config(lambda raw: raw["labels"].reverse()), "character dictionary labels must begin with <s>"),
    "twice": (_config(lambda raw: raw["labels"].append("A")), "character dictionary labels names a symbol twice"),
    "kind": (_config(lambda raw: raw.update(labels={"A": 1})), "character dictionary labels must be a list of texts"),
    "layers": (_config(lambda raw: raw["modelrc"]["RNNs"]["dim"].append(8)), "RNNs must have one value per layer"),
    "rate": (
        _config(lambda raw: raw["modelrc"]["RNNs"].update(total_rate=0)),
        "total_rate must be -1 or at least the upstream's rate of 320, but is 0",
    ),
}


@pytest.mark.parametrize(
    ("task", "damage", "message"),
    [(task, *case) for task, cases in (("elp_sv", SV_FOLDERS), ("elp_asr", ASR_FOLDERS)) for case in cases.values()],
)
def test_wrong_options_of_other_tasks(task, damage, message, world, tmp_path):
    shutil.copytree(world.folder[task], "folder")
    damage(tmp_path / "folder")
    with pytest.raises(ElpError) as caught:
        upstream_elp.load("folder", backbone=world.backbone)
    assert message in str(caught.value) and "head_config.yaml" in str(caught.value)


def test_a_checkpoint_from_anywhere_runs_no_code(world, tmp_path, monkeypatch, capsys):
    states = load_states(next(world.exp["elp_ic"].glob("*-best.ckpt")))
    torch.save({**states, "Downstream": Bomb()}, tmp_path / "bomb.ckpt")
    for number, wrong in enumerate((torch.zeros(3), torch.tensor([110, 117]), [1], "x"), start=1):
        states["Downstream"]["_extra_state"] = wrong
        torch.save(states, tmp_path / f"{number}.ckpt")
    states["Downstream"]["_extra_state"] = memory.encode({"labels": [1]})
    torch.save(states, tmp_path / "labels.ckpt")
    assert elp("export", tmp_path / "labels.ckpt", tmp_path / "out", monkeypatch=monkeypatch) == 2
    assert (
        "the key 'labels' must contain lists of labels by slot" in capsys.readouterr().err
        and not (tmp_path / "out").exists()
    )
    with pytest.raises(ElpError, match="code from a file is never run"):
        upstream_elp.load("bomb.ckpt")
    for number in range(1, 5):
        with pytest.raises(ElpError, match="was not written by one of these tasks"):
            upstream_elp.load(f"{number}.ckpt")
    assert not (tmp_path / MARK).exists()
