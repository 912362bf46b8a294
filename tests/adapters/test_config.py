"""The configuration is strict, presets are differences, and selections and sizes resolve as documented."""

import dataclasses

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.experts import CONFIGS
from upstream_elp.adapters.adapter_bias import AdapterBias
from upstream_elp.adapters.bias import Biases
from upstream_elp.adapters.config import AdapterConfig, load_config, parse_config, preset_names, recipes_dir
from upstream_elp.adapters.e_adapter import EAdapter
from upstream_elp.adapters.encoder import Encoder
from upstream_elp.adapters.houlsby import Houlsby
from upstream_elp.adapters.l_adapter import LAdapter
from upstream_elp.adapters.layer_norm import LayerNorms
from upstream_elp.adapters.lora import LoRA
from upstream_elp.adapters.p_adapter import PAdapter
from upstream_elp.adapters.selection import resolve_layers, resolve_size, resolve_sizes
from upstream_elp.backbones.architecture import architecture
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.counting import count_parameters


def test_the_presets_are_the_papers_methods():
    """What rows of arXiv 2212.02780, 2202.03218, 2210.06175 and 2401.02122 adapt, train and show the head."""
    norms = LayerNorms(layers="all", norms=["attention", "ffn"])
    l_all, e_all = LAdapter(), EAdapter()
    expected = {
        "le": ("l", {"e_adapter": dataclasses.replace(e_all, layers=":-1"), "l_adapter": l_all, "layer_norm": norms}),
        "l_only": ("l", {"l_adapter": l_all, "layer_norm": norms}),
        "l_plain": ("l", {"l_adapter": l_all}),
        "e_only": ("last", {"e_adapter": e_all, "layer_norm": norms}),
        "conventional": (
            "last",
            {"e_adapter": dataclasses.replace(e_all, sites=["attention", "ffn"]), "layer_norm": norms},
        ),
        "weighted_sum": ("layers", {}),
        "full_finetune": ("last", {"encoder": Encoder()}),
    }
    houlsby = Houlsby(sites=["ffn"], bottleneck=32, activation="gelu", init="reference")
    expected |= {
        "houlsby32": ("layers", {"houlsby": houlsby}),
        "adapterbias": ("layers", {"adapter_bias": AdapterBias(input="hidden")}),
        "adapterbias_paper": ("layers", {"adapter_bias": AdapterBias(input="output")}),
        "lora_qk8": ("layers", {"lora": LoRA(targets=["q", "k"], rank=8, alpha=1.0)}),
        "lora_qv8": ("layers", {"lora": LoRA(targets=["q", "v"], rank=8, alpha=1.0)}),
        "bitfit": ("layers", {"bias": Biases()}),
        "layernorm": ("layers", {"layer_norm": norms}),
        "full_finetune_nocnn": ("last", {"encoder": Encoder(scope="no_cnn")}),
        "full_finetune_all": ("last", {"encoder": Encoder(scope="all")}),
        "topk_finetune": ("last", {"encoder": Encoder(layers="top:2/3", scope="no_cnn")}),
        "ep": ("last", {"e_adapter": e_all, "p_adapter": PAdapter(length=10), "layer_norm": norms}),
        "lp": ("l", {"l_adapter": l_all, "p_adapter": PAdapter(length=10), "layer_norm": norms}),
        "p_only": ("last", {"p_adapter": PAdapter(length=10), "layer_norm": norms}),
    }
    expected["elp"] = ("l", {**expected["le"][1], "p_adapter": PAdapter(length=10)})
    assert set(expected) <= set(preset_names())
    for name, (features, methods) in expected.items():
        config = load_config(name)
        assert (config.name, config.features, config.methods) == (name, features, methods)
        assert config.backbone_dropout is False and config.description and config.source
        assert config.trains_backbone is (name != "weighted_sum")
    assert load_config() == load_config("elp")


@pytest.mark.parametrize("name", preset_names())
def test_presets_of_a_base_state_only_what_differs(name):
    raw = yaml.safe_load((recipes_dir() / "adapters" / f"{name}.yaml").read_text())
    if "base" not in raw:
        return
    without = {key: value for key, value in raw.items() if key not in ("description", "source")}
    for key in without.keys() - {"base"}:
        fewer = {k: v for k, v in without.items() if k != key}
        try:
            reduced = load_config(fewer)
        except ElpError:
            continue
        full = load_config(without)
        assert (reduced.features, reduced.methods) != (full.features, full.methods), f"{name}: {key} changes nothing"


