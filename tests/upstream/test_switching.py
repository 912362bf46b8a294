"""Several adapters on one backbone: in any order of switching, the outputs are bit-equal to those of a fresh load."""

import copy
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

import upstream_elp
from tests.experts import (
    CONFIGS,
    add_noise,
    backbone_path,
    equal,
    make_expert,
    states_of,
    stock_expert,
    waves,
)
from tests.toys import LAW_BACKBONES, tiny_backbone
from upstream_elp.adapters.cnn import CNN
from upstream_elp.adapters.encoder import Encoder
from upstream_elp.backbones.fingerprint import fingerprint
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of
from upstream_elp.mini.backbone import write_backbone
from upstream_elp.mini.sizes import size_options
from upstream_elp.upstream import build, sharing
from upstream_elp.upstream import expert as expert_module
from upstream_elp.upstream.adapter_folder import CONFIG_FILE, TENSOR_FILE, AdapterFolder, write_adapter_folder
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.switching import AdapterSwitch
from upstream_elp.upstream.transfer import adapter_folder_of, load_adapter

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
WAVS = waves(2900, 4000)
#: what the issue asks for: ASR with trained layer norms, ER with LoRA
TASKS = {"asr": "le", "er": "lora_qv8"}
#: one configuration per way of changing a backbone: sites, classes, hooks, taps, parametrizations, attributes, in place
KINDS = ["elp-cnn", "lora-everywhere", "prefixes-together", "adapterbias", "bitfit", "chapter", "full_finetune_all"]


def _raw(config):
    return CONFIGS.get(config, {"base": config})


@cache
def _content(backbone: str, config: str) -> AdapterFolder:
    return adapter_folder_of(make_expert(backbone, _raw(config), noise=0.1, seed=len(config)))


def _load(backbone: str, config: str) -> ElpExpert:
    """A fresh load, as `build_upstream` makes it."""
    content = _content(backbone, config)
    expert = ElpExpert(stock_expert(backbone), content.config, check=False)
    load_adapter(expert, content, where=config)
    return expert.eval()


@cache
def _fresh(backbone: str, config: str | None) -> tuple[dict[str, list[torch.Tensor]], list]:
    """The states of a fresh load (for None, of the stock expert), and the skeleton of its backbone."""
    if config is None:
        stock = stock_expert(backbone)
        states = states_of(stock, WAVS)
        result = {f"hidden_state_{index}": state for index, state in enumerate(states)}
        result |= {"hidden_states": states, "backbone_hidden_states": states, "last_hidden_state": states[-1]}
        return result, _skeleton(stock)
    expert = _load(backbone, config)
    with torch.no_grad():
        return expert(WAVS), _skeleton(expert.backbone)


def _skeleton(module: nn.Module) -> list:
    """Modules with their classes, numbers of hooks and plain values, and tensors, in order."""

    def bones(part):
        values = {key: value for key, value in vars(part).items() if isinstance(value, bool | int | float)}
        return type(part).__qualname__, len(part._forward_hooks), len(part._forward_pre_hooks), values

    modules = [(name, *bones(part)) for name, part in module.named_modules()]
    return [*modules, *(name for name, _ in module.named_parameters())]


def _same(switch: nn.Module, backbone: str, config: str | None) -> bool:
    ours, fresh = switch(WAVS), _fresh(backbone, config)[0]
    assert ours.keys() == fresh.keys()
    return all(equal(list(ours[key]), list(fresh[key])) for key in ours)


def _folder(tmp_path, config, backbone="wavlm-base"):
    return write_adapter_folder(tmp_path / config, _content(backbone, config))


@pytest.fixture
def folders(tmp_path):
    return {name: _folder(tmp_path, config) for name, config in TASKS.items()}


@pytest.fixture
def switch(folders):
    return upstream_elp.load_adapters(folders, backbone=tiny_backbone())


@cache
def _switch(backbone: str, *configs: str) -> AdapterSwitch:
    """A switch with these adapters, named like their configurations; tests that share it must not change it."""
    switch = AdapterSwitch(stock_expert(backbone), check=False)
    for config in configs:
        switch._add(config, _content(backbone, config), where=config)
    return switch


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_switched_is_freshly_loaded(config, backbone, law):
    law("switched == freshly loaded, off == plain backbone, bitwise")
    switch = _switch(backbone, *TASKS.values())
    switch._add("this", _content(backbone, config), where=config)
    for name, which in (("this", config), ("le", "le"), ("this", config), ("lora_qv8", "lora_qv8"), (None, None)):
        assert switch.use(name) is switch and switch.active == name
        assert _same(switch, backbone, which), name
        assert _skeleton(switch.backbone) == _fresh(backbone, which)[1], name
    switch.remove("this")
    assert fingerprint(switch.backbone) == switch.fingerprint  # names, shapes and bytes


