"""Learning-rate schedules: the reference's values, each group's own rate, and exact resuming."""

import copy
import itertools

import pytest
import torch
from torch import nn

import upstream_elp
from tests.optimizer_toys import models
from upstream_elp.base.errors import ElpError
from upstream_elp.launch import blocks
from upstream_elp.training.optimizers import torch_optimizers
from upstream_elp.training.schedulers import epoch_of

#: per-epoch factors of the L-E reference's ASR schedule (arXiv 2212.02780, its code's train.py: 100 epochs, alpha 0.20,
#: beta 0.03, start 10, end 1, scale 10), computed by hand from linspace(100, 1, 78) / linspace(100, 1000, 78)
ASR = {0: 0.1, 1: 0.147368, 10: 0.573684, **dict.fromkeys(range(19, 24), 1.0), 24: 0.883837, 30: 0.5005}
ASR |= {50: 0.157094, 75: 0.046826, 99: 0.002313}

REFERENCE_ASR = {"name": "ELPWarmupHoldDecay", "epochs": 100, "warmup_epochs": 20, "hold_epochs": 3}
SV = {"name": "ELPMultipliers", "multipliers": [0.3, 0.5, 0.7, 1.0, 0.2, 0.1]}
FT = {**SV, "groups": {"e_adapter": [0.0, 0.3, 0.7, 1.0, 0.6, 0.3], "featurizer": [1.0] * 6}}
ALL = {
    "reference_asr": REFERENCE_ASR,
    "multipliers": SV,
    "groups": FT,
    "steps": {"name": "ELPStepDecay", "epochs": 20, "every": 10, "factor": 0.1},
    **{
        f"warmup_{decay}": {"name": "ELPWarmup", "warmup": 7, "decay": decay}
        for decay in ("constant", "linear", "cosine")
    },
}


@pytest.fixture(autouse=True)
def _registered():
    upstream_elp.register()


def make(config, total, optimizer=None):
    """Through the names that S3PRL looks up."""
    from s3prl import optimizers, schedulers

    plan = {"name": "ELPAdam", "lr": 1e-2, "groups": {"e_adapter": 1e-4}, **(optimizer or {})}
    made = optimizers.get_optimizer(models(), total, plan)
    return made, schedulers.get_scheduler(made, total, config)


def rates(config, total, *, steps=None, **options):
    """Multiplier per step and group."""
    optimizer, scheduler = make(config, total, **options)
    found = []
    for _ in range(total if steps is None else steps):
        found.append({group["name"]: group["lr"] / group["initial_lr"] for group in optimizer.param_groups})
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("per_epoch", [1, 3])
def test_the_asr_schedule_has_the_values_of_the_reference(per_epoch):
    found = rates(REFERENCE_ASR, 100 * per_epoch)
    for epoch, value in ASR.items():
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            assert found[step]["head"] == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize(
    "config", [SV, {"name": "ELPMultipliers", "multipliers": [0.1, 0.5, 0.7, 1.0, 0.5, 0.3, 0.1]}], ids=["sv", "ic"]
)
def test_a_list_gives_one_multiplier_per_epoch(config):
    epochs = len(config["multipliers"])
    found = [step["head"] for step in rates(config, 4 * epochs)]
    assert found == pytest.approx([value for value in config["multipliers"] for _ in range(4)])


def test_groups_may_have_lists_of_their_own_and_keep_their_own_rates():
    optimizer, scheduler = make(FT, 6)
    wanted = {**dict.fromkeys(("head", "l_adapter"), SV["multipliers"]), **FT["groups"]}
    for epoch in range(6):
        got = {group["name"]: group["lr"] for group in optimizer.param_groups}
        own = {"head": 1e-2, "featurizer": 1e-2, "e_adapter": 1e-4, "l_adapter": 1e-2}
        assert got == pytest.approx({name: rate * wanted[name][epoch] for name, rate in own.items()})
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(("epochs", "every", "factor"), [(100, 25, 0.3), (20, 10, 0.1)], ids=["asr", "er"])
def test_step_decay_equals_steplr_once_per_epoch(epochs, every, factor):
    found = rates({"name": "ELPStepDecay", "epochs": epochs, "every": every, "factor": factor}, 2 * epochs)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, every, factor)
    for epoch in range(epochs):
        assert [found[2 * epoch + i]["head"] for i in (0, 1)] == pytest.approx([optimizer.param_groups[0]["lr"]] * 2)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("warmup", [5, 0.25])
@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
def test_warm_up_rises_in_equal_parts_and_then_decays(warmup, decay):
    found = [step["head"] for step in rates({"name": "ELPWarmup", "warmup": warmup, "decay": decay, "final": 0.1}, 20)]
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    after = found[5:]
    if decay == "constant":
        assert after == [1.0] * 15
        return
    assert after[0] == 1.0
    assert all(first > second > 0.1 for first, second in itertools.pairwise(after))
    # the halfway point of the 15 steps is met at 7.5: the two around it lie symmetrically about the mean rate
    assert (after[7] + after[8]) / 2 == pytest.approx((1.0 + 0.1) / 2)
    assert after[5] == pytest.approx(0.1 + 0.9 * {"linear": 2 / 3, "cosine": 0.75}[decay])  # a third of the way