@pytest.mark.parametrize("config", CONFIGS)
def test_to_dict_reads_back(config, tmp_path):
    loaded = load_config(CONFIGS[config])
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(loaded.to_dict()))
    assert load_config(file) == loaded == load_config(loaded.to_dict())


def test_base_takes_single_options_and_null_removes_a_method(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("base: elp\np_adapter: {length: 3}\ne_adapter: null\n")
    config = load_config(str(file))
    assert config.name == "mine" and "e_adapter" not in config.methods
    assert config.methods["p_adapter"] == PAdapter(length=3, position="end", site="projected")
    assert config.description == "" and config.source == ""  # the base's words do not describe this
    again = load_config({"base": "e_only", "l_adapter": {}, "features": "l"})
    assert again.methods["l_adapter"] == LAdapter()  # what a base removed may come back


def test_order_of_keys_does_not_matter():
    methods = [{"l_adapter": {}, "e_adapter": {}}, {"e_adapter": {}, "l_adapter": {}}]
    first, second = (load_config({"features": "l", **m}) for m in methods)
    assert list(first.methods) == list(second.methods) == ["e_adapter", "l_adapter"]


BAD = [
    ({"base": "elp", "adapters": {}}, r"unknown key 'adapters' \(did you mean .*; the valid keys are: .*e_adapter"),
    ({"base": "elp", "e_adaptr": {}}, r"unknown key 'e_adaptr' \(did you mean e_adapter\?\); the valid keys are"),
    ({"base": "elp", "e_adapter": {"layer": 3}}, r"unknown key 'layer' \(did you mean layers\?\)"),
    ({"base": "lee"}, r"unknown base 'lee' \(did you mean le\?\); the presets are"),
    ({"base": "elp", "methods": {}}, "unknown key 'methods'"),
    ({"base": "elp", "e_adapter": {"size": 3}}, r"e_adapter: unknown key 'size' .*the valid keys are: layers, sites"),
    ({"base": "nope"}, "unknown base 'nope'; the presets are: .*elp"),
    ({"base": ["elp"]}, "unknown base"),
    ({"e_adapter": {}}, "the key 'features' is missing; set it to one of l, layers, last"),
    ({"features": "all"}, "features must be one of l, layers, last, but is 'all'"),
    ({"features": "last", "e_adapter": []}, "e_adapter must be a mapping of options, .* but is"),
    ({"features": "last", "e_adapter": True}, "must be a mapping"),
    ({"features": "last", "e_adapter": {"activation": "silu"}}, "e_adapter.activation must be one of gelu, relu"),
    ({"features": "last", "e_adapter": {"sites": []}}, "sites must be a list that is not empty"),
    ({"features": "last", "e_adapter": {"sites": "ffn"}}, "sites must be a list"),
    ({"features": "last", "e_adapter": {"sites": ["cnn"]}}, "sites must be one of attention, ffn"),
    ({"features": "last", "e_adapter": {"sites": ["ffn", "ffn"]}}, "sites names ffn twice"),
    (
        {"features": "last", "e_adapter": {"bottleneck": 1.5}},
        "e_adapter.bottleneck must be of type str or int or mapping, but is 1.5",
    ),
    (
        {"features": "last", "e_adapter": {"bottleneck": True}},
        "bottleneck must be of type str or int or mapping, but is True",
    ),
    ({"features": "last", "e_adapter": {"layers": None}}, "layers must be of type str or int or list, but is None"),
    ({"features": "last", "e_adapter": {"layers": [1.0]}}, "layers must be of type int, but is 1.0"),
    ({"features": "last", "e_adapter": {"layers": [1, 0, 1]}}, "e_adapter.layers names 1 twice"),
    ({"features": "last", "layer_norm": {"norms": ["final"]}}, "norms must be one of attention, ffn"),
    ({"features": "layers", "p_adapter": {"length": 0}}, "p_adapter.length must be at least 1, but is 0"),
    ({"features": "layers", "p_adapter": {"length": "10"}}, "p_adapter.length must be of type int"),
    ({"features": "layers", "p_adapter": {"length": True}}, "p_adapter.length must be of type int"),
    ({"features": "layers", "p_adapter": {"init_std": -1}}, "init_std must be finite and not negative"),
    ({"features": "layers", "p_adapter": {"init_std": float("nan")}}, "init_std must be finite"),
    ({"features": "layers", "p_adapter": {"position": "middle"}}, "position must be one of end, start"),
    ({"base": "elp", "backbone_dropout": "yes"}, "backbone_dropout must be of type bool"),
    ({"base": "elp", "backbone_dropout": 1}, "backbone_dropout must be of type bool"),
    ({"base": "elp", "name": 3}, "name must be of type str"),
    ({"features": "last", "l_adapter": {}}, "'features: l' and the method l_adapter need each other"),
    ({"features": "l", "e_adapter": {}}, "'features: l' and the method l_adapter need each other"),
    ({"features": "last", "encoder": {}, "layer_norm": {}}, "encoder and layer_norm cannot be combined"),
    ({"features": "last", "bias": {}, "layer_norm": {}}, "bias and layer_norm cannot be combined: both train"),
    ({"base": "full_finetune", "bias": {}}, "encoder and bias cannot be combined: encoder already trains"),
    ({"base": "full_finetune", "lora": {}}, "encoder and lora cannot be combined: encoder already trains"),
    ({"base": "full_finetune", "encoder": {"scope": "cnn"}}, "encoder.scope must be one of layers, no_cnn, all"),
    ({"features": "last", "lora": {"rank": 0}}, "lora.rank must be at least 1, but is 0"),
    ({"features": "last", "lora": {"rank": "1/3"}}, "lora.rank must be of type int or mapping, but is '1/3'"),
    ({"features": "last", "e_adapter": {"bottleneck": 0}}, "e_adapter.bottleneck: the size must be positive, but is 0"),
    ({"features": "last", "parallel": {"bottleneck": -8}}, "parallel.bottleneck: the size must be positive, but is -8"),
    ({"features": "last", "houlsby": {"bottleneck": "wide"}}, "houlsby.bottleneck: cannot read the size 'wide'"),
    ({"features": "last", "lora": {"alpha": 0}}, "lora.alpha must be finite and positive, but is 0"),
    ({"features": "last", "lora": {"alpha": float("inf")}}, "lora.alpha must be finite"),
    ({"features": "last", "lora": {"targets": ["query"]}}, "lora.targets must be one of q, k, v, out, fc1, fc2"),
    ({"features": "last", "adapter_bias": {"input": "fc1"}}, "adapter_bias.input must be one of hidden, output"),
    ({"base": "elp", "p_adapter": {"init": "zero"}}, "p_adapter.init must be one of normal, ones, but is 'zero'"),
    ({"base": "deep_prompt", "deep_prompt": {"length": 0}}, "deep_prompt.length must be at least 1, but is 0"),
    ({"base": "deep_prompt", "deep_prompt": {"init": "ones"}}, "deep_prompt.init must be one of xavier, normal"),
    ({"base": "prefix_kv", "prefix_kv": {"length": -3}}, "prefix_kv.length must be at least 1, but is -3"),
    (
        {"base": "prefix_kv", "prefix_kv": {"init_std": -1}},
        "prefix_kv.init_std must be finite and not negative",
    ),
    ({"base": "cnn", "cnn": {"scale": 0}}, "cnn.scale must be finite and not zero, but is 0"),
    ({"base": "parallel", "parallel": {"activation": "swish"}}, "parallel.activation must be one of gelu, relu"),
    ({"base": "elp", 3: {}}, "unknown key 3"),
]


@pytest.mark.parametrize(("raw", "message"), BAD, ids=lambda value: str(value)[:60])
def test_wrong_configurations_are_named(raw, message):
    with pytest.raises(ElpError, match=message):
        load_config(raw)


FILES = {
    "no mapping": ("- elp", "must contain a mapping of keys"),
    "empty": ("", "must contain a mapping of keys"),
    "no yaml": ("e_adapter: {layers: :", "is not a readable YAML file"),
    "code": ("!!python/object/apply:os.getcwd []", "is not a readable YAML file"),
    "binary": (b"\xff\xfe", "is not a readable YAML file"),
}


@pytest.mark.parametrize("file", FILES)
def test_wrong_files_are_named(file, tmp_path):
    content, message = FILES[file]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ElpError, match=f"mine.yaml {message}"):
        load_config(path)