USES = st.tuples(st.just("use"), st.sampled_from([None, *KINDS]))
STEPS = st.one_of(USES, USES, st.tuples(st.just("renew"), st.sampled_from(KINDS)), st.just(("copy", None)))


@pytest.mark.parametrize("backbone", ["wavlm-base", "hubert-large", "data2vec-base", "hf_wavlm-large"])
@settings(max_examples=8, deadline=None)
@given(steps=st.lists(STEPS, min_size=2, max_size=8))
def test_any_sequence_ends_at_a_fresh_load(backbone, steps):
    switch = _switch(backbone, *KINDS)
    switch.use(None)
    for step, name in steps:
        if step == "use":
            switch.use(name)
        elif step == "copy":
            switch = copy.deepcopy(switch)
        elif name != switch.active:
            switch.remove(name)
            switch._add(name, _content(backbone, name), where=name)
        assert _same(switch, backbone, switch.active)
    for name in switch.names:
        assert _same(switch.use(name), backbone, name), (steps, name)
    assert _same(switch.use(None), backbone, None)


# the example of docs/using.md
EXAMPLE = """
import upstream_elp

model = upstream_elp.load_adapters({"asr": "adapters/asr", "er": "adapters/er"}, backbone="wavlm_base_plus.pt")
transcribe = model(wavs)["hidden_states"]             # the first adapter is active
feel = model.use("er")(wavs)["hidden_states"]
plain = model.use(None)(wavs)["hidden_states"]        # all states of the plain backbone
print(model.memory())                                 # bytes: {"backbone": ..., "asr": ..., "er": ...}
"""


def test_the_example_of_the_docs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "using.md").read_text(encoding="utf-8")
    assert all(line in page for line in EXAMPLE.splitlines())
    monkeypatch.chdir(tmp_path)
    for name, config in TASKS.items():
        write_adapter_folder(tmp_path / "adapters" / name, _content("wavlm-base", config))
    (tmp_path / "wavlm_base_plus.pt").symlink_to(tiny_backbone())
    names = {"wavs": WAVS}
    exec(EXAMPLE, names)
    for name, config in (("transcribe", "le"), ("feel", "lora_qv8"), ("plain", None)):
        assert equal(names[name], _fresh("wavlm-base", config)[0]["hidden_states"])
    assert "'er': " in capsys.readouterr().out


@pytest.mark.parametrize("backbone", ["hf_hubert-base", "unispeech_sat-large"])
def test_other_formats_and_families(backbone, tmp_path):
    place = {name: _folder(tmp_path, config, backbone) for name, config in TASKS.items()}
    switch = upstream_elp.load_adapters(place, backbone=backbone_path(backbone))
    assert switch.active == "asr"
    for name, config in {**TASKS, None: None}.items():
        assert _same(switch.use(name), backbone, config)


def test_memory_is_one_backbone_and_the_adapters(switch):
    def bytes_of(tensors):
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    contents = {name: bytes_of(_content("wavlm-base", config).tensors.values()) for name, config in TASKS.items()}
    stock = stock_expert()
    expected = {"backbone": bytes_of([*stock.parameters(), *stock.buffers()]), **contents}
    assert switch.memory() == expected
    for name in (None, "asr", "er"):
        switch.use(name)
        held = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in [*switch.parameters(), *switch.buffers()]}
        assert sum(storage.nbytes() for storage in held.values()) == sum(expected.values())
    before = switch.memory()["backbone"]
    switch.use(None).remove("asr")
    assert switch.memory() == {"backbone": before, "er": contents["er"]}
    assert bytes_of(switch.parameters()) == before + contents["er"]


@pytest.mark.parametrize("config", ["full_finetune_all", "topk_finetune"])
def test_fine_tuned_in_place_costs_what_it_trains(config, tmp_path):
    switch = AdapterSwitch(stock_expert())
    switch.add("tuned", _folder(tmp_path, config))
    assert switch.memory()["tuned"] == 4 * sum(t.numel() for t in _content("wavlm-base", config).tensors.values())


