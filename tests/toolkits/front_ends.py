"""What every toolkit's front end with one of our upstreams must do; each test file brings the toolkit's own class."""

import copy

import torch
from torch import nn

import upstream_elp
from tests.experts import changed, snapshot
from tests.toys import tiny_backbone

PRESETS = ("le", "elp", "e_only", "lora_qv8")
SAMPLES = (8000, 5000)


def options(preset="le", **more):
    """The arguments of `s3prl.nn.S3PRLUpstream` for a tiny backbone, under its own names."""
    path = str(tiny_backbone(None, "wavlm"))
    return {"name": "elp_custom", "path_or_url": path, "extra_conf": {"model_config": preset}, **more}


def batch():
    """Two waves of different lengths, padded, and their lengths in samples."""
    torch.manual_seed(0)
    waves = torch.zeros(len(SAMPLES), max(SAMPLES))
    for wave, samples in zip(waves, SAMPLES, strict=True):
        wave[:samples] = 0.1 * torch.randn(samples)
    return waves, torch.tensor(SAMPLES)


def features(front):
    """The features of :func:`batch`, from a front end called as ESPnet's and WeSpeaker's are."""
    return front(*batch())[0]


def check_front_end(front):
    """ESPnet's and WeSpeaker's front ends return frames of 20 ms and their numbers, and train adapters only."""
    values, lengths = front(*batch())
    assert values.shape == (2, 25, front.output_size()) and lengths.tolist() == [25, 16]
    check_training(front, features)


def check_kept(build, folder):
    """A folder and a state dict give a front end built in the same way the same features."""
    check_saving(noisy(build()), build(), features, folder)
    check_state(noisy(build()), build(), features)


def noisy(front):
    """Move the adapters away from their initial values."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in upstream_elp.find_adapted(front).adapter_parameters().values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return front


def check_training(front, features):
    """Train a step of a front end and a head as a toolkit does: only adapters, layer weights and the head learn.

    Args:
        front: the toolkit's front end.
        features: calls it; returns (batch, frames, dim).
    """
    adapted = upstream_elp.find_adapted(front)
    noisy(front)
    model = nn.ModuleDict({"front": front, "head": nn.LazyLinear(3)}).train()
    model["head"](features(front)).sum().backward()  # makes the head's shape
    model.zero_grad()
    declared = adapted.adapter_parameters()
    outside = {id(each) for each in model.parameters()} - {id(each) for each in adapted.parameters()}
    before = snapshot(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)  # every parameter, as toolkits pass them
    loss = model["head"](features(front)).square().mean()
    loss.backward()
    silent = [name for name, each in declared.items() if each.grad is None or not each.grad.abs().max() > 0]
    assert silent == [], "no gradient reaches these"
    ours = {id(each) for each in declared.values()} | outside
    stray = [name for name, each in model.named_parameters() if each.grad is not None and id(each) not in ours]
    assert stray == [], "a gradient reaches these"
    optimizer.step()
    moved = set(changed(model, before))
    names = {name for name, each in model.named_parameters() if id(each) in ours}
    assert {name for name, each in model.named_parameters() if id(each) in set(map(id, declared.values()))} <= moved
    assert moved <= names, "these are frozen, but moved"


def check_saving(front, fresh, features, folder):
    """A folder written from a trained front end gives a fresh one the same features.

    Args:
        front: the toolkit's front end, trained.
        fresh: one that was built in the same way.
        features: calls it.
        folder: where the adapter goes.
    """
    front, fresh = front.eval(), fresh.eval()
    for (name, value), (_, other) in zip(_outside(fresh), _outside(front), strict=True):
        assert value.shape == other.shape, name
        value.data.copy_(other.data)  # layer weights, which are the toolkit's
    with torch.no_grad():
        wanted, plain = features(front), features(fresh)
        assert not torch.equal(wanted, plain)
        upstream_elp.find_adapted(front).save_adapter(folder)
        upstream_elp.find_adapted(fresh).load_adapter(folder)
        assert torch.equal(features(fresh), wanted)


def check_state(front, fresh, features):
    """A state dict contains no frozen tensor of the backbone, and gives a fresh front end the same features."""
    adapted = upstream_elp.find_adapted(front)
    state = copy.deepcopy(front.state_dict())
    frozen = sum(each.numel() for each in adapted.parameters() if not each.requires_grad)
    assert sum(value.numel() for value in state.values()) < frozen
    result = fresh.load_state_dict(state)
    assert not result.missing_keys and not result.unexpected_keys
    with torch.no_grad():
        assert torch.equal(features(fresh.eval()), features(front.eval()))


def _outside(front):
    """Parameters of a front end that are not the upstream's."""
    inside = {id(each) for each in upstream_elp.find_adapted(front).parameters()}
    return [(name, each) for name, each in front.named_parameters() if id(each) not in inside]