def test_unknown_presets_suggest_a_close_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ElpError, match=r"'l_onyl' \(did you mean l_only\?\); the presets are: .*conventional.*, e_only"
    ):
        load_config("l_onyl")
    with pytest.raises(ElpError, match=r"no adapter preset or file 'conf/mine\.yaml'; the presets are"):
        load_config("conf/mine.yaml")


def test_a_circle_of_bases_is_found(tmp_path, monkeypatch):
    from upstream_elp.adapters import config

    (tmp_path / "adapters").mkdir()
    for name, base in (("a", "b"), ("b", "a")):
        (tmp_path / "adapters" / f"{name}.yaml").write_text(f"base: {base}\n")
    monkeypatch.setattr(config, "recipes_dir", lambda: tmp_path)
    with pytest.raises(ElpError, match="'base' leads in a circle: b -> a -> b"):
        load_config("a")


def test_parsing_leaves_the_mapping_alone():
    raw = {"base": "elp", "p_adapter": {"length": 2}}
    load_config(raw)
    assert raw == {"base": "elp", "p_adapter": {"length": 2}}


MISFITS = [
    ({"e_adapter": {"layers": "12"}}, r"e_adapter.layers: '12' selects layer 12, but the model has the layers 0-11"),
    ({"e_adapter": {"layers": yaml.safe_load("1:3")}}, "63 selects layer 63, .* in YAML a slice needs quotes"),
    ({"l_adapter": {"dim": "a third"}}, "l_adapter.dim: cannot read the size 'a third'"),
    ({"parallel": {"layers": "top:13"}}, "parallel.layers: 'top:13' selects"),
    ({"deep_prompt": {"layers": [12]}}, "deep_prompt.layers: .* selects layer 12"),
    ({"prefix_kv": {"layers": "20"}}, "prefix_kv.layers: '20' selects layer 20"),
    ({"cnn": {"layers": "7"}}, "cnn.layers: '7' selects layer 7, but the model has the layers 0-6"),
    ({"l_adapter": {"layers": "upper"}}, "l_adapter.layers: cannot read 'upper'; write all"),
]