def test_switching_reads_and_builds_nothing(switch, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    where = {name: tensor.data_ptr() for name, tensor in switch.use(None).backbone.named_parameters()}
    state = torch.get_rng_state()
    for owner, name in ((torch, "load"), (safetensors.torch, "load_file"), (nn.Module, "__init__")):
        monkeypatch.setattr(owner, name, never)
    monkeypatch.setattr(torch.Tensor, "clone", never)
    monkeypatch.setattr(torch.Tensor, "copy_", never)
    for name in ("er", "asr", None):
        switch.use(name)
    monkeypatch.undo()
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: tensor.data_ptr() for name, tensor in switch.backbone.named_parameters()} == where


def test_the_backbone_is_hashed_and_each_adapter_checked_once(folders, monkeypatch):
    checked, hashed = [], []
    monkeypatch.setattr(expert_module, "fingerprint", lambda backbone: hashed.append(1) or fingerprint(backbone))
    monkeypatch.setattr(sharing, "self_check", lambda expert, _: checked.append(expert.config.name))
    switch = upstream_elp.load_adapters(folders, backbone=tiny_backbone())
    switch.use("er").use("asr").use(None)
    assert checked == ["custom", "custom"] and hashed == [1]
    monkeypatch.setenv("ELP_SELF_CHECK", "0")
    upstream_elp.load_adapters(folders, backbone=tiny_backbone())
    assert len(checked) == 2


def test_names_and_configurations(switch, tmp_path):
    assert switch.names == ("asr", "er") and switch.active == "asr"
    assert {name: config.features for name, config in switch.configs.items()} == {"asr": "l", "er": "layers"}
    assert switch.fingerprint == _content("wavlm-base", "le").fingerprint
    assert switch.get_downsample_rates("hidden_states") == 320
    switch.add("ic", _folder(tmp_path, "houlsby32"))
    assert switch.active == "asr" and _same(switch, "wavlm-base", "le")
    assert "active='asr'" in repr(switch)


def test_s3prls_featurizer_takes_it(switch):
    from s3prl.upstream.interfaces import Featurizer

    for name, layers in (("asr", 3), ("er", 4), (None, 4)):
        featurizer = Featurizer(switch.use(name), upstream_device="cpu")
        assert featurizer.layer_num == layers and featurizer.downsample_rate == 320


