"""Learning rates per module: every trainable tensor once, each in its own group."""

import pytest
import torch

from tests.optimizer_toys import models
from upstream_elp.base.errors import ElpError
from upstream_elp.training.optimizers import get_ELPAdam, get_ELPAdamW, group_names, parameter_groups


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
