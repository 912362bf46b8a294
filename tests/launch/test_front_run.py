"""Whole runs on backbones with another stride or receptive field: training, evaluation, inference."""

import json
import shutil

import numpy as np
import pytest
import torch

import upstream_elp
from tests import toy_corpora
from tests.front_toys import CONVS, backbone
from tests.task_runs import flags, options
from tests.task_tools import packaged_config
from upstream_elp.audio.front import STANDARD, FrontEnd
from upstream_elp.audio.headers import Options
from upstream_elp.base.errors import ElpError
from upstream_elp.launch.data import examine
from upstream_elp.run import run
from upstream_elp.upstream.adapter_folder import write_adapter_folder
from upstream_elp.upstream.build import build_upstream, front_end
from upstream_elp.upstream.transfer import adapter_folder_of

SLOW = "25 frames per second"


@pytest.fixture(autouse=True)
def data(own_data):
    return own_data


@pytest.mark.parametrize("family", ["hf_hubert", "wav2vec2"])
@pytest.mark.parametrize("task", ["elp_asr", "elp_er", "elp_ic", "elp_sv"])
def test_a_task_trains_and_is_used_at_25_frames_per_second(task, family, data, tmp_path):
    exp, place = tmp_path / "exp", backbone(tmp_path, family, CONVS[SLOW])
    made = options(task, "linear", total_steps=2)
    if task == "elp_asr":  # the toy corpus is spoken too fast for so few frames
        made[1] += ",,config.downstream_expert.datarc.zero_infinity=True"
    run(["-m", "train", "-u", "elp_local", "-k", str(place), "-g", "elp", *flags(task, data, exp), *made])
    model = upstream_elp.load(exp / "states-2.ckpt")
    assert model.predictor.upstream_rate == 640 and model.predictor.min_samples == model.upstream.min_samples
    assert model(torch.from_numpy(toy_corpora.tone(seconds=2.0)).float())
    assert "min_samples" not in vars(torch.load(exp / "states-2.ckpt", weights_only=True)["Args"])


@pytest.mark.parametrize("family", ["wavlm", "hubert", "data2vec", "hf_wav2vec2"])
@pytest.mark.parametrize("kind", CONVS)
def test_the_configuration_says_what_the_model_is(kind, family, tmp_path):
    place = backbone(tmp_path, family, CONVS[kind])
    expert = build_upstream(None, ckpt=place, model_config="le")
    assert front_end("local", place) == expert.injection.front
    folder = write_adapter_folder(tmp_path / "adapter", adapter_folder_of(expert))
    assert front_end("local", folder, backbone=place) == expert.injection.front
    assert front_end("wavlm_base_plus", None) == front_end("local", folder) == STANDARD


def test_a_configuration_without_convolutions_is_the_usual_one(tmp_path):
    place = backbone(tmp_path, "hf_hubert", CONVS[SLOW])
    config = json.loads((place / "config.json").read_text())
    for keys, found in ((("conv_kernel", "conv_stride"), STANDARD), (("conv_kernel",), None)):
        (place / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k not in keys}))
        if found:
            assert front_end("local", place) == found
    (place / "config.json").write_text(json.dumps({**config, "conv_stride": [5, "x"]}))
    with pytest.raises(
        ElpError, match=r"config\.json: conv_kernel and conv_stride must be .*, but are \[.*\] and \[5, 'x'\]"
    ):
        front_end("local", place)


def test_the_look_at_the_data_counts_the_backbones_frames(data, monkeypatch):
    """Before the first step, with what CTC and the x-vector need at that stride."""
    front = FrontEnd(((1000, 640),))
    wav = next((data / "fluent_speech_commands_dataset" / "wavs").rglob("*.wav"))
    toy_corpora.write_wav(wav, np.full(999, 0.1))
    monkeypatch.setenv("ELP_DATA", str(data))
    found = examine("elp_ic", packaged_config("elp_ic"), front=front, options=Options(progress=False))
    assert [problem.kind for problem in found.survey.problems] == ["short"]
    assert "has 999 samples, fewer than the 1000 that a backbone needs" in found.survey.problems[0].text
    for task in ("elp_asr", "elp_sv"):
        config = packaged_config(task)
        needs = examine(task, config, front=front, options=Options(progress=False)).survey.needs.values()
        assert needs and all((need.samples - 1000) % 640 == 0 for need in needs)


def test_files_that_are_too_short_for_this_backbone_are_skipped(data, tmp_path):
    """Longer than the usual 400 samples, shorter than this backbone's 720."""
    place = backbone(tmp_path, "hf_hubert", CONVS[SLOW])
    shortest = build_upstream(None, ckpt=place, model_config="le").min_samples
    wav = next((data / "fluent_speech_commands_dataset" / "wavs" / "speakers" / "trainspk").rglob("*.wav"))
    toy_corpora.write_wav(wav, np.full(shortest - 1, 0.1))
    command = ["-m", "train", "-u", "elp_local", "-k", str(place), "-g", "le", *flags("elp_ic", data, tmp_path / "exp")]
    command += options("elp_ic", "linear", total_steps=2)
    with pytest.raises(ElpError, match=f"has {shortest - 1} samples, fewer than the {shortest} that a backbone needs"):
        run(command)
    shutil.rmtree(tmp_path / "exp", ignore_errors=True)
    run([*command, "--skip-bad-files"])
    assert wav.name in (tmp_path / "exp" / "skipped_files.txt").read_text()