WRONG = {
    "unknown": (lambda s, f: s.use("sv"), r"there is no adapter 'sv'; the adapters are: asr, er \(and None"),
    "unknown, removed": (lambda s, f: s.remove("sv"), "there is no adapter 'sv'; the adapters are: asr, er"),
    "in use": (lambda s, f: s.remove("asr"), "the adapter 'asr' is active"),
    "taken": (lambda s, f: s.add("er", f), "there already is an adapter 'er'"),
    "empty name": (lambda s, f: s.add("", f), "must be a string that is not empty, but is ''"),
    "no name": (lambda s, f: s.add(None, f), "must be a string that is not empty, but is None"),
    "no folder": (lambda s, f: s.add("sv", f / "nothing"), "there is no adapter folder at .*nothing"),
    "one wave": (lambda s, f: s(torch.zeros(4000)), r"must be a list of waves.*, but is a tensor of shape \(4000,\)"),
    "a path": (lambda s, f: s("a.wav"), "must be a list of waves.*, but is a str"),
    "training": (lambda s, f: s.requires_grad_(), "are for inference"),
    "a checkpoint of others": (lambda s, f: s.load_state_dict({"x": torch.ones(1)}), "contains x"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_change_nothing(case, switch, folders):
    do, message = WRONG[case]
    with pytest.raises(ElpError, match=message):
        do(switch, folders["asr"])
    assert switch.names == ("asr", "er") and switch.active == "asr"
    assert _same(switch, "wavlm-base", "le")


def _another_backbone(folder, monkeypatch):
    write_adapter_folder(folder, _content("hubert-base", "le"))


def _deeper_backbone(folder, monkeypatch):
    """It is refused by its fingerprint and not by its layers."""
    deep = make_expert("wavlm-base", {"features": "last", "e_adapter": {"layers": [4]}}, layers=5)
    write_adapter_folder(folder, adapter_folder_of(deep))


def _tampered(folder, monkeypatch):
    write_adapter_folder(folder, _content("wavlm-base", "full_finetune_all"))
    tensors = load_file(folder / TENSOR_FILE)
    save_file({**tensors, min(tensors): torch.zeros(1)}, folder / TENSOR_FILE)
    config = yaml.safe_load((folder / CONFIG_FILE).read_text())
    config["tensors_sha256"] = sha256_of(folder / TENSOR_FILE)
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(config))


def _half_injected(folder, monkeypatch):
    write_adapter_folder(folder, _content("wavlm-base", "chapter"))  # houlsby goes in before cnn
    original = CNN.inject

    def fail(method, target):
        original(method, target)
        raise ElpError("in the middle")

    monkeypatch.setattr(CNN, "inject", fail)


def _unchecked(folder, monkeypatch):
    write_adapter_folder(folder, _content("wavlm-base", "full_finetune_all"))
    monkeypatch.setattr(Encoder, "inject", _declares_nothing_reached)


def _declares_nothing_reached(method, target):
    target.declare("encoder", "mask", f"{target.injection.model_path}.mask_emb")


FAILURES = {
    _another_backbone: "was trained on another backbone",
    _deeper_backbone: "was trained on another backbone",
    _tampered: "has the shape",
    _half_injected: "in the middle",
    _unchecked: "self-check: the tensor encoder.mask receives no gradient",
}


@pytest.mark.parametrize("fail", FAILURES)
@pytest.mark.parametrize("active", ["asr", None])
def test_nothing_is_half_loaded(fail, active, switch, tmp_path, monkeypatch):
    switch.use(active)
    before = _skeleton(switch), switch.memory()
    fail(tmp_path / "new", monkeypatch)
    with pytest.raises(ElpError, match=FAILURES[fail]):
        switch.add("new", tmp_path / "new")
    assert (_skeleton(switch), switch.memory()) == before
    assert switch.active == active and not any(p.requires_grad for p in switch.parameters())
    for name, config in {None: None, **TASKS}.items():
        assert _same(switch.use(name), "wavlm-base", config)


def test_the_backbone_has_to_be_named(folders, tmp_path, monkeypatch):
    monkeypatch.delenv(build.BACKBONE_VARIABLE, raising=False)
    for given_folders in (folders, {}):
        with pytest.raises(ElpError, match="do not record which backbone they belong to"):
            upstream_elp.load_adapters(given_folders)
    with pytest.raises(ElpError, match="is an adapter folder; pass the checkpoint"):
        upstream_elp.load_adapters(folders, backbone=folders["asr"])
    with pytest.raises(ElpError, match="there is no backbone checkpoint"):
        upstream_elp.load_adapters(folders, backbone=tmp_path / "nothing.pt")
    with pytest.raises(ElpError, match=r"a mapping of names to adapter folders, such as .*, but not \["):
        upstream_elp.load_adapters([folders["asr"]])
    with pytest.raises(ElpError, match="there is no adapter folder at"):
        upstream_elp.load_adapters({"asr": tmp_path}, backbone=tiny_backbone())
    with pytest.raises(ElpError, match="trained on a wavlm backbone, but hubert_base is a hubert"):
        upstream_elp.load_adapters(folders, backbone="elp_hubert_base")
    assert upstream_elp.load_adapters({}, backbone=tiny_backbone()).active is None
    monkeypatch.setenv(build.BACKBONE_VARIABLE, str(tiny_backbone()))
    assert upstream_elp.load_adapters(folders).names == ("asr", "er")


@pytest.mark.parametrize("how", ["argument", "recorded"])
def test_a_hub_name_is_looked_up(how, tmp_path, monkeypatch):
    monkeypatch.delenv(build.BACKBONE_VARIABLE, raising=False)
    upstream_elp.register()
    from s3prl import hub

    monkeypatch.setattr(hub, "wavlm_base_plus", lambda refresh: stock_expert(), raising=False)
    content = _content("wavlm-base", "le")
    recorded = "wavlm_base_plus" if how == "recorded" else None
    write_adapter_folder(tmp_path / "a", AdapterFolder(**{**vars(content), "backbone": recorded}))
    given_name = {"backbone": "wavlm_base_plus"} if how == "argument" else {}
    assert _same(upstream_elp.load_adapters({"asr": tmp_path / "a"}, **given_name), "wavlm-base", "le")


def test_it_stays_frozen_and_in_eval_mode(switch):
    around = nn.Sequential(switch, nn.Linear(32, 2)).train()
    assert not any(module.training for module in switch.modules())
    assert around[1].training
    assert not any(state.requires_grad for state in switch(WAVS)["hidden_states"])
    assert not any(parameter.requires_grad for parameter in switch.parameters())
    assert _same(switch, "wavlm-base", "le") and switch.requires_grad_(False) is switch


def test_checkpoints_around_it_hold_the_rest(switch):
    model = nn.ModuleDict({"upstream": switch, "head": nn.Linear(2, 2)})
    assert set(model.state_dict()) == {"head.weight", "head.bias"} and not switch.state_dict()
    other = copy.deepcopy(model)
    nn.init.zeros_(other["head"].weight)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other["head"].weight, model["head"].weight)
    switch.load_state_dict({})
    assert not other["upstream"].state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict({"head.weight": torch.ones(2, 2)})


