"""Reading training checkpoints: safe, and without side effects in the process."""

import argparse

import pytest
import torch

from tests.checkpoints import load_states
from tests.golden.make import HERE
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment.checkpoint import Checkpoint, Remembered, find_checkpoint

#: the keys of a file from before there was a class that knows them
ORDER = (
    "Optimizer", "Step", "Epoch", "Args", "Config", "Position", "Random", "Records", "Origin", "Upstream", "Featurizer",
    "Downstream", "Scheduler", "Scaler", "WorldSize",
)  # fmt: skip
TO_GO_ON = {"Optimizer", "Scheduler", "Scaler", "Random", "Records", "Position"}


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
def test_what_is_not_a_training_checkpoint_is_reported(tmp_path, content):
    path = tmp_path / "states-1.ckpt"
    path.write_bytes(content) if content else torch.save({"model": {}}, path)
    with pytest.raises(ElpError, match=r"states-1\.ckpt"):
        load_states(path)


@pytest.mark.parametrize("path", sorted(HERE.glob("runs/*/states-*.ckpt")), ids=lambda path: path.parent.name)
def test_a_file_is_written_as_it_was_read(path, admitted):
    """Every key keeps its place, and unknown keys are not lost."""
    with torch.serialization.safe_globals([argparse.Namespace]):  # which revokes it at the end
        content = torch.load(path, weights_only=True)
        for more in ({}, {"WorldSize": 2, "Scaler": {"scale": 1.0}}, {"Another": [1]}):
            saved = {**content, **more}
            checkpoint = Checkpoint.from_mapping(saved)
            assert checkpoint.others.keys() == {key for key in more if key == "Another"}
            again = checkpoint.to_mapping()
            assert list(again) == sorted(again, key=[*ORDER, *again].index)
            assert again.keys() == saved.keys()
            assert all(again[key] is saved[key] for key in saved)
    assert (checkpoint.ranks, checkpoint.trains_upstream) == (1, "Upstream" in content)
    kept = checkpoint.without_progress().to_mapping()
    assert content.keys() - kept.keys() == TO_GO_ON & content.keys()


def test_nothing_is_a_checkpoint_without_entries():
    nothing = Checkpoint.from_mapping({})
    assert (nothing.to_mapping(), nothing.ranks, nothing.trains_upstream) == ({}, 1, False)


def test_what_our_own_flags_said_is_remembered_in_s3prls():
    args = argparse.Namespace(upstream="elp_local", seed=1)
    said = Remembered(data="/corpora", backbone="b.pt", adapter_folder=True)
    assert said.added_to(args) == argparse.Namespace(
        upstream="elp_local", seed=1, elp_data="/corpora", elp_backbone="b.pt", elp_adapter_folder=True
    )
    assert Remembered.of(said.added_to(args)) == said
    assert Remembered.of(args) == Remembered(), "of S3PRL's own loop"
