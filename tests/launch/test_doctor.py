"""``elp doctor``: everything that a bug report needs."""

import json
from importlib.metadata import version

import pytest
import torch
from click.testing import CliRunner

from upstream_elp.base.errors import ElpError
from upstream_elp.base.settings import VARIABLES
from upstream_elp.commands import doctor as command
from upstream_elp.host import table as host_table
from upstream_elp.launch import table as launch_table

ITEMS = (*host_table.ITEMS, *launch_table.ITEMS)


def output(*flags: str) -> str:
    done = CliRunner().invoke(command.doctor, flags, catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_json_tells_versions_patches_devices_names_and_places():
    facts = json.loads(output("--json"))
    assert facts["problem"] is None
    assert facts["versions"]["torch"] == version("torch")
    assert [patch["name"] for patch in facts["patches"]] == [item.name for item in ITEMS]
    assert facts["devices"]["default"] == ("cuda" if torch.cuda.is_available() else "cpu")
    counters = {key for key in facts["devices"] if key.startswith("energy of")}
    assert counters == {"energy of processors", *(["energy of GPUs"] if torch.cuda.is_available() else [])}
    assert "elp_custom" in facts["names"]["upstreams"]
    assert {"elp_asr", "elp_sv", "elp_er", "elp_ic"} <= set(facts["names"]["tasks"])
    assert facts["places"]["s3prl"].endswith("s3prl")


def test_text_names_every_patch_and_stock_names_on_request():
    text = output()
    assert all(item.name in text and item.why in text for item in ITEMS)
    assert "S3PRL is usable." in text
    assert "wavlm_base_plus, " not in text.replace("elp_wavlm_base_plus", "")
    assert "wavlm_base_plus" in output("--names").split("stock upstreams")[1]


def test_every_setting_is_listed_with_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ELP_DDP_HOURS", "abc")  # a value that a run refuses
    monkeypatch.delenv("ELP_DATA", raising=False)
    listed = json.loads(output("--json"))["environment"]
    assert set(listed) == set(VARIABLES.values())
    assert (listed["ELP_DDP_HOURS"], listed["ELP_DATA"]) == ("abc", None)


def test_an_unusable_s3prl_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch):
    def refuse() -> None:
        raise ElpError("s3prl 9 is not supported")

    monkeypatch.setattr("upstream_elp.launch.registry.register", refuse)
    assert "problem: s3prl 9 is not supported" in output()
