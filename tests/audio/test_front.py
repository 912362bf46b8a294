"""Backbones with an unusual waveform CNN: stride and receptive field come from the model."""

import pytest
import torch

from tests.experts import distance, make_expert, states_of, waves
from tests.front_toys import CONVS, backbone
from upstream_elp.audio.front import STANDARD, FrontEnd, fairseq_layers
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.adapter_folder import write_adapter_folder
from upstream_elp.upstream.build import build_upstream
from upstream_elp.upstream.switching import load_adapters
from upstream_elp.upstream.transfer import adapter_folder_of

FAMILIES = ("wavlm", "hubert", "wav2vec2", "data2vec", "unispeech_sat", "hf_wavlm", "hf_hubert", "hf_wav2vec2")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", CONVS)
def test_stride_and_shortest_wave_are_the_models(kind, family, tmp_path):
    """Through S3PRL's featurizer, in a padded batch, with everything that counts frames."""
    from s3prl.upstream.interfaces import Featurizer

    raw = {"base": "elp", "deep_prompt": {"length": 2}, "prefix_kv": {"length": 2}}
    expert = build_upstream(None, ckpt=backbone(tmp_path, family, CONVS[kind]), model_config=raw).eval()
    front = FrontEnd(tuple((kernel, stride) for _, kernel, stride in CONVS[kind]))
    assert expert.get_downsample_rates("hidden_states") == front.stride
    assert expert.injection.min_samples == front.min_samples
    featurizer = Featurizer(expert, upstream_device="cpu").eval()
    assert featurizer.downsample_rate == front.stride
    wavs = waves(32000, 16000, front.min_samples)
    with torch.no_grad():
        features = featurizer(wavs, expert(wavs))
    counts = [min(round(len(wav) / front.stride), int(front.frame_len(torch.tensor(32000)))) for wav in wavs]
    assert [len(feature) for feature in features] == counts
    with pytest.raises(
        ElpError, match=f"must have at least {front.min_samples} samples, but has {front.min_samples - 1}"
    ):
        expert(waves(front.min_samples - 1))


@pytest.mark.parametrize("kind", CONVS)
def test_pseudo_features_follow_the_last_frame(kind, tmp_path):
    """An utterance has the same features in a padded batch as by itself, if that is true of the plain backbone."""
    path = backbone(tmp_path, "hf_wav2vec2", CONVS[kind])
    expert = build_upstream(None, ckpt=path, model_config="elp").double().eval()
    wavs = waves(9000, 5300, dtype=torch.float64)
    frames = int(expert.injection.frame_len(torch.tensor(5300)))
    padded = [state[1:, :frames] for state in states_of(expert, wavs)]
    assert distance(padded, states_of(expert, wavs[1:])) < 1e-9


@pytest.mark.parametrize("kind", CONVS)
def test_switched_adapters_report_the_models_stride(kind, tmp_path):
    path = backbone(tmp_path, "hubert", CONVS[kind])
    expert = build_upstream(None, ckpt=path, model_config="le")
    folder = write_adapter_folder(tmp_path / "adapter", adapter_folder_of(expert))
    switch = load_adapters({"one": folder}, backbone=path)
    assert switch.get_downsample_rates("hidden_states") == expert.injection.front.stride


def test_the_usual_backbone_has_the_standard_front_end():
    assert make_expert("hubert-base", "le").injection.front == STANDARD
    assert (STANDARD.stride, STANDARD.min_samples) == (320, 400)


def test_frames_are_counted_as_the_layers_do():
    for layers in CONVS.values():
        front = FrontEnd(tuple((kernel, stride) for _, kernel, stride in layers))
        samples = torch.arange(3 * front.min_samples)
        layerwise = samples
        for kernel, stride in front.conv:
            layerwise = torch.div(layerwise - kernel, stride, rounding_mode="floor") + 1
        assert torch.equal(front.frame_len(samples), layerwise.clamp(min=0))
        assert all(int(front.frame_len(torch.tensor(front.samples(n)))) == n for n in (1, 2, 7))


def test_a_receptive_field_that_s3prl_refuses_is_one_sentence(tmp_path):
    path = backbone(tmp_path, "hf_hubert", ((8, 400, 5), (16, 200, 8), (16, 100, 8)))
    with pytest.raises(ElpError, match=r"this backbone cannot be used: its frames see \d+ samples and come every 320"):
        build_upstream(None, ckpt=path, model_config="le")


@pytest.mark.parametrize(
    "text",
    [
        "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] + [(512, 2, 2)]",
        "[(512, 10, 5)] + 4 * [(512, 3, 2)] + [[512, 2, 2]] * 2",
        "[(512,10,5),(512,3,2),(512,3,2),(512,3,2),(512,3,2),(512,2,2),(512,2,2)]",
    ],
)
def test_fairseqs_text_is_read_without_being_run(text):
    assert FrontEnd(tuple((kernel, stride) for _, kernel, stride in fairseq_layers(text))) == STANDARD


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('true')", "[(512, 10, 5)] * 10**9", "[(1, 1, 1)] * 99", "[]", "[(512, 10, 0)]", "[", 7],
)
def test_other_text_is_refused(text):
    with pytest.raises(ElpError, match="conv_feature_layers must be"):
        fairseq_layers(text)
