"""The settings of a run: what a user's variables mean, and which processes receive the settings."""

import dataclasses
import multiprocessing
import os
import re

import pytest

from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.base.settings import VARIABLES, Settings
from upstream_elp.host import mend


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


def test_every_setting_has_its_variable():
    assert list(VARIABLES) == [spec.name for spec in dataclasses.fields(Settings)]
    assert all(re.fullmatch("ELP_[A-Z_]+", variable) for variable in VARIABLES.values())


@pytest.mark.parametrize(
    ("variable", "text", "change"),
    [
        ("ELP_DATA", "/corpora", {"data": "/corpora"}),
        ("ELP_DATA", "", {}),
        ("ELP_BACKBONE", "hf:a/b", {"backbone": "hf:a/b"}),
        ("ELP_CACHE", "~/tables", {"cache": "~/tables"}),
        ("ELP_SELF_CHECK", "0", {"self_check": False}),
        ("ELP_SELF_CHECK", "1", {}),
        ("ELP_SELF_CHECK", "", {}),
        ("ELP_STOCK_LOOP", "1", {"stock_loop": True}),
        ("ELP_STOCK_LOOP", "", {}),
        ("ELP_STOCK_LOOP", "0", {}),
        ("ELP_SKIP_BAD_FILES", "1", {"skip_bad_files": True}),
        ("ELP_SKIP_BAD_FILES", "0", {}),
        ("ELP_DDP_HOURS", "0.25", {"ddp_hours": 0.25}),
        ("ELP_DDP_HOURS", "", {}),
    ],
)
def test_a_variable_means_what_it_says(variable, text, change, monkeypatch):
    monkeypatch.setenv(variable, text)
    assert settings.current() == Settings(**change)


@pytest.mark.parametrize("name", [spec.name for spec in dataclasses.fields(Settings) if spec.type == "bool"])
@pytest.mark.parametrize("text", ["yes", "true", "2"])
def test_a_switch_is_0_or_1(name, text, monkeypatch):
    monkeypatch.setenv(VARIABLES[name], text)
    with pytest.raises(ElpError, match=rf"^{VARIABLES[name]} must be 0 or 1, but is '{text}'; correct it, or unset it"):
        settings.current()


@pytest.mark.parametrize("text", ["abc", "0", "-1", "nan", "inf", "1e300"])
def test_wrong_hours_are_one_sentence(text, monkeypatch):
    monkeypatch.setenv("ELP_DDP_HOURS", text)
    with pytest.raises(ElpError, match=r"^ELP_DDP_HOURS must be a number of hours above 0, but is '.*'; unset it"):
        mend.group_timeout()
    monkeypatch.setenv("ELP_DDP_HOURS", "1.5")
    assert mend.group_timeout().total_seconds() == 5400


OTHERS = Settings("/corpora", "b.pt", "/cache", self_check=False, stock_loop=True, skip_bad_files=True, ddp_hours=3.0)


def seen(queue):
    queue.put(settings.current())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_started_inside_have_what_is_in_force(method):
    context = multiprocessing.get_context(method)
    with settings.in_force(OTHERS):
        queue = context.SimpleQueue()
        process = context.Process(target=seen, args=(queue,))
        process.start()
        assert queue.get() == OTHERS
        process.join()
    assert settings.current() == Settings()


def test_what_is_in_force_counts_and_goes_again(monkeypatch):
    monkeypatch.setenv("ELP_DATA", "/mine")
    monkeypatch.setenv("ELP_STOCK_LOOP", "1")
    before = dict(os.environ)
    with settings.in_force(dataclasses.replace(OTHERS, backbone=None)):
        assert settings.current().data == os.environ["ELP_DATA"] == "/corpora"
        assert os.environ["ELP_STOCK_LOOP"] == "1", "what the user said already is left as it is"
        assert "ELP_BACKBONE" not in os.environ
        with settings.in_force(Settings()):
            assert settings.current() == Settings() == settings.from_environment()
        assert settings.current().data == "/corpora"
    assert dict(os.environ) == before
