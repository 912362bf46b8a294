"""Files of earlier versions: this version resumes from them, evaluates them and uses them as those did.

On the machine that wrote the files (same torch, same processor) everything is equal bit by bit. Elsewhere rounding
differs: Adam's first steps make whole steps of it where a gradient is near zero, and a decision between two classes may
tip.
"""

import json
import shutil
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from downstream_heads.common import memory
from tests import toy_corpora
from tests.golden import make
from upstream_elp.adapters.config import preset_names

EXPECTED = json.loads((make.HERE / "expected.json").read_text())
EXACT = EXPECTED["machine"] == make.machine()
BACKBONE = make.HERE / "backbone.pt"
STATES = load_file(make.HERE / "states.safetensors")
ROUNDING = 1e-4
"""Of states and losses of order 1, between processors and versions of torch."""
OTHER_ROUNDING = {
    "elp_asr": "the head ran packed LSTMs",
    "elp_sv": "LoRA's gradients were computed through those of whole weights",
}
"""Runs whose training steps rounded differently in the version that wrote them."""
STEP = 1e-3
"""The learning rate: the most by which Adam moves a parameter in one step."""


def same(found: torch.Tensor, expected: torch.Tensor, *, tolerance: float = ROUNDING, exact: bool = EXACT) -> bool:
    if exact or not found.is_floating_point():
        return torch.equal(found, expected)
    return found.shape == expected.shape and float((found - expected).abs().max()) <= tolerance


def alike(found: Any, expected: Any, *, only: str = "", exact: bool = EXACT) -> bool:
    """Whether nested values are equal; elsewhere only numbers count, and in a mapping those under ``only`` if given."""
    if exact:
        return found == expected
    if isinstance(expected, dict):
        keys = [key for key in expected if only in ("", key)]
        return found.keys() == expected.keys() and all(alike(found[key], expected[key], exact=exact) for key in keys)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(
            alike(*pair, exact=exact) for pair in zip(found, expected, strict=True)
        )
    return type(found) is type(expected) and (isinstance(found, str) or found == pytest.approx(expected, abs=1e-3))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_corpora.write_all(tmp_path_factory.mktemp("golden"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def exp(request, tmp_path):
    return shutil.copytree(make.HERE / "runs" / request.param, tmp_path / "exp")


RUNS = pytest.mark.parametrize(("task", "exp"), [(task, task) for task in make.RUNS], indirect=["exp"], ids=make.RUNS)


def labels(tensors: dict[str, torch.Tensor]) -> Any:
    """The meaning of the head's outputs, according to a checkpoint's tensors."""
    return memory.decode(tensors[f"Downstream.{memory.KEY}"]).get("labels")


@RUNS
def test_an_interrupted_run_goes_on_as_it_would_have(task, exp, data):
    expected = load_file(exp / "last.safetensors")
    make.resume(data, BACKBONE, exp)
    found = make.trained(exp / f"states-{make.STEPS['last']}.ckpt")
    assert found.keys() == expected.keys()
    exact = EXACT and task not in OTHER_ROUNDING
    if not exact:  # the best metric may tip, and with it the threshold at which it is reached
        assert alike(*(labels(tensors) for tensors in (found, expected)), exact=exact)
        tipping = ("best_score", memory.KEY)
        found = {name: tensor for name, tensor in found.items() if not name.endswith(tipping)}
    steps = make.STEPS["last"] - make.STEPS["first"]
    options = {"tolerance": 2 * steps * STEP, "exact": exact}
    wrong = [name for name in found if not same(found[name], expected[name], **options)]
    assert not wrong


@RUNS
def test_a_checkpoint_is_evaluated_as_it_was(task, exp, data):
    metrics = make.evaluate(data, BACKBONE, exp / f"states-{make.STEPS['first']}.ckpt")
    assert alike(metrics, EXPECTED["runs"][task]["metrics"], only="loss")


@pytest.mark.parametrize("task", make.RUNS)
def test_an_exported_folder_answers_as_it_did(task, data):
    found = make.answers(task, data, BACKBONE, make.HERE / "folders" / task)
    assert len(found) == make.FILES
    assert alike(found, EXPECTED["runs"][task]["answers"])


@pytest.mark.parametrize("preset", STATES)
def test_an_adapter_folder_gives_the_states_that_it_gave(preset):
    assert same(make.states(BACKBONE, make.HERE / "adapters" / preset), STATES[preset])


def test_every_preset_has_a_golden_folder():
    """A new preset is added with ``python -m tests.golden.make``."""
    assert set(preset_names()) == set(STATES)