@pytest.mark.parametrize(("change", "message"), MISFITS, ids=lambda value: str(value)[:50])
def test_misfits_are_found_against_a_model(change, message):
    config = load_config({"base": "le", **change})
    with pytest.raises(ElpError, match=message):
        config.check(layers=12, dim=768)


def test_numbers_become_floats_and_stay_strict():
    config = parse_config({"features": "layers", "p_adapter": {"init_std": 1}}, where="x")
    assert config.methods["p_adapter"].init_std == 1.0
    assert isinstance(config.methods["p_adapter"].init_std, float)
    assert isinstance(config, AdapterConfig) and config.name == "custom"


# --- selections and sizes -------------------------------------------------------------------------------------------


@given(layers=st.integers(1, 30), data=st.data())
@settings(max_examples=150)
def test_selections_agree_with_python(layers, data):
    index = data.draw(st.integers(0, layers - 1))
    last = data.draw(st.integers(index, layers - 1))
    count = data.draw(st.integers(1, layers))
    assert resolve_layers("all", layers) == tuple(range(layers))
    assert resolve_layers(index, layers) == resolve_layers(str(index), layers) == (index,)
    assert resolve_layers(f"{index}-{last}", layers) == tuple(range(index, last + 1))
    assert resolve_layers(f"top:{count}", layers) == tuple(range(layers))[-count:]
    chosen = data.draw(st.lists(st.integers(0, layers - 1), min_size=1, unique=True))
    assert resolve_layers(chosen, layers) == tuple(sorted(chosen))
    start, stop = (data.draw(st.none() | st.integers(-layers, layers)) for _ in range(2))
    text = f"{'' if start is None else start}:{'' if stop is None else stop}"
    if wanted := tuple(range(layers))[start:stop]:
        assert resolve_layers(text, layers) == wanted
    else:
        with pytest.raises(ElpError, match="selects no layer"):
            resolve_layers(text, layers)


def test_shares_of_the_top_layers():
    """Exact where the papers have 12 layers, rounded elsewhere, and never nothing."""
    for spec, layers, count in [("1/2", 12, 6), ("1/3", 12, 4), ("2/3", 12, 8), ("2/3", 24, 16), ("1/3", 4, 1)]:
        assert resolve_layers(f"top:{spec}", layers) == tuple(range(layers))[-count:]
    assert resolve_layers("top:1/30", 12) == (11,)


