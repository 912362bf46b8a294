"""The packaged plans: each states its source, and can be carried out on mini-SUPERB with a backbone of four layers."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from tests.toys import tiny_backbone
from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.launch.registry import register
from upstream_elp.sweep.plan import packaged_plans, parse_plan, read_plan
from upstream_elp.sweep.points import cells, settings_of
from upstream_elp.sweep.work import Planner

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", packaged_plans())
def test_a_packaged_plan_has_its_source_and_passes_all_checks(name, data, tmp_path):
    register()
    content = yaml.safe_load(packaged_plans()[name].read_text())
    assert content["backbones"] == ["build/mini.pt"] and content["data"] == "build/mini"  # which a reader makes
    if name == "data_size":  # the toys have seconds
        content["grid"] = {key: [0.03, 0.035, 0.04] for key in content["grid"]}
    plan = parse_plan({**content, "backbones": [str(tiny_backbone(layers=4))]}, where=name, name=name)
    assert plan.description and plan.source.startswith("arXiv ") and "Our reading" in plan.source
    with settings.in_force(dataclasses.replace(settings.current(), data=str(data))):
        work = Planner(plan, tmp_path / "out", data=str(data)).work()
    assert len(work.jobs) >= 20
    row = re.search(rf"^\| `{name}` \|.*\| (\d+) \|", (ROOT / "docs" / "sweeps.md").read_text(), re.MULTILINE)
    tried = (
        [len(settings_of(plan.search, cell)) * len(plan.search.seeds) for cell in cells(plan)] if plan.search else []
    )
    assert int(row[1]) == sum(len(cell.seeds) for cell in cells(plan)) + sum(tried)
    if plan.search is not None:
        sizes = {len(trials) for trials in work.searches}
        assert sizes in ({4}, {5})


def test_a_plan_that_does_not_exist_is_reported_with_the_packaged_ones():
    with pytest.raises(ElpError, match=r"method must be a file or the name of a packaged plan.*did you mean methods"):
        read_plan("method")
