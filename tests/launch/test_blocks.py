"""The runner's blocks of a task config: problems are reported before anything is built."""

import copy
from pathlib import Path

import pytest
import yaml

import upstream_elp
from downstream_heads import registry
from upstream_elp.adapters.config import recipes_dir
from upstream_elp.base.errors import ElpError
from upstream_elp.host.override import override
from upstream_elp.launch import blocks, planning, recipes
from upstream_elp.run import run

IC = "-m train -u fbank -d elp_ic --device cpu -p {folder}"
CONFIGS = [*(task.config for task in registry.tasks().values()), *recipes_dir().glob("tasks/*.yaml")]


def plan(folder: Path, text: str) -> planning.Plan:
    made = planning.read([*IC.format(folder=folder).split(), "-o", text])
    planning.complete(made)
    return made


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_config_that_we_ship_passes(path):
    upstream_elp.register()
    content = recipes.read(path)
    for changes in content.pop("methods", {"": {}}).values():
        blocks.check(recipes.merge(content, changes), where=path.name, ours=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config.runner.totl_steps=1", r"unknown runner\.totl_steps \(did you mean total_steps\? valid: total_steps, "),
        ("config.optimizer.lrr=1", r"unknown optimizer\.lrr \(did you mean lr\? valid: lr, betas"),
        ("config.optimiser.lr=1", r"unknown optimiser \(did you mean optimizer\? valid: runner, optimizer, scheduler"),
        ("config.runner=3", "runner must be a block of keys, but is 3"),
        ("config.runner=null", "the block runner is missing"),
        *(
            (f"config.runner.{key}={value}", rf"runner\.{key} must be a whole number of at least 1.*, but is ")
            for key in ("total_steps", "eval_step", "log_step", "save_step", "gradient_accumulate_steps", "max_keep")
            for value in ("0", "-1", "1.5", "'10'", "true", "null")
        ),
        (
            "config.runner.eval_dataloaders=dev",
            r"eval_dataloaders must be a list of splits such as \[dev\], but is 'dev'",
        ),
        ("config.runner.gradient_clipping=0", "gradient_clipping must be a number above 0, but is 0"),
        ("config.runner.evaluate_ratio=2", "evaluate_ratio must be a number above 0, at most 1, but is 2"),
        ("config.runner.fp16=1", "fp16 must be true or false, but is 1"),
        ("config.optimizer.name=Adm", r"optimizer\.name is 'Adm'.*did you mean Adam\?.*valid: .*ELPAdam.*TorchOptim"),
        ("config.optimizer.torch_optim_name=Adm", r"torch_optim_name is 'Adm'.*did you mean Adam\? valid: .*SGD"),
        ("config.optimizer={name: TorchOptim}", r"optimizer\.torch_optim_name is missing \(valid: "),
        ("config.optimizer={lr: 0.1}", r"optimizer\.name is missing"),
        ("config.optimizer.lr='1e-4'", r"optimizer\.lr must be a number, but is '1e-4'; write 1\.0e-4 without quotes"),
        ("config.optimizer.lr=fast", r"optimizer\.lr must be a number above 0, but is 'fast'"),
        (
            "config.optimizer.betas=[0.9, '.999']",
            r"optimizer\.betas\[1\] must be a number, but is '\.999'; write 0\.999 without quotes",
        ),
        ("config.optimizer={name: ELPAdam, lr: 1e-4}", r"-o: config\.optimizer\.lr is 1e-4, .*; write 1\.0e-4, or put"),
        (
            "config.optimizer={name: ELPAdam, groups: {head: 1.0e4}}",
            r"config\.optimizer\.groups\.head is 1\.0e4, .*1\.0e\+4",
        ),
        ("config.scheduler={name: ELPWarmup, warmup: '1e1'}", r"scheduler\.warmup must be a number, but is '1e1'"),
        ("config.optimizer.betas=[3, 4]", "optimizer: ValueError: Invalid beta"),
        ("config.optimizer={name: Adam, lr: 0.1, betas: [0.1, 0.1]}", r"unknown optimizer\.betas \(valid: lr, name\)"),
        ("config.optimizer={name: ELPAdam, groups: {p: 1}}", "unknown group 'p'; the groups are"),
        ("config.scheduler={name: linear}", r"scheduler\.name is 'linear'.*valid: .*linear_schedule_with_warmup"),
        ("config.scheduler={name: linear_schedule_with_warmup}", r"scheduler\.num_warmup_steps is missing"),
        (
            "config.scheduler={name: linear_schedule_with_warmup, num_warmup_steps: 1, x: 1}",
            r"unknown scheduler\.x \(valid",
        ),
        ("config.specaug={adaptve: true}", r"unknown specaug\.adaptve \(did you mean adaptive\?"),
        ("config.runner.totl_steps=1,,config.optimizer.lrr=1", r"runner\.totl_steps.*; unknown optimizer\.lrr"),
    ],
)
def test_wrong_values_are_one_sentence(text, message, tmp_path):
    with pytest.raises(ElpError, match=message) as caught:
        plan(tmp_path / "exp", text)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize("key", ["total_steps", "eval_dataloaders", "max_keep", "gradient_accumulate_steps"])
def test_a_missing_key_is_reported(key):
    upstream_elp.register()
    content = yaml.safe_load(CONFIGS[0].read_text())
    del content["runner"][key]
    with pytest.raises(ElpError, match=rf"x: runner\.{key} is missing \(a "):
        blocks.check(content, where="x", ours=True)


def test_stock_tasks_may_have_blocks_and_keys_of_their_own():
    upstream_elp.register()
    content = yaml.safe_load(CONFIGS[0].read_text())
    content |= {"vocoder": {"a": 1}, "scheduler": None}
    content["runner"]["n_jobs"] = 3
    content["optimizer"] = {"name": "AdamW_with_schedule", "lr": 1e-4, "warmup_proportion": 0.1, "weight_decay": 0.1}
    blocks.check(content, where="x", ours=False)
    wrong = copy.deepcopy(content)
    override("config.runner.totl_steps=1", None, wrong)
    with pytest.raises(ElpError, match=r"unknown runner\.totl_steps"):
        blocks.check(wrong, where="x", ours=False)
    with pytest.raises(ElpError, match=r"unknown runner\.n_jobs"):
        blocks.check(content, where="x", ours=True)


def test_a_wrong_override_next_to_a_checkpoint_is_reported(tmp_path):
    import argparse

    import torch

    content = yaml.safe_load(registry.find("elp_ic").config.read_text())
    flags = argparse.Namespace(upstream="fbank", downstream="elp_ic", upstream_ckpt=None)
    torch.save({"Args": flags, "Config": content}, tmp_path / "states-1.ckpt")
    with pytest.raises(ElpError, match=r"states-1\.ckpt: unknown runner\.totl_steps"):
        run(f"-m train -e {tmp_path} --device cpu -o config.runner.totl_steps=1".split())