@pytest.mark.parametrize("optimizer", [None, {"name": "ELPOptim", "torch_optim_name": "RAdam"}], ids=["adam", "radam"])
@pytest.mark.parametrize("config", ALL.values(), ids=ALL)
def test_a_resumed_schedule_is_bitwise_the_uninterrupted_one(config, optimizer):
    whole = rates(config, 40, optimizer=optimizer)
    first, scheduler = make(config, 40, optimizer)
    for _ in range(23):
        first.step()
        scheduler.step()
    saved = copy.deepcopy({"Optimizer": first.state_dict(), "Scheduler": scheduler.state_dict()})
    second, _ = make(config, 40, optimizer)
    second.load_state_dict(saved["Optimizer"])
    from s3prl import schedulers

    again = schedulers.get_scheduler(second, 40, config)  # S3PRL's order: it builds on the loaded optimizer
    again.load_state_dict(saved["Scheduler"])
    for step in range(23, 40):
        got = {group["name"]: group["lr"] / group["initial_lr"] for group in second.param_groups}
        assert got == whole[step]
        assert again.get_last_lr() == [group["lr"] for group in second.param_groups]
        second.step()
        again.step()


def test_the_state_is_plain_numbers(tmp_path):
    _, scheduler = make(FT, 6)
    torch.save(scheduler.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == scheduler.state_dict()


def test_a_state_of_other_groups_is_refused():
    _, scheduler = make(SV, 6)
    with pytest.raises(ElpError, match="has 1 groups of learning rates, but this run's optimizer has 4"):
        scheduler.load_state_dict({"last_epoch": 1, "base_lrs": [0.1], "_step_count": 2})


@pytest.mark.parametrize(("epochs", "total"), [(7, 10122), (100, 34601), (6, 5)])
def test_epochs_divide_the_steps_as_evenly_as_they_can(epochs, total):
    found = [epoch_of(step, epochs=epochs, total_steps=total) for step in range(total + 3)]
    assert found == sorted(found)
    assert max(found) <= epochs - 1
    counts = [found[:total].count(epoch) for epoch in range(epochs)]
    assert max(counts) - min(counts) <= 1


def task_config(scheduler, **optimizer):
    runner = dict.fromkeys(
        ("total_steps", "gradient_accumulate_steps", "log_step", "eval_step", "save_step", "max_keep"), 9
    )
    return {
        "runner": {**runner, "gradient_clipping": 1, "eval_dataloaders": ["dev"]},
        "optimizer": {"name": "ELPAdam", "lr": 1e-3, **optimizer},
        "scheduler": scheduler,
        "downstream_expert": {"datarc": {}},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "ELPWarmUp"}, r"scheduler\.name is 'ELPWarmUp'.*did you mean ELPWarmup"),
        ({"name": "ELPWarmup", "warm": 3}, r"unknown scheduler\.warm \(did you mean warmup\?"),
        ({"name": "ELPWarmup", "decay": "sine"}, "decay must be one of constant, linear, cosine, but is 'sine'"),
        ({"name": "ELPWarmup", "warmup": 10}, r"warmup must be at most runner\.total_steps \(9\), but is 10"),
        (
            {"name": "ELPWarmup", "warmup": 2.5},
            "warmup must be a whole number of steps, or a share of all steps below 1, but is 2.5",
        ),
        (
            {"name": "ELPWarmup", "warmup": "2"},
            r"scheduler\.warmup must be a number, but is '2'; write 2 without quotes",
        ),
        ({"name": "ELPWarmup", "final": 2}, "final must be a number of at least 0 and at most 1, but is 2"),
        ({**REFERENCE_ASR, "epochs": 23}, r"must be less than epochs \(23\), but is 23"),
        ({**REFERENCE_ASR, "warmup_epochs": 1}, "warmup_epochs must be a whole number of at least 2, but is 1"),
        ({"name": "ELPMultipliers", "multipliers": []}, r"multipliers is \[\]; it must be a list of numbers"),
        ({"name": "ELPMultipliers"}, r"scheduler\.multipliers is missing"),
        ({**SV, "multipliers": [1, "x"]}, "multipliers must be a number of at least 0, but is 'x'"),
        ({**SV, "groups": {"encodr": [1]}}, "unknown group 'encodr'; the groups are: head, featurizer"),
        (
            {**SV, "groups": {"head": [1]}},
            r"groups\.head must have as many epochs as scheduler\.multipliers \(6\), but has 1",
        ),
        ({**SV, "groups": [1]}, r"groups is \[1\]; it must be a block of lists"),
        (
            {"name": "ELPStepDecay", "epochs": 2, "every": 0, "factor": 0.1},
            "every must be a whole number of at least 1, but is 0",
        ),
        (
            {"name": "ELPStepDecay", "epochs": 2, "every": 1, "factor": -1},
            "factor must be a number of at least 0 and at most 1, but is -1",
        ),
    ],
)
def test_wrong_keys_are_one_sentence_before_training(change, message):
    with pytest.raises(ElpError, match=message) as caught:
        blocks.check(task_config(change), where="x", ours=True)
    assert "\n" not in str(caught.value)


