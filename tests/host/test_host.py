"""S3PRL as the host: its patches, our registered names, and that importing us does neither."""

import argparse
import subprocess
import sys
import threading
from collections import defaultdict
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

import upstream_elp
from downstream_heads import registry as tasks
from downstream_heads.contract import FOLDER
from tests.toys import tiny_backbone
from upstream_elp.base.errors import ElpError
from upstream_elp.host import compat, edits, features, mend, places, sound, table
from upstream_elp.host.edits import Edit
from upstream_elp.host.override import literal, override
from upstream_elp.launch import registry


def test_importing_the_package_does_not_import_s3prl_or_torch():
    code = "import sys, upstream_elp; print(sorted({'s3prl', 'torch', 'torchaudio'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_registering_leaves_transformers_for_later():
    code = "import sys, upstream_elp; upstream_elp.register(); print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("name", ["hf_hubert", "hf_wav2vec2"])
def test_s3prls_hugging_face_upstreams_import_it_then(name):
    upstream_elp.register()
    from s3prl import hub

    expert = getattr(hub, f"{name}_custom")(str(tiny_backbone(None, name)))
    states = expert([torch.randn(4000), torch.randn(2900)])["hidden_states"]
    assert len(states) == 4 and states[0].shape == (2, 12, 32)


def test_registering_twice_is_registering_once():
    upstream_elp.register()
    from s3prl import downstream, hub

    before = dict(vars(hub)), list(downstream.__path__)
    upstream_elp.register()
    assert (dict(vars(hub)), list(downstream.__path__)) == before
    assert downstream.__path__.count(str(FOLDER)) == 1


def test_our_names_are_s3prls_names():
    upstream_elp.register()
    from s3prl import hub, optimizers

    from upstream_elp.upstream import hubconf

    assert "elp_custom" in hub.options()
    assert set(registry.upstreams(hubconf)) <= set(hub.options())
    assert optimizers.get_optimizer([torch.nn.Linear(2, 2)], 10, {"name": "ELPAdam", "lr": 1e-3})


@pytest.mark.parametrize("task", tasks.names())
def test_our_tasks_are_found_below_s3prl_and_unpickle_from_our_package(task):
    upstream_elp.register()
    expert = pytest.importorskip(f"s3prl.downstream.{task}.expert")
    assert expert.DownstreamExpert.__module__.startswith(f"downstream_heads.{task}.")


def test_a_name_that_is_taken_is_refused():
    host = ModuleType("host")
    host.elp_local = len
    with pytest.raises(ElpError, match="host already has elp_local"):
        registry._add(host, {"elp_local": print, "elp_other": print})
    assert not hasattr(host, "elp_other")


def test_every_item_says_why_and_until_when():
    rows = compat.report()
    assert len({row["name"] for row in rows}) == len(table.ITEMS)
    assert all(row["why"] and row["until"] for row in rows)


def test_the_items_are_applied_once():
    compat.install()
    first = compat.report()
    counts = {module: len(known) for module, known in edits._EDITS.items()}
    compat.install()
    assert compat.report() == first
    assert {module: len(known) for module, known in edits._EDITS.items()} == counts
    assert {row["state"] for row in first} <= {"applied", "not needed"}


def test_an_unknown_s3prl_is_refused(monkeypatch):
    monkeypatch.setattr(compat, "s3prl_version", lambda: "0.5.0")
    with pytest.raises(ElpError, match=r"s3prl 0\.5\.0 is not supported; install s3prl==0\.4\.18"):
        compat.check_version()


def test_every_edit_finds_its_line_in_the_installed_s3prl():
    compat.install()
    root = places.s3prl_folder().parent
    missing = [
        (module, one.old)
        for module, known in edits._EDITS.items()
        if module.startswith("s3prl.")
        for one in known
        if one.old not in (root / f"{module.replace('.', '/')}.py").read_text()
    ]
    assert edits._EDITS
    assert missing == []


def test_an_edit_changes_the_module_but_not_the_file(tmp_path, monkeypatch):
    (tmp_path / "toy_module.py").write_text("value = 1\nother = value\n")
    monkeypatch.syspath_prepend(tmp_path)
    edits.edit("toy_module", Edit("value = 1", "value = better()", {"better": lambda: 2}))
    edits.after("toy_module", lambda module: setattr(module, "late", module.value + 1))
    import toy_module

    assert (toy_module.value, toy_module.other, toy_module.late) == (2, 2, 3)
    assert (tmp_path / "toy_module.py").read_text().startswith("value = 1")
    with pytest.raises(ElpError, match="imported before"):
        edits.edit("toy_module", Edit("a", "b"))


