"""What makes two runs the same: everything that their results depend on, and nothing else."""

import copy
import shutil

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from downstream_heads import registry
from tests.toys import tiny_backbone
from upstream_elp.adapters.config import load_config, preset_names
from upstream_elp.sweep.choices import Backbone
from upstream_elp.sweep.identity import FILES, WITHOUT_EFFECT, backbone_content, identity

TASKS = registry.tasks()
PLACES = {
    "runner": ("runner",),
    "datarc": ("downstream_expert", "datarc"),
    "corpus": ("downstream_expert", "corpus"),
    "loaderrc": ("downstream_expert", "loaderrc"),
}

SETTINGS = st.fixed_dictionaries(
    {
        "preset": st.sampled_from(preset_names()),
        "seed": st.integers(0, 2),
        "fold": st.sampled_from(["fold1", "fold2"]),
    }
)


def run(**changes):
    task = changes.get("task", "elp_er")
    adapter = changes.pop("preset", "le")
    known = {
        "task": task,
        "fold": None,
        "seed": 0,
        "upstream": None,
        "adapter": load_config(adapter).to_dict(),
        "backbone": "wavlm",
        "data": {"train": {"sha256": "0"}},
        "config": yaml.safe_load(TASKS[task].config.read_text()),
    }
    return {**known, **changes}


def leaves(block, path=()):
    for key, value in block.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def changed(config, path, value):
    config = copy.deepcopy(config)
    block = config
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    return config


def without_effect(path):
    return any(path == (*PLACES[block], key) for block, keys in WITHOUT_EFFECT.items() for key in keys)


@given(task=st.sampled_from(sorted(TASKS)), choice=st.randoms(use_true_random=False), value=st.integers(10**6, 10**7))
@settings(max_examples=200, deadline=None)
def test_every_key_of_a_configuration_counts_but_places_workers_and_caches(task, choice, value):
    known = run(task=task)
    path = choice.choice(list(leaves(known["config"])))
    other = identity(**{**known, "config": changed(known["config"], path, value)})
    assert (other == identity(**known)) == without_effect(path), path


@given(first=SETTINGS, second=SETTINGS)
@settings(max_examples=200, deadline=None)
def test_two_runs_are_the_same_if_their_settings_are(first, second):
    assert (identity(**run(**first)) == identity(**run(**second))) == (first == second)


@pytest.mark.parametrize(
    "change",
    [{"task": "elp_ic"}, {"upstream": "fbank"}, {"backbone": "x"}, {"data": {}}, {"processes": 2}],
    ids=str,
)
def test_task_upstream_backbone_data_and_processes_count(change):
    assert identity(**run(**change)) != identity(**run())


@given(preset=st.sampled_from(preset_names()), name=st.text(max_size=5))
@settings(max_examples=50, deadline=None)
def test_what_describes_an_adapter_does_not_count(preset, name):
    adapter = {**load_config(preset).to_dict(), "name": name, "description": name, "source": name}
    assert identity(**run(adapter=adapter)) == identity(**run(preset=preset))


def test_the_order_of_keys_and_the_spelling_of_numbers_do_not_count():
    known = run()
    turned = dict(reversed(known["config"].items()))
    turned["runner"] = {**turned["runner"], "total_steps": float(turned["runner"]["total_steps"])}
    assert identity(**{**known, "config": turned}) == identity(**known)


def test_a_backbone_is_its_content(tmp_path):
    known = backbone_content(Backbone("a", "elp_local", str(tiny_backbone())))
    copied = shutil.copy(tiny_backbone(), tmp_path / "copy.pt")
    assert backbone_content(Backbone("b", "elp_local", str(copied))) == known
    assert backbone_content(Backbone("a", "elp_local", str(tiny_backbone(seed=1)))) != known
    folder = tiny_backbone(family="hf_wavlm")
    same = shutil.copytree(folder, tmp_path / "folder")
    assert backbone_content(Backbone("c", "elp_local", str(same))) == backbone_content(
        Backbone("d", "elp_local", str(folder))
    )
    (same / "config.json").write_text((same / "config.json").read_text() + " ")
    assert backbone_content(Backbone("c", "elp_local", str(same))) != backbone_content(
        Backbone("d", "elp_local", str(folder))
    )
    assert backbone_content(Backbone("e", "elp_wavlm_base")) == "elp_wavlm_base"


@pytest.mark.parametrize("key", FILES)
def test_a_file_that_the_configuration_names_counts_by_its_content(key, tmp_path):
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(text)
    known = run()["config"]
    path = ("downstream_expert", "datarc", key)
    first, second, third = (
        identity(**run(config=changed(known, path, str(tmp_path / name)))) for name in ("a", "b", "c")
    )
    assert first == second != third
