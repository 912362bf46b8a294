"""Learning rates per module: every trainable tensor once, each in its own group."""

from functools import partial

import pytest
import torch

from tests.optimizer_toys import models
from upstream_elp.base.errors import ElpError
from upstream_elp.training.optimization import place_step_counts
from upstream_elp.training.optimizers import get_ELPAdam, get_ELPAdamW, get_ELPOptim, group_names, parameter_groups


def test_each_trainable_tensor_stands_in_the_group_of_its_module():
    upstream, featurizer, head = trained = models()
    groups = {g["name"]: g for g in parameter_groups(trained, 1e-3, {"e_adapter": 1e-5, "featurizer": 0.1})}
    assert {name: g["lr"] for name, g in groups.items()} == {
        "head": 1e-3, "featurizer": 0.1, "e_adapter": 1e-5, "l_adapter": 1e-3,
    }  # fmt: skip
    assert groups["e_adapter"]["params"] == [upstream.e.weight]
    assert groups["l_adapter"]["params"] == [upstream.l.weight]
    assert groups["featurizer"]["params"] == [featurizer.weights]
    assert groups["head"]["params"] == list(head.parameters())


@pytest.mark.parametrize("make", [get_ELPAdam, get_ELPAdamW])
def test_a_step_moves_each_group_by_its_own_rate_and_leaves_the_frozen(make):
    trained = models()
    upstream = trained[0]
    before = {name: p.clone() for name, p in upstream.named_parameters()}
    decay = {} if make is get_ELPAdam else {"weight_decay": 0.0}
    optimizer = make(trained, total_steps=10, lr=1e-2, groups={"e_adapter": 1e-4}, **decay)
    for parameter in upstream.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = {name: (p - before[name]).abs().max().item() for name, p in upstream.named_parameters()}
    assert moved["e.weight"] == pytest.approx(1e-4, rel=1e-3)
    assert moved["l.weight"] == pytest.approx(1e-2, rel=1e-3)
    assert moved["frozen.weight"] == 0


@pytest.mark.parametrize(
    ("groups", "message"), [({"adapter": 1e-3}, "unknown group 'adapter'"), ({"head": -1}, "head")]
)
def test_wrong_groups_are_named(groups, message):
    with pytest.raises(ElpError, match=message) as error:
        parameter_groups(models(), 1e-3, groups)
    if "unknown" in message:
        assert all(name in str(error.value) for name in group_names())


# --- fused kernels ------------------------------------------------------------------------------------------------

MAKERS = {
    "Adam": get_ELPAdam,
    "AdamW": get_ELPAdamW,
    "SGD": partial(get_ELPOptim, torch_optim_name="SGD", momentum=0.9),
}


def _steps(make, count=5, **options):
    """The trained tensors after some steps with the same gradients."""
    torch.manual_seed(0)
    trained = models()
    optimizer = make(trained, total_steps=10, lr=1e-2, groups={"e_adapter": 1e-3}, **options)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for _ in range(count):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return optimizer, parameters


@pytest.mark.parametrize("name", MAKERS)
def test_a_fused_optimizer_makes_the_same_steps_up_to_rounding(name):
    plain, fused = _steps(MAKERS[name]), _steps(MAKERS[name], fused=True)
    assert all(group["fused"] for group in fused[0].param_groups)
    for one, other in zip(plain[1], fused[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", MAKERS)
def test_not_fused_is_the_default_bit_by_bit(name):
    plain, off = _steps(MAKERS[name]), _steps(MAKERS[name], fused=False)
    assert not any(group["fused"] for made in (plain, off) for group in made[0].param_groups)
    assert all(torch.equal(one, other) for one, other in zip(plain[1], off[1], strict=True))


@pytest.mark.parametrize("name", MAKERS)
def test_fused_must_be_true_or_false(name):
    with pytest.raises(ElpError, match=r"config key optimizer\.fused must be true or false, but is 'yes'"):
        MAKERS[name](models(), total_steps=1, fused="yes")


def test_an_optimizer_without_fused_kernels_is_named():
    with pytest.raises(ElpError, match="optimizer: RAdam has no option 'fused'"):
        get_ELPOptim(models(), total_steps=1, torch_optim_name="RAdam", fused=True)


def test_a_resumed_optimizer_counts_steps_where_its_kernels_look():
    """A checkpoint of other kernels has the counts elsewhere; the device ``meta`` stands for a GPU."""
    parameter = torch.nn.Parameter(torch.zeros(1, device="meta"))
    optimizer = torch.optim.Adam([parameter])
    optimizer.state[parameter] = {"step": torch.ones(())}
    for fused, device in ((True, "meta"), (None, "cpu")):
        optimizer.param_groups[0]["fused"] = fused
        if device == "cpu":  # data cannot come back from the device meta
            optimizer.state[parameter] = {"step": torch.ones(())}
        place_step_counts(optimizer)
        assert optimizer.state[parameter]["step"].device.type == device


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("had", "has"), [(False, True), (True, False)])
def test_the_kernels_can_be_changed_on_a_gpu(had, has):
    parameter = torch.nn.Parameter(torch.zeros(3, device="cuda"))
    first, then = (torch.optim.Adam([parameter], fused=fused or None) for fused in (had, has))
    parameter.grad = torch.ones_like(parameter)
    first.step()
    own = then.param_groups[0]["fused"]
    then.load_state_dict(first.state_dict())
    then.param_groups[0]["fused"] = own
    place_step_counts(then)
    then.step()
    assert then.state[parameter]["step"].device.type == ("cuda" if has else "cpu")
    assert int(then.state[parameter]["step"]) == 2 and torch.isfinite(parameter).all()
