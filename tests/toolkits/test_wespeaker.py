"""WeSpeaker's own front end, checkpoints and averaging, with our upstreams."""

import runpy
import sys

import pytest
import torch
from torch import nn

import upstream_elp
from tests.toolkits.front_ends import PRESETS, check_front_end, check_kept, features, noisy, options

upstream_elp.register()  # before WeSpeaker imports torchaudio
module = pytest.importorskip("wespeaker.frontend.s3prl")
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")


def build(preset="le", **more):
    return module.S3prlFrontend(upstream_args=options(preset), download_dir=None, **more)


@pytest.mark.parametrize("preset", PRESETS)
def test_it_trains_adapters_only(preset):
    check_front_end(build(preset))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_adapter_and_the_state_are_saved_and_loaded(preset, tmp_path):
    check_kept(lambda: build(preset), tmp_path / "adapter")


def test_frozen_would_leave_adapters_untrained_which_is_reported(caplog):
    front = build("e_only", frozen=True).train()
    for _ in range(3):
        features(front)
    assert "do not freeze the upstream" in caplog.text


class Model(nn.Module):
    """The part of WeSpeaker's models that matters here."""

    def __init__(self, front):
        super().__init__()
        self.frontend = front
        self.projection = nn.Linear(3, 3)


@pytest.mark.parametrize("number", [2, 3])
def test_averaged_checkpoints_can_be_loaded(number, tmp_path, monkeypatch):
    pytest.importorskip("wespeaker.bin.average_model", reason="its programs are in its clone, not in its package")
    from wespeaker.utils.checkpoint import load_checkpoint, save_checkpoint

    model = Model(noisy(build())).eval()
    for index in range(number):
        save_checkpoint(model, str(tmp_path / f"model_{index}.pt"))
    words = ["average_model", "--dst_model", tmp_path / "avg.pt", "--src_path", tmp_path, "--num", number]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    runpy.run_module("wespeaker.bin.average_model", run_name="__main__")
    again = Model(build()).eval()
    load_checkpoint(again, str(tmp_path / "avg.pt"))
    with torch.no_grad():
        assert torch.allclose(features(again.frontend), features(model.frontend), atol=1e-5)