@pytest.mark.parametrize(
    "spec", ["top:5", "top:0", "top:0/3", "top:3/2", "4", 4, -1, [4], [-1], "0-4", "3-1", ":0", "4:", [], [1, 1]]
)
def test_selections_outside_a_model_are_refused(spec):
    with pytest.raises(ElpError, match=r"where: .*(selects|twice|cannot read)"):
        resolve_layers(spec, 4, where="where")


@pytest.mark.parametrize("spec", ["", "none", "1,2", "0..3", "::2", "top", "top:-1", "top:1/0", "a:b", "1.0", True])
def test_unreadable_selections_are_refused(spec):
    with pytest.raises(ElpError, match="cannot read"):
        resolve_layers(spec, 4)


@given(width=st.integers(1, 4096), top=st.integers(1, 9), bottom=st.integers(1, 9))
def test_relative_sizes_are_near_multiples_of_eight(width, top, bottom):
    size = resolve_size(f"{top}/{bottom}", width)
    assert size % 8 == 0 and size >= 8
    assert abs(size - width * top / bottom) <= 4 or size == 8


@given(size=st.integers(1, 10_000), width=st.integers(1, 4096))
def test_absolute_sizes_stay(size, width):
    assert resolve_size(size, width) == resolve_size(str(size), width) == size


def test_sizes_of_the_paper():
    """768: 256 and 512 (arXiv 2212.02780)."""
    assert (resolve_size("1/3", 768), resolve_size("2/3", 768)) == (256, 512)


@pytest.mark.parametrize("spec", [0, -8, "0", "-1", "0/3", "1/0", "1/-3", "0.5", "half", "", "1/3/2"])
def test_impossible_sizes_are_refused(spec):
    with pytest.raises(ElpError, match=r"where: .*size"):
        resolve_size(spec, 768, where="where")


# --- different sizes per layer --------------------------------------------------------------------------------------

SIZED = {
    "e_adapter": "bottleneck",
    "houlsby": "bottleneck",
    "parallel": "bottleneck",
    "lora": "rank",
    "prefix_kv": "length",
    "deep_prompt": "length",
}


@given(layers=st.integers(1, 12), data=st.data())
@settings(max_examples=150)
def test_a_mapping_is_the_layers_one_by_one(layers, data):
    """Any partition of any selection, each part written in any order, gives each layer its part's size."""
    chosen = data.draw(st.lists(st.integers(0, layers - 1), min_size=1, unique=True))
    sizes = {index: data.draw(st.integers(1, 5)) for index in sorted(chosen)}
    parts, start = {}, 0
    order = sorted(sizes)
    while start < len(order):  # runs of neighbours with one size become one range or stay as they are
        stop = start
        while (
            stop + 1 < len(order)
            and order[stop + 1] == order[stop] + 1
            and sizes[order[stop + 1]] == sizes[order[start]]
        ):
            stop += 1
        stop = data.draw(st.integers(start, stop))
        first, last = order[start], order[stop]
        words = [f"{first}-{last}", f"{first}:{last + 1}"] + ([first, str(first)] if first == last else [])
        parts[data.draw(st.sampled_from(words))] = sizes[first]
        start = stop + 1
    written = dict(data.draw(st.permutations(list(parts.items()))))
    for selection in ("all", chosen):
        resolved = resolve_sizes(written, selection, layers)
        assert resolved == sizes and list(resolved) == sorted(resolved)
    assert (
        resolve_sizes({"all": 3}, "all", layers) == resolve_sizes(3, "all", layers) == dict.fromkeys(range(layers), 3)
    )


@given(layers=st.integers(2, 12), data=st.data())
def test_a_mapping_that_is_not_a_partition_is_refused(layers, data):
    index = data.draw(st.integers(0, layers - 1))
    others = [other for other in range(layers) if other != index]
    with pytest.raises(ElpError, match=rf"lora\.rank has two sizes for layer {index}, in 'all' and in {index};"):
        resolve_sizes({"all": 2, index: 4}, "all", layers, where="lora", key="rank")
    sizes = dict.fromkeys(others, 2)
    with pytest.raises(ElpError, match=rf"lora\.rank has no size for layer {index}, which lora\.layers selects"):
        resolve_sizes(sizes, f"0-{layers - 1}", layers, where="lora", key="rank")
    with pytest.raises(ElpError, match=rf"lora\.rank has a size for layer {index}, which lora\.layers does not select"):
        resolve_sizes({**sizes, index: 3}, others, layers, where="lora", key="rank")
    assert list(resolve_sizes(sizes, "all", layers)) == others  # without `layers`: the mapping selects


