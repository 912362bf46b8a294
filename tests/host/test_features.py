"""``-s`` and ``-l``: adapters that the selected feature does not depend on are reported."""

import logging

import pytest
import torch

from tests.experts import make_expert
from upstream_elp.host.features import warn_unreached


@pytest.mark.parametrize(
    ("selection", "layer", "unreached"),
    [
        ("hidden_states", 0, "l_adapter.2"),
        ("hidden_states", 2, "l_adapter.1"),
        ("hidden_state_1", None, "e_adapter.1"),
        ("hidden_state_0", None, "layer_norm.2"),
    ],
)
def test_a_selection_that_omits_adapters_is_reported(selection, layer, unreached, caplog):
    expert = make_expert(config="le")
    with caplog.at_level(logging.WARNING), torch.no_grad():  # as S3PRL's featurizer calls it
        warn_unreached(expert, [torch.randn(4000)], selection, layer)
    assert "they stay untrained" in caplog.text
    assert not expert.trained
    parameters = expert.injection.parameters(expert)
    assert all(parameter.grad is None for parameter in parameters.values())
    count = int(caplog.text.split("depend on ")[1].split()[0])
    value = expert([torch.randn(4000)])[selection]
    (value[layer] if layer is not None else value).sum().backward() if selection != "hidden_state_0" else None
    assert count == sum(parameter.grad is None for parameter in parameters.values())
    assert any(name.startswith(unreached) and p.grad is None for name, p in parameters.items())


def test_it_is_reported_for_several_processes_too(caplog):
    class Wrapped(torch.nn.Module):
        """As DistributedDataParallel wraps it."""

        def __init__(self):
            super().__init__()
            self.module = make_expert(config="le")

    upstream = Wrapped()
    with caplog.at_level(logging.WARNING), torch.no_grad():
        warn_unreached(upstream, [torch.randn(4000)], "hidden_states", 0)
    assert "they stay untrained" in caplog.text and not upstream.module.trained


@pytest.mark.parametrize("config", ["e_only", "weighted_sum"])
def test_nothing_is_said_where_everything_is_reached(config, caplog):
    with caplog.at_level(logging.WARNING), torch.no_grad():
        warn_unreached(make_expert(config=config), [torch.randn(4000)], "last_hidden_state", None)
    assert not caplog.text


def test_nothing_is_said_of_trained_or_stock_upstreams(caplog):
    expert = make_expert(config="le")
    expert.trained = True
    with caplog.at_level(logging.WARNING):
        warn_unreached(expert, [torch.randn(4000)], "hidden_states", 0)
        warn_unreached(torch.nn.Linear(1, 1), [torch.randn(4000)], "hidden_states", 0)
    assert not caplog.text