def test_a_required_line_that_is_gone_is_refused(tmp_path, monkeypatch):
    (tmp_path / "toy_changed.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    edits.edit("toy_changed", Edit("something", "else", required=False), Edit("value = 1", "value = 2"))
    with pytest.raises(ElpError, match=r"toy_changed\.py is not the toy_changed of s3prl"):
        import toy_changed  # noqa: F401


def test_registering_says_nothing_of_its_own():
    """S3PRL's use of deprecated names is not the user's business; ``-W default`` shows what would be printed."""
    code = "import upstream_elp; upstream_elp.register()"
    command = [sys.executable, "-W", "default::FutureWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["BertAdam_with_schedule", "AdamW_with_schedule", "Lamb_with_schedule"])
@pytest.mark.filterwarnings("error:.*overload of add")
def test_s3prls_optimizers_step_without_deprecated_overloads(name):
    """The first step of an Adam moves every parameter against its gradient's sign."""
    upstream_elp.register()
    from s3prl.optimizers import get_optimizer

    layer = torch.nn.Linear(3, 2)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    optimizer = get_optimizer([layer], 10, {"name": name, "lr": 1e-2, "warmup_proportion": 0.5})
    for _ in range(2):
        layer(torch.ones(4, 3)).sum().backward()
        optimizer.step()
    assert all((old > new).all() for old, new in zip(before, layer.parameters(), strict=True))


def test_isinstance_stays_the_builtin():
    upstream_elp.register()
    from s3prl.utility import helper

    helper.hack_isinstance()
    assert isinstance(defaultdict(list), dict)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("5", 5),
        ("True", True),
        ("true", True),
        ("null", None),
        ("None", None),
        ("'AdamW'", "AdamW"),
        ("hash", "hash"),
        ("['dev', 'test']", ["dev", "test"]),
        ("[dev, test]", ["dev", "test"]),
        ("{lr: 1}", {"lr": 1}),
        ("/a=b/c", "/a=b/c"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
        ("-l", "-l"),
    ],
)
def test_override_values_are_literals(text, value):
    assert literal(text) == value


def test_override_sets_arguments_and_nested_keys():
    args, config = argparse.Namespace(expdir="a", seed=1), {"runner": {"total_steps": 1}}
    override("args.expdir=x=y ,, config.runner.total_steps=7,,config.a.b.c=[1, 2],,", args, config)
    assert args.expdir == "x=y"
    assert config == {"runner": {"total_steps": 7}, "a": {"b": {"c": [1, 2]}}}


@pytest.mark.parametrize("folder", ["exp/[12]", "[12]", "{a,b}", "2024", "1e3", "007", "None!", "(a)", "a=b", "true"])
def test_a_folder_in_an_override_is_what_it_is_called(folder):
    args = argparse.Namespace(expdir="a", upstream_ckpt="b", upstream_layer_selection=None)
    override(f"args.upstream_layer_selection=3,,args.expdir={folder},,args.upstream_ckpt=None", args, {})
    assert vars(args) == {"expdir": folder, "upstream_ckpt": None, "upstream_layer_selection": 3}


def test_quotes_keep_what_separates_assignments():
    args, config = argparse.Namespace(expdir="a"), {}
    override("args.expdir='x,,y=1',,config.a=\"p,,q\",,config.b={c: 'r,,s'},,config.d=it's,,config.e=1", args, config)
    assert args.expdir == "x,,y=1"
    assert config == {"a": "p,,q", "b": {"c": "r,,s"}, "d": "it's", "e": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config.runner", "is not an assignment"),
        ("args.expdir=x,,y", "'y' is not an assignment; .*values that contain ,, in quotes"),
        ("config.a={b: [1, -.5]}", r"config\.a\.b\[1\] is -\.5, which YAML reads as text; write -0\.5"),
        ("runner.total_steps=1", "is not an assignment"),
        ("args=1", "is not an assignment"),
        ("args.expdri=1", "did you mean expdir"),
        ("config.runner.total_steps.x=1", r"config\.runner\.total_steps is a value"),
        ("config.a=[1", "check its brackets and quotes"),
    ],
)
def test_override_refuses(text, message):
    with pytest.raises(ElpError, match=message):
        override(text, argparse.Namespace(expdir="a"), {"runner": {"total_steps": 1}})


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_16"), ("wav", "FLOAT"), ("wav", "PCM_24")]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_load_gives_soundfiles_samples(tmp_path, suffix, subtype, channels):
    path = tmp_path / f"a.{suffix}"
    samples = np.random.default_rng(0).uniform(-1, 1, (700, channels))
    soundfile.write(path, samples, 16000, subtype=subtype)
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    wav, rate = sound.load(path)
    assert rate == 16000
    assert wav.dtype == torch.float32
    assert wav.is_contiguous()
    assert np.array_equal(wav.numpy(), expected)
    assert np.array_equal(sound.load(str(path), 100, 50)[0].numpy(), expected[:, 100:150])
    assert sound.load(path, 900)[0].shape == (channels, 0)
    assert np.array_equal(sound.load(path, channels_first=False)[0].numpy(), expected.T)
    with path.open("rb") as file:
        assert np.array_equal(sound.load(file, format=suffix)[0].numpy(), expected)
    about = sound.info(path)
    assert (about.sample_rate, about.num_frames, about.num_channels) == (16000, 700, channels)


