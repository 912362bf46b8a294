"""elp cache: fill, list, estimate, bound and clear."""

import json
import re

import pytest
import torch
from click.testing import CliRunner

from tests.experts import make_expert
from tests.toys import tiny_backbone
from tests.training_tools import flags_of, with_settings
from upstream_elp.adapters.lowest import ENCODER_INPUT, STATES, layer_input
from upstream_elp.base.errors import ElpError
from upstream_elp.caching import folders
from upstream_elp.caching.identity import features_dir
from upstream_elp.cli import group
from upstream_elp.launch.filling import fill
from upstream_elp.upstream.replay import Replay

pytestmark = pytest.mark.usefixtures("cache")
SETTINGS = ("runner.features_of=utterance", "runner.cache=auto")


def elp(*words):
    return CliRunner().invoke(group, [*words], catch_exceptions=False, standalone_mode=False).output


def without(flags, *names):
    kept = list(flags)
    for name in names:
        place = kept.index(name)
        del kept[place : place + 2]
    return kept


def filling_flags(data, task="elp_ic", *settings, preset="le"):
    flags = with_settings(flags_of(task, data, "unused", preset=preset), *SETTINGS, *settings)
    return without(flags, "-m", "-p")


def test_filled_ahead_a_run_computes_nothing(data, tmp_path, capfd):
    from upstream_elp.run import run

    fill(filling_flags(data))
    (before,) = folders.entries(features_dir())
    counts = re.findall(r"(\w+): (\d+) utterances? computed, (\d+) found in the cache", capfd.readouterr().out)
    assert [name for name, *_ in counts] == ["train", "dev"]
    assert before.utterances == sum(int(computed) for _, computed, _ in counts) > 0
    fill(filling_flags(data))
    assert capfd.readouterr().out.count(": 0 utterances computed, ") == 2
    run(with_settings(flags_of("elp_ic", data, tmp_path / "run"), *SETTINGS))
    (after,) = folders.entries(features_dir())
    assert (after.utterances, after.size) == (before.utterances, before.size)
    assert (tmp_path / "run" / "states-8.ckpt").is_file()


def test_crops_are_skipped_with_a_sentence(data, capfd):
    fill(filling_flags(data, "elp_sv"))
    assert "train: its waves differ from epoch to epoch, so they are not cached" in capfd.readouterr().err
    assert folders.entries(features_dir())[0].utterances > 0


def test_without_a_cache_there_is_nothing_to_fill(data):
    with pytest.raises(ElpError, match=r"does not cache anything; add -o config.runner.cache=auto"):
        fill(without(flags_of("elp_ic", data, "unused"), "-m", "-p"))


def test_what_does_not_fit_ends_the_filling(data):
    with pytest.raises(
        ElpError, match=r"does not fit: the cache .* has .* GB, and its limit is 0.0 GB; raise runner.ca"
    ):
        fill(filling_flags(data, "elp_ic", "runner.cache_gb=1.0e-9"))


def test_list_bound_and_clear(data):
    fill(filling_flags(data))
    fill(filling_flags(data, preset="elp"))
    rows = json.loads(elp("cache", "list", "--json"))["entries"]
    assert [row["features"] for row in rows] == ["the encoder's input", "the input of layer 0"]
    assert all(name in elp("cache", "list") for name in (row["name"] for row in rows))
    with pytest.raises(ElpError, match=rf"no cached features {rows[0]['name'][:-1]} .*did you mean"):
        elp("cache", "clear", rows[0]["name"][:-1])
    with pytest.raises(ElpError, match="name the features to remove"):
        elp("cache", "clear")
    assert rows[0]["name"] in elp("cache", "clear", rows[0]["name"])
    assert "nothing to remove" in elp("cache", "bound", "1")
    assert rows[1]["name"] in elp("cache", "bound", "0")
    assert json.loads(elp("cache", "list", "--json"))["entries"] == []
    assert "nothing to remove" in elp("cache", "clear", "--all")


def test_the_estimate_is_the_size_of_what_is_recorded():
    """Of ten seconds, of which the last frames are missing, as the front end looks ahead."""
    rows = json.loads(elp("cache", "estimate", "-k", str(tiny_backbone()), "--hours", "1", "--json"))
    assert all(row["hours to fill"] > 0 for row in rows)
    estimated = {row["cache"].partition(",")[0]: row["GB in fp32"] * 1e9 / 360 for row in rows[:5]}
    expert = make_expert("wavlm-base", "weighted_sum")
    states = range(expert.injection.layers + 1)
    for kind, place in (("layers", STATES), ("input_of_layer", layer_input(0)), ("cnn", ENCODER_INPUT)):
        part = Replay(expert, place, states=states).record(expert, torch.zeros(160_000))
        assert part.numel() * 4 == pytest.approx(estimated[kind], rel=0.02)


def test_the_estimate_for_named_backbones():
    named = json.loads(elp("cache", "estimate", "-u", "elp_wavlm_base_plus", "--hours", "100", "--json"))
    assert [round(row["GB in fp32"]) for row in named] == [1, 719, 55, 55, 55, 37]
    with pytest.raises(ElpError, match="either -u or -k"):
        elp("cache", "estimate", "--hours", "1")


def test_help_has_an_example():
    for words in ((), ("fill",), ("list",), ("estimate",), ("bound",), ("clear",)):
        assert "elp cache" in elp("cache", *words, "--help")
