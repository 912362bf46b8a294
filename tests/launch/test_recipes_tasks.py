"""Task recipes: the reference's learning rates, and files that state only what differs."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml

import upstream_elp
from downstream_heads import registry
from tests.host_toys import stock_config
from tests.toys import tiny_backbone
from upstream_elp.adapters.config import load_config, recipes_dir
from upstream_elp.base.epochs import epochs_of
from upstream_elp.base.errors import ElpError
from upstream_elp.launch import blocks, planning, recipes
from upstream_elp.launch.chosen import chosen_adapter
from upstream_elp.run import run

#: the table in the README of the L-E reference's code (sinhat98/adapter-wavlm, arXiv 2212.02780): learning rates of the
#: head and the other modules per task; the layer weights have the L-adapters' rate (its train.py)
TABLE = {
    ("full_finetune", ("head", "encoder")): {
        "sv": (5e-4, 1e-4), "er": (5e-4, 5e-5), "asr": (1e-2, 1e-4), "ic": (5e-4, 1e-4),
    },
    ("conventional", ("head", "e_adapter", "layer_norm")): {
        "sv": (5e-4, 1e-5, 1e-5), "er": (5e-4, 1e-5, 1e-5), "asr": (1e-3, 1e-5, 1e-5), "ic": (5e-4, 1e-5, 1e-5),
    },
    ("le", ("head", "l_adapter", "e_adapter", "layer_norm")): {
        "sv": (5e-4, 1e-4, 1e-5, 1e-5), "er": (5e-4, 1e-4, 5e-5, 5e-5),
        "asr": (2e-3, 1e-3, 1e-3, 1e-3), "ic": (5e-4, 1e-5, 1e-5, 1e-5),
    },
    ("l_only", ("head", "l_adapter", "layer_norm")): {
        "sv": (5e-4, 5e-4, 5e-4), "er": (5e-4, 5e-4, 5e-4), "asr": (2e-3, 1e-3, 1e-3), "ic": (5e-4, 1e-4, 1e-4),
    },
    ("e_only", ("head", "e_adapter", "layer_norm")): {
        "sv": (5e-4, 1e-5, 1e-5), "er": (5e-4, 1e-5, 1e-5), "asr": (2e-3, 1e-5, 1e-5), "ic": (5e-4, 1e-5, 1e-5),
    },
}  # fmt: skip
ROWS = [
    (task, method, dict(zip(modules, rates[task], strict=True)))
    for (method, modules), rates in TABLE.items()
    for task in rates
]

#: epochs, batch size (of SV in seconds) and multipliers of the first and the last epoch (its train.py; for ASR see
#: test_schedulers.py)
PROTOCOL = {"asr": (100, 8, 0.1, 0.002313), "sv": (6, 384, 0.3, 0.1), "er": (20, 32, 1.0, 0.1), "ic": (7, 16, 0.1, 0.1)}


@pytest.fixture(autouse=True)
def _registered(tmp_path, monkeypatch):
    upstream_elp.register()
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))


def flags(preset=None, *, upstream="elp_wavlm_base_plus", ckpt=None):
    return Namespace(upstream=upstream, upstream_model_config=preset, upstream_ckpt=ckpt)


def reference(task, preset):
    return recipes.read_for(recipes.names()[f"{task}_reference"], chosen_adapter(flags(preset)))


def steps_of(content):
    """The length in steps; 100 for an epoch, as none of the schedules depends on it."""
    total = content["runner"]["total_steps"]
    epochs = epochs_of(total)
    return 100 * epochs if epochs else total


def build(content, components):
    """Optimizer and scheduler as S3PRL makes them, on one tensor per module."""
    from s3prl import optimizers, schedulers

    from tests.optimizer_toys import Declared

    upstream = torch.nn.Module()
    tensors = {name: torch.nn.Parameter(torch.zeros(1)) for name in components}
    upstream.injection = Namespace(
        declared={name: Declared(name) for name in tensors}, parameters=lambda expert: tensors
    )
    total = steps_of(content)
    optimizer = optimizers.get_optimizer([upstream], total, content["optimizer"])
    return optimizer, schedulers.get_scheduler(optimizer, total, content["scheduler"])


@pytest.mark.parametrize(("task", "method", "rates"), ROWS, ids=[f"{task}-{method}" for task, method, _ in ROWS])
def test_the_reference_recipes_have_the_learning_rates_of_its_table(task, method, rates):
    content = reference(task, method)
    blocks.check(content, where=task, ours=True)
    if "l_adapter" in rates:
        rates = {**rates, "featurizer": rates["l_adapter"]}
    optimizer, _ = build(content, rates)
    assert {group["name"]: group["initial_lr"] for group in optimizer.param_groups} == rates
    assert set(load_config(method).methods) <= set(rates)
    radam = (task, method) == ("sv", "full_finetune")
    assert type(optimizer).__name__ == ("RAdam" if radam else "Adam")
    assert optimizer.defaults["weight_decay"] == 0


@pytest.mark.parametrize(("task", "method"), [(task, method) for task, method, _ in ROWS])
def test_the_reference_recipes_have_its_epochs_and_schedules(task, method):
    epochs, batch, first, last = PROTOCOL[task]
    content = reference(task, method)
    total = steps_of(content)
    data = content["downstream_expert"]["datarc"]
    if task == "sv":
        assert data["train_batch_seconds"] == batch
    else:
        assert data.get("train_batch_size", data.get("batch_size")) == batch
    assert content["runner"]["total_steps"] == f"{epochs} epochs"
    assert content["downstream_expert"]["modelrc"]["head"] == "linear"
    if (task, method) == ("asr", "conventional"):
        first, last = 1.0, 0.3**3  # StepLR(25, 0.3)
    if (task, method) == ("sv", "full_finetune"):
        first, last = {"head": 0.3, "encoder": 0.0}, {"head": 0.3, "encoder": 0.3}
    optimizer, scheduler = build(content, ["head", "encoder"])
    for step, wanted in ((0, first), (total - 1, last)):
        scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": step})
        for group in optimizer.param_groups:
            value = wanted[group["name"]] if isinstance(wanted, dict) else wanted
            assert group["lr"] / group["initial_lr"] == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("task", ["asr", "sv", "er", "ic"])
def test_every_method_of_a_recipe_is_a_preset_whose_parts_all_have_a_rate(task):
    methods = recipes.read(recipes.names()[f"{task}_reference"])["methods"]
    for preset in methods:
        content = reference(task, preset)
        assert set(load_config(preset).methods) <= set(content["optimizer"].get("groups", {}))
    more = (
        {"conventional_top4", "conventional_top6", "topk_finetune", "full_finetune_nocnn"} if task == "asr" else set()
    )
    assert set(methods) == {*(method for method, _ in TABLE), "elp", *more}


@pytest.mark.parametrize("name", sorted(recipes.names()))
def test_datarc_and_modelrc_of_every_recipe_are_keys_of_the_task(name):
    content = recipes.read(recipes.names()[name])
    task = name if name.startswith("elp_") else f"elp_{name.split('_')[0]}"
    packaged = yaml.safe_load(registry.find(task).config.read_text())
    for block in ("datarc", "modelrc"):
        extra = set(content["downstream_expert"][block]) - set(packaged["downstream_expert"][block])
        assert extra <= {"pre_load", "protocol"}, extra


@pytest.mark.parametrize("task", [task.short for task in registry.tasks().values()])
def test_the_superb_recipes_are_the_tasks_own_and_sv_chooses_on_test(task):
    content = recipes.read_for(recipes.names()[f"{task}_superb"], chosen_adapter(flags("le")))
    packaged = yaml.safe_load(registry.find(f"elp_{task}").config.read_text())
    if task == "sv":
        packaged["downstream_expert"]["datarc"]["protocol"] = "superb"
        packaged["runner"]["eval_dataloaders"] = ["test"]
    assert content == packaged


# bases and methods -------------------------------------------------------------------------------------------------


def write(folder, name, **content):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_blocks_merge_key_by_key_and_another_name_replaces_a_block(tmp_path):
    write(tmp_path, "mine", base="elp_ic", optimizer={"name": "ELPAdam", "lr": 0.5}, runner={"eval_step": 7})
    path = write(tmp_path, "again", base="mine.yaml", optimizer={"groups": {"head": 0.1}}, specaug=None)
    packaged = yaml.safe_load(registry.find("elp_ic").config.read_text())
    content = recipes.read(path)
    assert content["optimizer"] == {"name": "ELPAdam", "lr": 0.5, "groups": {"head": 0.1}}
    assert content["runner"] == {**packaged["runner"], "eval_step": 7}
    assert content["downstream_expert"] == packaged["downstream_expert"]


def test_a_base_of_each_packaged_task_by_itself_is_that_task(tmp_path):
    for task in registry.names():
        path = write(tmp_path, task, base=task)
        assert recipes.read(path) == yaml.safe_load(registry.find(task).config.read_text())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"base": "elp_asx"}, f"unknown base 'elp_asx'; name one of {', '.join(registry.names())}, asr_quick"),
        ({"base": ["elp_asr"]}, r"unknown base \['elp_asr'\]"),
        ({"base": "x.yaml"}, r"'base' leads in a circle: x.yaml -> x.yaml"),
        ({"base": "y.yaml"}, r"'base' leads in a circle: x.yaml -> y.yaml -> x.yaml"),
        ({"base": "elp_ic", "methods": {"le": 3}}, "methods must be a block of blocks"),
        (
            {"base": "elp_ic", "methods": {"l_only": {}}},
            "has no entry for the adapter le under methods, only for l_only",
        ),
        (
            {"base": "elp_ic", "methods": {"le": {"optimizer": {"name": "ELPAdam", "groups": {"e_adapter": 1.0}}}}},
            r"methods\.le\.optimizer\.groups has no learning rate for l_adapter, layer_norm",
        ),
    ],
)
def test_wrong_bases_and_methods_are_one_sentence(content, message, tmp_path):
    path = write(tmp_path, "x", **content)
    write(tmp_path, "y", base="x.yaml")
    with pytest.raises(ElpError, match=message) as caught:
        recipes.read_for(path, chosen_adapter(flags("le")))
    assert "\n" not in str(caught.value)


def test_a_users_adapter_takes_the_methods_of_the_preset_it_starts_from(tmp_path):
    mine = write(tmp_path, "relu", base="le", e_adapter={"activation": "relu"})
    assert reference("sv", str(mine)) == reference("sv", "le")
    more = write(tmp_path, "more", base="le", p_adapter={"length": 3})
    with pytest.raises(ElpError, match="has no learning rate for p_adapter"):
        reference("sv", str(more))
    with pytest.raises(ElpError, match="has no entry for -u wavlm_base_plus, which has no adapters"):
        recipes.read_for(recipes.names()["sv_reference"], chosen_adapter(flags(upstream="wavlm_base_plus")))
    with pytest.raises(ElpError, match="has no entry for the adapter houlsby32"):
        reference("sv", "houlsby32")
    assert reference("sv", None) == reference("sv", "elp")  # the default preset


def test_entries_for_upstreams_and_for_all_others(tmp_path):
    rates = {"fbank_no_cmvn": 0.1, "le": 0.2, "others": 0.3}
    path = write(tmp_path, "x", base="elp_ic", methods={name: {"optimizer": {"lr": lr}} for name, lr in rates.items()})
    for chosen, name in (
        (flags(upstream="fbank_no_cmvn"), "fbank_no_cmvn"),
        (flags(upstream="wavlm_base_plus"), "others"),
        (flags("le"), "le"),
        (flags("houlsby32"), "others"),
    ):
        content = recipes.read_for(path, chosen_adapter(chosen))
        assert content["optimizer"]["lr"] == rates[name] and "methods" not in content


def plan(*words):
    made = planning.read(words)
    planning.complete(made)
    return made


def ic_words(folder, config):
    data = ("--data", str(folder / "corpora"), "--device", "cpu")
    return ("-m", "train", "-u", "elp_local", "-k", str(tiny_backbone()), "-d", "elp_ic", "-c", str(config), *data)


def small(folder):
    """A recipe with methods, on a toy corpus."""
    runner = dict.fromkeys(("total_steps", "eval_step", "save_step"), 2)
    data = {"root": str(stock_root(folder)), "num_workers": 0, "train_batch_size": 2}
    (folder / "corpora").mkdir(exist_ok=True)
    return write(
        folder, "small", base="ic_reference",
        runner={**runner, "log_step": 1, "max_keep": 3, "eval_dataloaders": ["dev"]},
        downstream_expert={"datarc": data},
    )  # fmt: skip


def stock_root(folder):
    content = yaml.safe_load(stock_config("fluent_commands", folder).read_text())
    return Path(content["downstream_expert"]["datarc"]["file_path"])


def test_a_recipe_is_found_by_its_name_and_s3prl_gets_a_whole_file(tmp_path):
    made = plan(*ic_words(tmp_path, small(tmp_path)), "-g", "le", "-p", str(tmp_path / "exp"))
    path = Path(made.argv[len(made.argv) - 1 - made.argv[::-1].index("-c") + 1])
    assert path == tmp_path / "exp" / "merged_config.yaml"
    assert yaml.load(path.read_text(), Loader=yaml.FullLoader) == recipes.read_for(
        tmp_path / "small.yaml", chosen_adapter(flags("le"))
    )
    named = plan(*ic_words(tmp_path, "ic_quick"), "-g", "lora_qv8", "-p", str(tmp_path / "named"))
    content = yaml.safe_load(Path(named.args.config).read_text())
    assert content == recipes.read_for(recipes_dir() / "tasks" / "ic_quick.yaml", chosen_adapter(flags("lora_qv8")))
    with pytest.raises(ElpError, match="-c ic_quik: no such file or recipe; did you mean ic_quick"):
        plan(*ic_words(tmp_path, "ic_quik"), "-p", str(tmp_path / "named"))
    for other in ("er_quick", "asr_reference", "elp_sv"):
        task = f"elp_{other.removeprefix('elp_').split('_')[0]}"
        with pytest.raises(ElpError, match=f"-c {other} is a recipe for -d {task}, not for -d elp_ic"):
            plan(*ic_words(tmp_path, other), "-g", "le", "-p", str(tmp_path / "named"))


def test_a_run_from_a_recipe_trains_with_it_and_goes_on(tmp_path):
    exp = tmp_path / "exp"
    words = [*ic_words(tmp_path, small(tmp_path)), "-g", "l_only", "-p", str(exp), "-a"]
    run([*words, "-o", "config.runner.save_step=1"])
    states = torch.load(exp / "states-2.ckpt", weights_only=True)
    rates = {group["name"]: group["initial_lr"] for group in states["Optimizer"]["param_groups"]}
    assert rates == {"head": 5e-4, "featurizer": 1e-4, "l_adapter": 1e-4, "layer_norm": 1e-4}
    assert "methods" not in states["Config"] and "base" not in states["Config"]
    (exp / "states-2.ckpt").unlink()
    run([*words, "-o", "config.runner.save_step=1"])  # -a with the same -c
    assert torch.load(exp / "states-2.ckpt", weights_only=True)["Step"] == 2
    run(["-m", "evaluate", "-e", str(exp / "dev-best.ckpt"), "-t", "test", "--device", "cpu"])
    with pytest.raises(ElpError, match=r"was trained with another config than -c ic_quick"):
        plan(*ic_words(tmp_path, "ic_quick"), "-g", "l_only", "-p", str(exp), "-a")