def test_load_without_normalizing_gives_the_stored_integers(tmp_path):
    stored = np.array([0, 1, -2, 32767], dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", stored, 16000)
    assert torch.equal(sound.load(tmp_path / "a.wav", normalize=False)[0], torch.from_numpy(stored)[None])


@pytest.mark.parametrize("content", [None, b"", b"no audio"])
def test_unreadable_audio_is_one_sentence(tmp_path, content):
    path = tmp_path / "a.flac"
    if content is not None:
        path.write_bytes(content)
    for read in (sound.load, sound.info):
        with pytest.raises(ElpError, match=r"cannot read audio file .*a\.flac"):
            read(path)


FEATURES = {
    "hidden_states": [torch.zeros(1, 2, 3)] * 4,
    "last_hidden_state": torch.zeros(1, 2, 3),
    "_hidden_states_info": (),
    **{f"hidden_state_{layer}": torch.zeros(1, 2, 3) for layer in range(4)},
}


@pytest.mark.parametrize(
    ("key", "layer"), [("hidden_states", None), ("hidden_states", 3), ("hidden_states", -4), ("hidden_state_2", None)]
)
def test_valid_selections(key, layer):
    features.check_selection(FEATURES, key, layer)


@pytest.mark.parametrize(
    ("key", "layer", "message"),
    [
        ("hidden_stat", None, "did you mean hidden_states.*hidden_state_0 … hidden_state_3"),
        ("x", None, "it has: hidden_states, last_hidden_state, hidden_state_0 … hidden_state_3"),
        ("hidden_states", 4, "has 4 layers; choose 0 to 3"),
        ("hidden_states", -5, "has 4 layers"),
        ("last_hidden_state", 1, "single feature"),
    ],
)
def test_wrong_selections(key, layer, message):
    with pytest.raises(ElpError, match=message):
        features.check_selection(FEATURES, key, layer)


def test_the_cache_of_lengths_follows_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "a.wav").write_bytes(b"12")
    first = mend.length_cache(one, "Voxceleb1")
    assert first == mend.length_cache(f"{one}/../one", "Voxceleb1")
    assert first != mend.length_cache(two, "Voxceleb1")
    (one / "a.wav").write_bytes(b"123")
    assert first != mend.length_cache(one, "Voxceleb1")
    with pytest.raises(ElpError, match="no such VoxCeleb1 folder"):
        mend.length_cache(tmp_path / "none", "Voxceleb1")


def test_the_cache_of_lengths_is_where_all_tables_are(tmp_path, monkeypatch):
    from downstream_heads.common import files

    monkeypatch.delenv("ELP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert mend.length_cache(tmp_path, "x").parent == files.cache_dir() / "sv_lengths"
    assert files.cache_dir() == tmp_path / "xdg" / "s3prl-elp"


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "states-1.ckpt"
    mend.save_atomically({"a": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        mend.save_atomically({"a": threading.Lock()}, path)
    assert torch.load(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["states-1.ckpt"]


def test_removed_hub_names_tell_what_to_do():
    from upstream_elp.host.stack import RemovedFromHub

    with pytest.raises(ElpError, match=r"install huggingface_hub 0\.36"):
        RemovedFromHub("x")


def test_records_reach_the_head_of_every_rank_uncopied(monkeypatch):
    """With device_ids, torch would copy a GPU rank's arguments, which fails for a defaultdict with entries."""
    wrapped = {}
    monkeypatch.setattr(mend, "DistributedDataParallel", lambda model, **options: wrapped.update(options))
    mend.distributed(torch.nn.Linear(1, 1), device_ids=[0], find_unused_parameters=True)
    assert wrapped == {"device_ids": None, "find_unused_parameters": True, "broadcast_buffers": False}
