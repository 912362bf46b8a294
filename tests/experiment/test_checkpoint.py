"""Reading training checkpoints: safe, and without a trace in the process."""

import argparse

import pytest
import torch

from tests.checkpoints import load_states
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment.checkpoint import find_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "states-4.ckpt"
    args = argparse.Namespace(upstream="elp_local", upstream_ckpt=None, upstream_model_config=None)
    torch.save({"Args": args, "Config": {}, "Step": 4}, path)
    return path


@pytest.fixture
def admitted():
    before = torch.serialization.get_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


@pytest.mark.parametrize("registered", [True, False])
def test_loading_leaves_the_admitted_classes_as_they_were(checkpoint, admitted, registered):
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([argparse.Namespace] if registered else [])
    before = torch.serialization.get_safe_globals()
    assert load_states(checkpoint)["Args"].upstream == "elp_local"
    assert torch.serialization.get_safe_globals() == before


def test_the_best_checkpoint_is_meant_and_else_the_latest(checkpoint, tmp_path):
    (tmp_path / "states-12.ckpt").touch()
    assert find_checkpoint(tmp_path).name == "states-12.ckpt"
    (tmp_path / "dev-best.ckpt").touch()
    assert find_checkpoint(tmp_path).name == "dev-best.ckpt"
    (tmp_path / "test-best.ckpt").touch()
    with pytest.raises(ElpError, match=r"dev-best\.ckpt, test-best\.ckpt"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"no checkpoint", None])
def test_what_is_no_training_checkpoint_is_told(tmp_path, content):
    path = tmp_path / "states-1.ckpt"
    path.write_bytes(content) if content else torch.save({"model": {}}, path)
    with pytest.raises(ElpError, match=r"states-1\.ckpt"):
        load_states(path)