def test_lists_per_group_need_named_groups():
    plain = {"name": "TorchOptim", "torch_optim_name": "Adam"}
    with pytest.raises(ElpError, match="needs an optimizer with named groups; choose ELPAdam"):
        blocks.check(task_config(FT, **plain), where="x", ours=True)
    blocks.check(task_config(SV, **plain), where="x", ours=True)


@pytest.mark.parametrize("name", sorted(torch_optimizers()))
def test_any_torch_optimizer_takes_the_groups(name):
    from s3prl import optimizers

    trained = models()
    if name == "Muon":  # only for matrices
        trained[1:] = [nn.Linear(2, 2, bias=False)]
    made = optimizers.get_optimizer(
        trained, 10, {"name": "ELPOptim", "torch_optim_name": name, "lr": 1e-3, "groups": {"e_adapter": 1e-4}}
    )
    assert type(made).__name__ == name
    assert {group["name"]: group["lr"] for group in made.param_groups}["e_adapter"] == 1e-4
    for group in made.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    before = trained[0].e.weight.clone()
    made.step()
    assert not torch.equal(trained[0].e.weight, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"torch_optim_name": "Adm"}, "torch_optim_name is 'Adm'.*did you mean Adam"),
        ({"torch_optim_name": "LBFGS"}, "torch_optim_name is 'LBFGS', which is not a usable class"),
        ({"torch_optim_name": "SGD", "momentm": 0.9}, r"unknown optimizer\.momentm \(did you mean momentum\?"),
        ({}, "torch_optim_name is missing"),
        ({"torch_optim_name": "SGD", "groups": {"p": 1}}, "unknown group 'p'"),
        ({"torch_optim_name": "SGD", "momentum": -1}, "Invalid momentum value: -1"),
    ],
)
def test_wrong_optimizer_keys_are_one_sentence(change, message):
    with pytest.raises(ElpError, match=message) as caught:
        blocks.check(task_config(None, name="ELPOptim", **change), where="x", ours=True)
    assert "\n" not in str(caught.value)
    passing = {"torch_optim_name": "SGD", "momentum": 0.9, "nesterov": True, "groups": {"head": 1.0}}
    blocks.check(task_config(None, name="ELPOptim", **passing), where="x", ours=True)


def test_options_of_an_unknown_name_are_refused_in_python_too():
    from upstream_elp.training.optimizers import get_ELPOptim

    with pytest.raises(ElpError, match="SGD has no option 'beta'; it has: momentum"):
        get_ELPOptim(models(), 10, torch_optim_name="SGD", beta=1)


def test_they_drive_s3prls_own_runner(tmp_path, monkeypatch):
    """A stock checkpoint from the stock loop resumes with the rates of the step where it stopped."""
    from s3prl.downstream.runner import Runner

    from tests.host_toys import stock_words
    from upstream_elp.run import run

    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    seen = []
    stock = Runner._get_scheduler

    def watched(runner, optimizer):
        scheduler = stock(runner, optimizer)
        optimizer.register_step_pre_hook(
            lambda made, *_: seen.append({group["name"]: group["lr"] for group in made.param_groups})
        )
        return scheduler

    monkeypatch.setattr(Runner, "_get_scheduler", watched)
    monkeypatch.setenv("ELP_STOCK_LOOP", "1")
    plan = "config.optimizer={name: ELPOptim, torch_optim_name: SGD, momentum: 0.5, lr: 0.01, groups: {l_adapter: 0.1}}"
    words = "{name: ELPMultipliers, multipliers: [0.5, 1.0, 0.2], groups: {l_adapter: [0.0, 1.0, 0.3]}}"
    options = f"{plan},,config.scheduler={words}"
    run(stock_words("fluent_commands", tmp_path, "-g", "le", "-o", options, total_steps=6, save_step=2, eval_step=9))
    wanted = [pair for pair in ((0.005, 0.0), (0.01, 0.1), (0.002, 0.03)) for _ in range(2)]
    assert [step["head"] for step in seen] == pytest.approx([head for head, _ in wanted])
    assert [step["l_adapter"] for step in seen] == pytest.approx([adapter for _, adapter in wanted])
    (tmp_path / "exp" / "states-6.ckpt").unlink()
    first, seen[:] = list(seen), []
    run(["-m", "train", "-e", str(tmp_path / "exp"), "--device", "cpu"])
    assert seen == first[4:]
