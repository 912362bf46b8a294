"""A model is built without the random numbers that a checkpoint replaces, and nothing else changes."""

import pytest
import torch
from torch import Tensor, nn

import upstream_elp
from tests.toys import tiny_backbone
from upstream_elp.backbones.backbone_file import read_backbone
from upstream_elp.backbones.families import FAMILIES
from upstream_elp.backbones.family import S3PRL
from upstream_elp.base import unfilled
from upstream_elp.base.unfilled import Unfilled, build

S3PRLS = [name for name, family in FAMILIES.items() if family.format == S3PRL]
SHAPE = (64, 96)
"""Larger than unfilled.LEAST."""


class Model(nn.Module):
    """Two linear layers, of which one or both are replaced by zeros."""

    def __init__(self, replaced, numbers=16):
        super().__init__()
        self.first, self.second = nn.Linear(*SHAPE), nn.Linear(*SHAPE)
        self.rest = nn.Parameter(torch.empty(numbers).normal_())
        nn.init.xavier_normal_(self.first.weight)
        nn.init.normal_(self.second.weight)
        with torch.no_grad():
            for name in replaced:
                for tensor in (*getattr(self, name).parameters(), self.rest):
                    tensor.copy_(torch.zeros_like(tensor))


def drawn_after(make):
    """The tensors of what `make` returns, and the random numbers after it."""
    torch.manual_seed(5)
    torch.rand(3)
    model = make()
    return [*model.parameters(), *model.buffers()], torch.rand(700)


def counted(make):
    """`make`, and the list that grows with each call."""
    calls = []
    return lambda: calls.append(1) or make(), calls


def same(one, other):
    (tensors, numbers), (others, other_numbers) = one, other
    return torch.equal(numbers, other_numbers) and all(map(torch.equal, tensors, others))


@pytest.mark.parametrize("large", [False, True], ids=["base", "large"])
@pytest.mark.parametrize("family", S3PRLS)
def test_a_backbone_and_what_is_drawn_next_are_s3prls(family, large, monkeypatch):
    upstream_elp.register()
    from s3prl import hub

    path = tiny_backbone(None, family, dim=96, pre_norm=large, layer_norm_front=large)
    plain = drawn_after(lambda: getattr(hub, FAMILIES[family].hub_local)(ckpt=str(path)))
    skipped = []
    monkeypatch.setattr(unfilled, "Unfilled", lambda: skipped.append(Unfilled()) or skipped[0])
    calls = []
    once = getattr(hub, FAMILIES[family].hub_local)
    monkeypatch.setattr(hub, FAMILIES[family].hub_local, lambda **kwargs: calls.append(1) or once(**kwargs))
    assert same(plain, drawn_after(read_backbone(path).expert))
    assert len(calls) == 1 and skipped[0].draws > 100_000


def test_a_weight_that_is_not_replaced_gets_its_random_numbers():
    plain = drawn_after(lambda: Model(["first"]))
    make, calls = counted(lambda: Model(["first"]))
    assert same(plain, drawn_after(lambda: build(make))) and len(calls) == 2


@pytest.mark.parametrize("keep", ["register_buffer", "__setattr__"])
def test_a_skipped_tensor_that_is_not_a_weight_gets_its_random_numbers(keep):
    def made():
        model = Model(["first", "second"])
        getattr(model, keep)("noise", torch.empty(SHAPE).normal_())
        return model

    torch.manual_seed(5)
    plain = made().noise
    make, calls = counted(made)
    torch.manual_seed(5)
    assert torch.equal(build(make).noise, plain) and len(calls) == 2


def test_a_part_of_a_weight_is_not_the_whole():
    def made():
        model = Model(["first", "second"])
        with torch.no_grad():
            model.first.weight.normal_()
            model.first.weight[:9].copy_(torch.zeros(9, SHAPE[0]))
        return model

    plain = drawn_after(made)
    make, calls = counted(made)
    assert same(plain, drawn_after(lambda: build(make))) and len(calls) == 2


def test_replaced_weights_are_not_filled():
    make, calls = counted(lambda: Model(["first", "second"]))
    assert same(drawn_after(make), drawn_after(lambda: build(make))) and len(calls) == 2  # one each
    with Unfilled() as skipped:
        Model(["first"])
    assert skipped.draws == 4 * SHAPE[0] * SHAPE[1]  # two of them twice


def test_a_random_number_that_waits_for_its_pair_is_the_plain_one():
    make, calls = counted(lambda: Model(["first", "second"], numbers=3))
    assert same(drawn_after(make), drawn_after(lambda: build(make))) and len(calls) == 3


def test_a_torch_that_draws_otherwise_fills_everything(monkeypatch):
    make, calls = counted(lambda: Model(["first", "second"]))
    plain = drawn_after(make)
    monkeypatch.setattr(unfilled, "words", lambda numel, normal: 2 * numel)
    assert same(plain, drawn_after(lambda: build(make))) and len(calls) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(SHAPE, dtype=torch.float64),
        lambda: torch.empty(SHAPE[::-1]).T,
        lambda: torch.empty(2, *SHAPE),
        lambda: torch.empty(8, 8),
    ],
    ids=["double", "transposed", "three dimensions", "small"],
)
@pytest.mark.parametrize("fill", [Tensor.uniform_, Tensor.normal_, nn.init.kaiming_uniform_, nn.init.xavier_normal_])
def test_other_tensors_are_filled(make, fill):
    torch.manual_seed(1)
    expected = fill(make())
    torch.manual_seed(1)
    with Unfilled() as skipped:
        found = fill(make())
    assert torch.equal(found, expected) and skipped.draws == 0


def test_another_generator_is_used():
    with Unfilled():
        found = torch.empty(SHAPE).uniform_(generator=torch.Generator().manual_seed(2))
    assert torch.equal(found, torch.empty(SHAPE).uniform_(generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("shape", [(1, 16), (1, 17), (64, 96), (63, 97)])
@pytest.mark.parametrize("fill", [Tensor.uniform_, Tensor.normal_])
def test_the_words_that_torch_draws_are_counted(shape, fill):
    tensor = torch.empty(shape)
    generator = torch.Generator().manual_seed(4)
    expected = unfilled.twister.advanced(
        generator.get_state(), unfilled.words(tensor.numel(), normal=fill is Tensor.normal_)
    )
    fill(tensor, generator=generator)
    assert torch.equal(generator.get_state(), expected)
