"""The three models of a run, as seen by an optimizer."""

import torch
from torch import nn


class Declared:
    def __init__(self, component):
        self.component = component


class Injection:
    declared = {"e_adapter.0.w": Declared("e_adapter"), "l_adapter.0.w": Declared("l_adapter")}  # noqa: RUF012

    def parameters(self, expert):
        return {"e_adapter.0.w": expert.e.weight, "l_adapter.0.w": expert.l.weight}


class Upstream(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.l, self.frozen = (nn.Linear(2, 2, bias=False) for _ in range(3))
        self.frozen.requires_grad_(False)
        self.injection = Injection()


class Featurizer(nn.Module):
    def __init__(self):
        super().__init__()
        self.name = "Featurizer"
        self.weights = nn.Parameter(torch.zeros(3))


def models():
    """Upstream, featurizer and head."""
    return [Upstream(), Featurizer(), nn.Linear(2, 2)]