def test_relative_sizes_work_in_a_mapping():
    assert resolve_sizes({":6": "1/3", "top:1/2": 5}, "all", 12, 768) == {
        **dict.fromkeys(range(6), 256),
        **dict.fromkeys(range(6, 12), 5),
    }


@pytest.mark.parametrize("method", SIZED)
def test_every_size_is_one_number_or_one_per_layer(method, tmp_path):
    key = SIZED[method]
    file = tmp_path / "mine.yaml"
    file.write_text(f'features: layers\n{method}:\n  {key}: {{0-5: 2, "6:-1": 3, 11: 4}}\n')
    config = load_config(file)
    assert getattr(config.methods[method], key) == {"0-5": 2, "6:-1": 3, "11": 4}
    backbone = architecture("wavlm_base")
    config.check(layers=12, dim=768)
    per_layer = count_parameters(config, backbone)["trainable"][method]
    single = {
        size: count_parameters(load_config({"features": "layers", method: {key: size, "layers": layers}}), backbone)[
            "trainable"
        ][method]
        for size, layers in ((2, "0-5"), (3, "6-10"), (4, "11"))
    }
    assert per_layer == sum(single.values())
    for raw, message in (
        ({key: {}}, rf"{method}\.{key} must name a size for at least one layer"),
        ({key: {"0-5": 0}}, rf"{method}\.{key}\[0-5\].*(positive|at least 1), but is 0"),
        ({key: {"0-5": 1.5}}, rf"{method}\.{key}\[0-5\] must be of type .*int, but is 1.5"),
        ({key: {"0-5": {1: 2}}}, rf"{method}\.{key}\[0-5\] must be of type .*int, but is"),
        ({key: {7: 2, "7": 2}}, rf"{method}\.{key} names 7 twice"),
        ({key: {None: 2}}, rf"{method}\.{key}: a layer selection must be of type str or int, but is None"),
        ({key: {True: 2}}, rf"{method}\.{key}: a layer selection must be of type str or int, but is True"),
    ):
        with pytest.raises(ElpError, match=message):
            load_config({"features": "layers", method: raw})
    for raw, message in (
        ({key: {"0-5": 2, 5: 3}}, rf"{method}\.{key} has two sizes for layer 5, in '0-5' and in '5'"),
        ({key: {"0-5": 2}, "layers": ":7"}, rf"{method}\.{key} has no size for layer 6, .*{method}\.layers selects"),
        ({key: {"0-5": 2}, "layers": "top:11"}, rf"{method}\.{key} has a size for layer 0, .*{method}\.layers"),
        ({key: {"0-12": 2}}, rf"{method}\.{key}: '0-12' selects layer 12, but the model has the layers 0-11"),
        ({key: {"upper": 2}}, rf"{method}\.{key}: cannot read 'upper'; write all"),
        ({key: {63: 2}}, r"selects layer 63.*; in YAML a slice needs quotes"),
    ):
        with pytest.raises(ElpError, match=message):
            load_config({"features": "layers", method: raw}).check(layers=12, dim=768)


def test_what_has_one_size_says_why():
    with pytest.raises(
        ElpError, match=r"l_adapter\.dim must be one size and not one per layer: the head sees a weighted"
    ):
        load_config({"base": "le", "l_adapter": {"dim": {"all": 8}}})
    with pytest.raises(ElpError, match=r"p_adapter\.length must be of type int"):
        load_config({"base": "elp", "p_adapter": {"length": {"all": 8}}})


def test_every_rank_of_a_mapping_fits_the_width():
    config = load_config({"features": "last", "lora": {"rank": {"0-5": 4, 6: 769}}})
    with pytest.raises(ElpError, match=r"lora\.rank must be at most 768, the model's width, but is 769"):
        config.check(layers=12, dim=768)


def test_a_mapping_replaces_the_size_of_the_base():
    config = load_config({"base": "houlsby32", "houlsby": {"bottleneck": {"top:2": 8}}})
    assert config.methods["houlsby"].bottleneck == {"top:2": 8}


def test_endless_ranges_are_refused_at_once():
    for spec in ("0-99999999999999", "top:99999999999999", "99999999999999", "3:99999999999999"):
        if spec[1] == ":":
            assert resolve_layers(spec, 12) == tuple(range(3, 12))
            continue
        with pytest.raises(ElpError, match="selects layer"):
            resolve_layers(spec, 12)