def test_a_deep_copy_is_independent(switch):
    switch(WAVS)
    clone = copy.deepcopy(switch)
    assert clone.active == "asr" and switch.active == "asr"
    own = {id(part) for part in [*switch.parameters(), *switch.modules()]}
    assert not own & {id(part) for part in [*clone.parameters(), *clone.modules()]}
    clone.use("er")
    assert _same(switch, "wavlm-base", "le") and switch.backbone._hook_hiddens == []
    with torch.no_grad():
        for parameter in clone.parameters():
            parameter.zero_()
    for name, config in TASKS.items():
        assert _same(switch.use(name), "wavlm-base", config)


def test_a_backbone_that_was_trained_before_can_be_copied():
    """Its positional convolution then has a computed weight with a graph."""
    stock = stock_expert().requires_grad_(True)
    stock(WAVS)
    assert _same(copy.deepcopy(AdapterSwitch(stock, check=False)), "wavlm-base", None)


def test_another_precision_is_reported_once(tmp_path, caplog):
    stock = stock_expert()
    for tensor in stock.parameters():
        tensor.data = tensor.data.half().float()
    AdapterSwitch(stock).add("asr", _folder(tmp_path, "le"))
    assert caplog.text.count("this backbone in another precision") == 1


@pytest.mark.large
@pytest.mark.parametrize("tasks", [TASKS, {"asr": "elp", "er": "full_finetune"}])
def test_base_size(tasks, tmp_path):
    path = write_backbone(tmp_path / "base.pt", family="wavlm", **size_options("base", "wavlm"))
    for name, config in tasks.items():
        expert = build.build_upstream(None, ckpt=path, model_config=config)
        add_noise(expert, 0.01)
        write_adapter_folder(tmp_path / name, adapter_folder_of(expert))
    switch = upstream_elp.load_adapters({name: tmp_path / name for name in tasks}, backbone=path)
    wavs = waves(16000, 23456)
    for name in (*tasks, None, *reversed(tasks)):
        where = {"ckpt": path, "model_config": "weighted_sum"} if name is None else {"ckpt": tmp_path / name}
        fresh = build.build_upstream(None, **where, backbone=None if name is None else path).eval()
        assert equal(states_of(switch.use(name), wavs), states_of(fresh, wavs))


@pytest.mark.parametrize("config", ["le", "lora_qv8", "full_finetune_all", "chapter"])
def test_converted_is_the_fresh_load_converted(config, tmp_path):
    """This includes inactive adapters, and tensors that a fine-tuned copy replaces."""
    names = {"tuned": "topk_finetune", config: config}
    switch = AdapterSwitch(stock_expert())
    for name, which in names.items():
        switch.add(name, _folder(tmp_path, which))
    switch.use("tuned").double()
    assert {tensor.dtype for tensor in [*switch.parameters(), *switch.buffers()]} == {torch.float64}
    wavs = waves(2900, 4000, dtype=torch.float64)
    for name, which in names.items():
        assert equal(states_of(switch.use(name), wavs), states_of(_load("wavlm-base", which).double(), wavs))
    assert equal(states_of(switch.use(None), wavs), states_of(stock_expert().double(), wavs))
    assert {tensor.dtype for tensor in switch.backbone.parameters()} == {torch.float64}
    with pytest.raises(ElpError, match="add adapters before that, while it is"):
        switch.add("late", tmp_path / config)


@pytest.mark.gpu
def test_moved_is_the_fresh_load_moved(folders):
    switch = upstream_elp.load_adapters({"asr": folders["asr"]}, backbone=tiny_backbone()).cuda()
    switch.add("er", folders["er"])
    wavs = [wav.cuda() for wav in WAVS]
    for name, config in TASKS.items():
        assert equal(states_of(switch.use(name), wavs), states_of(_load("wavlm-base", config).cuda(), wavs))
    assert equal(states_of(switch.use(None), wavs), states_of(stock_expert().cuda(), wavs))
