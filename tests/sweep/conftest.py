"""A planner for plans on the toy corpora."""

import dataclasses
from pathlib import Path

import pytest

from tests import sweep_plans
from upstream_elp.base import settings
from upstream_elp.launch.registry import register
from upstream_elp.sweep.plan import parse_plan
from upstream_elp.sweep.work import Planner


@pytest.fixture(autouse=True)
def own_cache(cache):
    """Keep indexes of audio for each test only."""


@pytest.fixture
def planner(data, tmp_path):
    """Call it with changes of a valid plan; returns the checked plan."""
    register()

    def make(out: Path = tmp_path / "out", *, name="toy", corpora: Path = data, **changes):
        plan = parse_plan(sweep_plans.content(corpora, **changes), where="plan", name=name)
        with settings.in_force(dataclasses.replace(settings.current(), data=str(corpora))):
            return Planner(plan, out, data=str(corpora))

    return make
