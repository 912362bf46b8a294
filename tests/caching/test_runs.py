"""Runs under a cache: the same numbers as without, resumed bit by bit, and shared by methods and seeds."""

import json
import math
import shutil

import pytest
import rich.style  # noqa: F401 - its first import draws from Python's random state, so the first of two runs would differ
import torch

from downstream_heads import registry
from tests.toys import tiny_backbone
from tests.training_tools import assert_same_run, flags_of, forget_after, lines_of, resuming, with_settings
from upstream_elp.base.errors import ElpError
from upstream_elp.caching import checks, features, folders
from upstream_elp.caching.identity import features_dir
from upstream_elp.run import run
from upstream_elp.upstream.replay import Begin, Replay

pytestmark = pytest.mark.usefixtures("cache")
TASKS = registry.names()
UTTERANCE = "runner.features_of=utterance"


def flags(task, data, expdir, *settings, preset="le", backbone=None):
    found = with_settings(flags_of(task, data, expdir, preset=preset), *settings)
    if backbone is not None:
        found[found.index("-k") + 1] = str(tiny_backbone(None, backbone, pre_norm=True, layer_norm_front=True))
    return found


def assert_close(one, other):
    """The logged values of two runs agree within rounding."""
    for name in ("train.jsonl", "metrics.jsonl"):
        rows = [lines_of(folder / name) for folder in (one, other)]
        assert len(rows[0]) == len(rows[1]) > 0
        for first, second in zip(*rows, strict=True):
            assert first.keys() == second.keys()
            for key, value in first.items():
                _close(value, second[key], key)


def _close(one, other, where):
    if isinstance(one, dict):
        for key, value in one.items():
            _close(value, other[key], f"{where}.{key}")
    elif isinstance(one, float) and not math.isnan(one):
        assert one == pytest.approx(other, rel=2e-3, abs=1e-4), where
    else:
        assert one == other or one != one, where


def held():
    return {entry.folder.name.split("-")[0]: entry.utterances for entry in folders.entries(features_dir())}


PRESETS = ["weighted_sum", "le", "elp", "full_finetune"]


@pytest.mark.parametrize(
    ("task", "preset"),
    [
        pytest.param(task, preset, marks=() if task == "elp_ic" or preset == "le" else pytest.mark.slow)
        for task in TASKS
        for preset in PRESETS
    ],
)
def test_with_and_without_a_cache_the_same_numbers(task, preset, data, tmp_path):
    run(flags(task, data, tmp_path / "off", UTTERANCE, preset=preset))
    run(flags(task, data, tmp_path / "auto", UTTERANCE, "runner.cache=auto", preset=preset))
    assert_same_run(tmp_path / "off", tmp_path / "auto", except_config=True)
    assert sum(held().values()) > 0


@pytest.mark.parametrize(("preset", "kinds"), [("weighted_sum", ["pooled", "layers"]), ("le", ["input_of_layer"])])
def test_every_kind_gives_the_same_numbers(preset, kinds, data, tmp_path):
    run(flags("elp_ic", data, tmp_path / "off", UTTERANCE, preset=preset))
    for kind in (*kinds, "cnn"):
        run(flags("elp_ic", data, tmp_path / kind, UTTERANCE, f"runner.cache={kind}", preset=preset))
        assert_close(tmp_path / "off", tmp_path / kind)
    assert held().keys() == {*kinds, "cnn"}


def test_without_features_of_utterance_auto_changes_nothing(data, tmp_path, caplog):
    run(flags("elp_ic", data, tmp_path / "off"))
    run(flags("elp_ic", data, tmp_path / "auto", "runner.cache=auto"))
    assert_same_run(tmp_path / "off", tmp_path / "auto", except_config=True)
    assert "set runner.features_of: utterance" in caplog.text and not held()


@pytest.mark.parametrize("backbone", ["hf_hubert", "hf_wavlm", "wav2vec2"])
def test_in_batches_of_one_the_two_kinds_of_features_are_the_same(backbone, data, tmp_path):
    """Whatever the backbone does with padding, as there is none."""
    one = "downstream_expert.datarc.train_batch_size=1", "downstream_expert.datarc.eval_batch_size=1"
    for name, settings in (("off", []), ("auto", [UTTERANCE, "runner.cache=auto"])):
        run(flags("elp_ic", data, tmp_path / name, *one, *settings, backbone=backbone))
    assert_close(tmp_path / "off", tmp_path / "auto")
    assert held()


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "cleared"])
@pytest.mark.parametrize("task", ["elp_ic", "elp_sv"])
def test_resumed_under_a_cache_equals_never_stopped(task, lost, data, tmp_path):
    """Also if the cache was cleared in between: what is computed again is the same."""
    expdir, straight = tmp_path / "exp", tmp_path / "straight"
    run(flags(task, data, expdir, UTTERANCE, "runner.cache=auto"))
    shutil.copytree(expdir, straight)
    forget_after(expdir, 4)
    if lost:
        shutil.rmtree(features_dir())
    torch.manual_seed(4)
    run(resuming(expdir, data))
    assert_same_run(straight, expdir)


