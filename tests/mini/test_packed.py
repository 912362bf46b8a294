"""The packaged pretrained backbone: what it is, and that S3PRL and transformers load it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import upstream_elp
from upstream_elp.base.errors import ElpError
from upstream_elp.commands.mini_backbone import mini_backbone
from upstream_elp.mini.packed import CARD, PRETRAINED, WEIGHTS, unpack, write_packed

WAVES = [torch.randn(samples, generator=torch.Generator().manual_seed(samples)) * 0.1 for samples in (12000, 9001)]


@pytest.fixture(scope="module")
def packed():
    upstream_elp.register()
    return unpack(PRETRAINED)


def command(*flags):
    return CliRunner().invoke(mini_backbone, [str(flag) for flag in flags])


def test_it_is_small_and_says_where_it_comes_from(packed):
    assert sum(file.stat().st_size for file in PRETRAINED.iterdir()) < 10_000_000
    assert sum(tensor.numel() for tensor in packed.weights.values()) == 3_654_928
    assert packed.card["licence"] == "MIT"
    assert {"command", "data", "seed", "checkpoint"} <= set(packed.card["origin"])
    assert all(tensor.dtype == torch.float32 and torch.isfinite(tensor).all() for tensor in packed.weights.values())


def test_s3prl_and_transformers_compute_the_same_states_from_it(packed, tmp_path):
    from s3prl import hub
    from transformers import WavLMModel

    assert command(tmp_path / "mini.pt", "--pretrained").output.endswith("3,654,928 parameters, pretrained\n")
    assert command(tmp_path / "hf", "--pretrained", "--format", "hf").exit_code == 0
    theirs = hub.wavlm_local(ckpt=str(tmp_path / "mini.pt")).eval()
    model = WavLMModel.from_pretrained(tmp_path / "hf").eval()
    for wave in WAVES:
        normal = torch.nn.functional.layer_norm(wave, wave.shape)
        with torch.inference_mode():
            states = theirs([wave])["hidden_states"]
            others = model(normal[None], output_hidden_states=True).hidden_states
        assert len(states) == len(others) == 5
        for state, other in zip(states, others, strict=True):
            torch.testing.assert_close(state[:, : other.shape[1]], other, rtol=1e-3, atol=2e-3)


def test_adapters_fit_it_and_padding_changes_features_little(packed, tmp_path):
    from s3prl import hub

    path = write_packed(packed, tmp_path / "mini.pt")
    expert = hub.elp_local(ckpt=str(path), model_config="elp").eval()
    with torch.inference_mode():
        both, single = expert(WAVES)["hidden_states"], expert(WAVES[1:])["hidden_states"]
    for state, other in zip(both, single, strict=True):
        frames = other.shape[1] - 1
        torch.testing.assert_close(state[1:, :frames], other[:, :frames], rtol=1e-3, atol=5e-2)


def test_the_same_file_every_time_and_no_other_is_overwritten(packed, tmp_path):
    first = write_packed(packed, tmp_path / "mini.pt").read_bytes()
    assert write_packed(packed, tmp_path / "again" / "mini.pt").read_bytes() == first
    assert command(tmp_path / "mini.pt", "--pretrained").exit_code == 0
    (tmp_path / "other.pt").write_bytes(b"mine")
    with pytest.raises(ElpError, match="exists and is not the backbone"):
        write_packed(packed, tmp_path / "other.pt")
    assert (tmp_path / "other.pt").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--pretrained", "--layers", 3), "--pretrained describes the whole backbone; remove --layers"),
        (("--pretrained", "--seed", 0), "--pretrained describes the whole backbone; remove --seed"),
        (("--format", "hf"), "--format needs --pretrained"),
    ],
)
def test_options_that_contradict_it_are_refused(flags, message, tmp_path):
    found = command(tmp_path / "out", *flags).exception
    assert isinstance(found, ElpError) and str(found).startswith(message)
    assert not (tmp_path / "out").exists()


def test_a_damaged_copy_is_refused(tmp_path):
    copy = shutil.copytree(PRETRAINED, tmp_path / "copy")
    content = bytearray((copy / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (copy / WEIGHTS).write_bytes(content)
    with pytest.raises(ElpError, match=rf"{WEIGHTS} must be the file that {CARD} describes"):
        unpack(copy)
    (copy / WEIGHTS).unlink()
    with pytest.raises(ElpError, match="is missing or differs"):
        unpack(copy)


def test_the_log_of_the_packaged_run_is_there():
    folder = Path(__file__).parents[2] / "recipes" / "pretrain" / "packaged_run"
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 9000 and rows[-1]["mfcc"] > 5 * rows[0]["mfcc"]
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