def test_methods_with_the_same_frozen_part_share_it(data, tmp_path, capfd):
    run(flags("elp_ic", data, tmp_path / "le", UTTERANCE, "runner.cache=auto"))
    before = held()
    run(flags("elp_ic", data, tmp_path / "lora", UTTERANCE, "runner.cache=auto", preset="lora_qk8"))
    assert held() == before
    assert f"which has {before['input_of_layer']} utterances" in capfd.readouterr().err


BEGINS = {"elp": "", "le": "the encoder's input", "weighted_sum": "the input of layer 0"}
"""Presets in an order in which each can begin from what the one before has kept, and from where."""


@pytest.mark.parametrize("task", ["elp_ic", pytest.param("elp_asr", marks=pytest.mark.slow)])
def test_what_other_runs_have_kept_of_lower_places_is_not_computed_again(task, data, tmp_path, monkeypatch):
    begins, whole = [], Replay.record

    def record(self, *args, begin=None, until=None):
        begins.append(str(begin.place) if begin else "")
        return whole(self, *args, begin=begin, until=until)

    for preset, place in BEGINS.items():
        run(flags(task, data, tmp_path / f"{preset}-off", UTTERANCE, preset=preset))
        with monkeypatch.context() as patch:
            patch.setattr(Replay, "record", record)
            patch.setattr(checks, "begins", lambda *_: True)  # it records noise
            patch.setattr(checks, "replays", lambda *_: True)
            begins.clear()
            run(flags(task, data, tmp_path / preset, UTTERANCE, "runner.cache=auto", preset=preset))
        assert set(begins) == {place}
        assert_same_run(tmp_path / f"{preset}-off", tmp_path / preset, except_config=True)


def test_a_beginning_that_gives_other_features_is_not_used(data, tmp_path, monkeypatch):
    run(flags("elp_ic", data, tmp_path / "elp", UTTERANCE, "runner.cache=auto", preset="elp"))
    run(flags("elp_ic", data, tmp_path / "off", UTTERANCE))
    for module in (checks, features):
        monkeypatch.setattr(module, "Begin", lambda place, part: Begin(place, 2 * part))
    run(flags("elp_ic", data, tmp_path / "le", UTTERANCE, "runner.cache=auto"))
    assert_same_run(tmp_path / "off", tmp_path / "le", except_config=True)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_halves_the_disk(dtype, data, tmp_path):
    sizes = {}
    for name, settings in (("full", []), (dtype, [f"runner.cache_dtype={dtype}"])):
        run(flags("elp_ic", data, tmp_path / name, UTTERANCE, "runner.cache=auto", *settings))
        sizes[name] = folders.entries(features_dir())[0].size
    assert 0.4 < sizes[dtype] / sizes["full"] < 0.6
    losses = [lines_of(tmp_path / name / "train.jsonl")[0]["loss"] for name in ("full", dtype)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


def test_bf16_and_gradient_checkpointing_under_a_cache(data, tmp_path):
    settings = ("runner.precision=bf16", "runner.gradient_checkpointing=true")
    run(flags("elp_ic", data, tmp_path / "off", UTTERANCE, *settings))
    run(flags("elp_ic", data, tmp_path / "auto", UTTERANCE, "runner.cache=auto", *settings))
    assert_same_run(tmp_path / "off", tmp_path / "auto", except_config=True)


def test_a_full_cache_is_reported_and_the_run_goes_on(data, tmp_path, caplog):
    run(flags("elp_ic", data, tmp_path / "off", UTTERANCE))
    settings = ("runner.cache=auto", "runner.cache_gb=1.0e-9")
    run(flags("elp_ic", data, tmp_path / "full", UTTERANCE, *settings))
    assert_same_run(tmp_path / "off", tmp_path / "full", except_config=True)
    assert "so other utterances are computed in every step; raise runner.cache_gb" in caplog.text


def test_crops_at_random_places_are_not_kept(data, tmp_path):
    run(flags("elp_sv", data, tmp_path / "exp", UTTERANCE, "runner.cache=auto"))
    trials = {line["items"] for line in lines_of(tmp_path / "exp" / "metrics.jsonl")}
    assert trials and held()
    computed = held()["input_of_layer"]
    run(resuming(tmp_path / "exp", data, "runner.total_steps=12"))
    assert held()["input_of_layer"] == computed


def test_evaluation_uses_the_same_features(data, tmp_path):
    run(flags("elp_ic", data, tmp_path, UTTERANCE, "runner.cache=auto"))
    shutil.rmtree(features_dir())
    run(["-m", "evaluate", "-e", str(tmp_path / "states-8.ckpt"), "-t", "dev", "--data", str(data), "--device", "cpu"])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["split"] == "dev"][-2:]
    assert last[0]["metrics"] == last[1]["metrics"]
    assert held() == {"input_of_layer": 4}, "also what is less than a shard is kept for the next evaluation"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("cache=all", r"runner.cache must be one of off, auto, pooled, layers, input_of_layer, cnn, but is 'all'"),
        ("features_of=frame", r"runner.features_of must be batch or utterance, but is 'frame'"),
        ("cache_dtype=int8", r"runner.cache_dtype must be fp32, bf16 or fp16, but is 'int8'"),
        ("cache_gb=0", r"runner.cache_gb must be a number of gigabytes above 0, but is 0"),
        ("cache=pooled", r"runner.cache is pooled, but the adapter le is trained from the input of layer 0 on"),
        ("cachegb=1", r"unknown runner.cachegb \(did you mean cache_gb"),
    ],
)
def test_wrong_values_are_refused_before_training(setting, sentence, data, tmp_path):
    with pytest.raises(ElpError, match=sentence):
        run(flags("elp_ic", data, tmp_path, UTTERANCE, f"runner.{setting}"))
    assert not list(tmp_path.glob("*.ckpt"))


def test_an_unquoted_off_is_off(data, tmp_path):
    run(flags("elp_ic", data, tmp_path, "runner.cache=off"))
    assert not features_dir().exists()


CUT = "downstream_expert.datarc.crop_from=features"


def test_crops_of_features_are_kept_and_resumed(data, tmp_path):
    expdir, straight = tmp_path / "exp", tmp_path / "straight"
    run(flags("elp_sv", data, expdir, UTTERANCE, "runner.cache=auto", CUT))
    computed = held()["input_of_layer"]
    run(flags("elp_sv", data, tmp_path / "off", UTTERANCE, CUT))
    assert_same_run(tmp_path / "off", expdir, except_config=True)
    run(flags("elp_sv", data, tmp_path / "lora", UTTERANCE, "runner.cache=auto", CUT, preset="lora_qk8"))
    assert held()["input_of_layer"] == computed  # whole utterances, wherever they are cut
    shutil.copytree(expdir, straight)
    forget_after(expdir, 4)
    run(resuming(expdir, data))
    assert_same_run(straight, expdir)


@pytest.mark.parametrize(("settings", "preset"), [([], "le"), ([UTTERANCE], "cnn")])
def test_crops_of_features_need_features_of_utterances(settings, preset, data, tmp_path):
    with pytest.raises(ElpError, match=r"crop_from is features, so they must be .* set runner.features_of: utterance"):
        run(flags("elp_sv", data, tmp_path, CUT, *settings, preset=preset))


def test_other_upstreams_compute_each_utterance_by_itself(data, tmp_path):
    """As fbank does anyway, but S3PRL's featurizer then takes no frame of padding."""
    for name, settings in (("batch", []), ("utterance", [UTTERANCE, "runner.cache=auto"])):
        found = flags("elp_ic", data, tmp_path / name, *settings)
        for flag in ("-k", "-g"):
            place = found.index(flag)
            del found[place : place + 2]
        found[found.index("-u") + 1] = "fbank"
        run(found)
    losses = [lines_of(tmp_path / name / "train.jsonl")[0]["loss"] for name in ("batch", "utterance")]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and not held()


@pytest.mark.parametrize("task", ["elp_ic", "elp_sv"])
def test_inference_on_one_file_keeps_nothing(task, data, tmp_path):
    run(flags(task, data, tmp_path, UTTERANCE, "runner.cache=auto"))
    before = held()
    wav = next((data / "fluent_speech_commands_dataset").rglob("*.wav"))
    words = ["-m", "inference", "-e", str(tmp_path / "states-8.ckpt"), "-t", str(wav), "--data", str(data)]
    run([*words, "--device", "cpu"])
    assert held() == before


def test_the_other_loop_does_not_ignore_the_key_silently(data, tmp_path):
    with pytest.raises(ElpError, match=r"--stock-loop: S3PRL's loop ignores runner.features_of: utterance"):
        run([*flags("elp_ic", data, tmp_path, UTTERANCE), "--stock-loop"])


@pytest.mark.parametrize(
    ("more", "setting"),
    [(["--upstream_feature_normalize"], "runner.cache=auto"), ([], "specaug={apply_time_warp: false}")],
)
def test_what_changes_single_frames_is_not_pooled(more, setting, data, tmp_path):
    """The mean of normalised or masked frames is not the normalised or masked mean."""
    settings = {UTTERANCE, "runner.cache=auto", setting}
    run([*flags("elp_ic", data, tmp_path / "auto", *sorted(settings), preset="weighted_sum"), *more])
    assert held().keys() == {"layers"}
    with pytest.raises(ElpError, match="the head, SpecAugment or the normalisation of features needs every frame"):
        pooled = sorted({*settings - {"runner.cache=auto"}, "runner.cache=pooled"})
        run([*flags("elp_ic", data, tmp_path / "pooled", *pooled, preset="weighted_sum"), *more])
