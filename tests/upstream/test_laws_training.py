"""Laws over all configurations and backbones: what training reaches, what it does not touch, and padding."""

import zlib

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from tests.experts import (
    CONFIGS,
    changed,
    distance,
    in_float64,
    make_expert,
    random_loss,
    snapshot,
    states_of,
    stock_expert,
    train_step,
    waves,
)
from tests.toys import BACKBONES, LAW_BACKBONES, SEE_PADDING
from upstream_elp.adapters.config import load_config
from upstream_elp.audio.front import STANDARD
from upstream_elp.backbones.families import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
WAVS = waves(2900, 4000)
WITH_KEY_BIASES = [
    name
    for name, raw in CONFIGS.items()
    if any(method.zero_gradients(FAMILIES["wavlm"]) for method in load_config(raw).methods.values())
]
INVARIANT = 1e-6


def _groups(expert):
    """Declared parameters by site: an adapter, a replaced tensor, or a fine-tuned layer; only those with an effect."""
    groups = {}
    parameters = expert.injection.parameters(expert)
    for name, item in expert.injection.declared.items():
        if item.zero_gradient:
            continue
        site = next((path for path in expert.injection.sites if item.path.startswith(f"{path}.")), None)
        groups.setdefault(site or ".".join(name.split(".")[:2]), []).append(parameters[name])
    return groups


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_every_site_changes_the_output(config, backbone, law):
    law("sensitivity at every single site")
    expert = make_expert(backbone, config, noise=0.1)
    groups = _groups(expert)
    idle = {item.path for item in expert.injection.declared.values() if item.zero_gradient}
    assert {site for site in expert.injection.sites if not any(path.startswith(site) for path in idle)} <= set(groups)
    reference = states_of(expert, WAVS)
    generator = torch.Generator().manual_seed(3)
    for site, parameters in groups.items():
        saved = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        assert distance(states_of(expert, WAVS), reference) > 1e-5, site
        with torch.no_grad():
            for parameter, value in zip(parameters, saved, strict=True):
                parameter.copy_(value)
    assert distance(states_of(expert, WAVS), reference) == 0


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_declared_tensors_train_and_no_other(config, backbone, law):
    law("gradients reach the declared tensors and no other")
    expert = make_expert(backbone, config, noise=0.1)
    if not expert.injection.declared:
        assert not any(parameter.requires_grad for parameter in expert.parameters())
        return
    before = snapshot(expert)
    train_step(expert.train(), WAVS)
    declared = {item.path: item for item in expert.injection.declared.values()}
    for path, parameter in expert.named_parameters():
        if path not in declared:
            assert parameter.grad is None and not parameter.requires_grad, path
        elif not declared[path].zero_gradient:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, path
    zero = {item.path for item in declared.values() if item.zero_gradient}
    assert all("k_proj" in path and "bias" in path for path in zero)
    assert declared.keys() - zero <= set(changed(expert, before)) <= declared.keys()


class GraphStart(TorchFunctionMode):
    """Finds operations whose result is in the graph although no trained tensor has been used up to then."""

    def __init__(self, trained):
        super().__init__()
        self.trained = {id(parameter) for parameter in trained}
        self.started = False
        self.too_early = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not self.started:
            used = {id(tensor) for tensor in tree_leaves((args, kwargs))} & self.trained
            made = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor) and id(t) not in self.trained]
            if any(tensor.requires_grad for tensor in made):
                self.started = True
                if not used:
                    self.too_early.append(getattr(func, "__name__", str(func)))
        return result


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_the_graph_starts_at_the_lowest_trained_tensor(config, backbone, checkpointing, law):
    """Nothing that runs before the first trained tensor is in the graph, so nothing of it is kept in memory."""
    law("no graph below the lowest trained tensor")
    expert = make_expert(backbone, config, noise=0.1).train()
    if checkpointing:
        expert.checkpoint_layers()
    start = GraphStart(expert.injection.parameters(expert).values())
    saved = []

    def note(tensor):
        if not start.started:
            saved.append(tensor)
        return tensor

    with start, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        states = expert(WAVS)["hidden_states"]
    assert not start.too_early
    assert any(state.requires_grad for state in states) is start.started is bool(expert.injection.declared)
    # what the operation itself saved that started the graph; of a checkpointed layer these are its inputs
    assert len(saved) <= (12 if start.started else 0)
    leaves = _leaves(state.grad_fn for state in states if state.grad_fn is not None)
    assert leaves <= start.trained


def _leaves(functions):
    """Ids of the tensors at the ends of a graph."""
    found, seen, queue = set(), set(), list(functions)
    while queue:
        function = queue.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        if hasattr(function, "variable"):
            found.add(id(function.variable))
        queue.extend(following for following, _ in function.next_functions)
    return found


def test_a_graph_that_starts_too_early_is_noticed():
    expert = make_expert("hf_hubert-base", "le").train()
    expert.backbone.model.feature_extractor._requires_grad = True  # its input then requires gradients in training
    expert.backbone.model.feature_extractor.train()
    start = GraphStart(expert.injection.parameters(expert).values())
    with start:
        expert(WAVS)
    assert start.too_early


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
def test_only_l_adapters_leave_the_encoder_without_a_graph(backbone):
    expert = make_expert(backbone, "l_plain", noise=0.1).train()
    result = expert(WAVS)
    assert not any(state.requires_grad for state in result["backbone_hidden_states"])
    assert all(state.requires_grad for state in result["hidden_states"])


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("config", WITH_KEY_BIASES)
def test_key_biases_have_no_gradient(config, backbone, law):
    expert = make_expert(backbone, config)
    names = [name for name, item in expert.injection.declared.items() if item.zero_gradient]
    assert names
    law("zero gradients are zero")
    in_float64(expert)
    random_loss(expert(waves(4000, 2900, dtype=torch.float64))["hidden_states"]).backward()
    parameters = expert.injection.parameters(expert)
    for name in names:
        query = parameters[name.replace("k_proj", "q_proj")]
        assert parameters[name].grad.abs().max() < 1e-10 * query.grad.abs().max(), name


def _drawn_lengths(case, *, pairs=3):
    """Pairs of lengths in samples, different for every case; one of the two is padded."""
    generator = torch.Generator().manual_seed(zlib.crc32(case.encode()))
    return torch.randint(2500, 9000, (pairs, 2), generator=generator).tolist()


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_padding_matters_only_where_it_does_for_the_plain_backbone(config, backbone, law):
    """Elsewhere, no factor bounds the adapted one's difference: recipes/bench/padding.py measures it."""
    expert, plain = in_float64(make_expert(backbone, config)), in_float64(stock_expert(backbone))
    for lengths in _drawn_lengths(f"{config} {backbone}"):
        ours, theirs = _both_differences(expert, plain, lengths)
        if max(theirs) <= INVARIANT:
            law("padded batch == single waves, where it is in the plain backbone")
            assert max(ours) <= INVARIANT, lengths


@pytest.mark.parametrize("backbone", LAW_BACKBONES)
@pytest.mark.parametrize("config", CONFIGS)
def test_adapters_let_no_padding_in(config, backbone, law):
    """If the backbone itself does not see padding and its mask is exact, padding does not matter to any adapter."""
    law("padded batch == single waves, without what sees padding")
    expert = in_float64(make_expert(backbone, config, noise=0.05))
    plain = in_float64(stock_expert(backbone))
    for module in (expert, plain):
        taken = _blind_to_padding(module, backbone)
        assert taken or backbone not in SEE_PADDING
    for lengths in _drawn_lengths(f"{backbone} {config}"):
        ours, theirs = _both_differences(expert, plain, lengths)
        assert max(theirs) <= INVARIANT and max(ours) <= INVARIANT, lengths


def _blind_to_padding(module, backbone):
    """Remove group norms over time and data2vec's positional convolutions; make S3PRL's masks exact."""
    seeing = [
        (owner, name)
        for owner in module.modules()
        for name, part in owner.named_children()
        if isinstance(part, nn.GroupNorm) or (name == "pos_conv" and backbone.startswith("data2vec"))
    ]
    for owner, name in seeing:
        setattr(owner, name, nn.Identity())
    for model in [model for model in module.modules() if hasattr(model, "forward_padding_mask")]:
        model.forward_padding_mask = _exact_mask
    return seeing


def _exact_mask(features, padding_mask):
    frames = STANDARD.frame_len((~padding_mask).sum(dim=1))
    return torch.arange(features.shape[1]) >= frames.unsqueeze(1)


def _both_differences(expert, plain, lengths):
    wavs = waves(*lengths, dtype=torch.float64)
    frames = STANDARD.frame_len(torch.tensor(lengths)).tolist()
    ours = [
        difference
        for key in ("backbone_hidden_states", "hidden_states")
        for difference in _padding_differences(expert, wavs, frames, key)
    ]
    return ours, _padding_differences(plain, wavs, frames, "hidden_states")


def _padding_differences(expert, wavs, frames, key):
    """Largest relative difference per utterance between a state computed separately and one computed in the batch."""
    together = states_of(expert, wavs, key)
    differences = []
    for index, (wav, length) in enumerate(zip(wavs, frames, strict=True)):
        single = states_of(expert, [wav], key)
        assert all(state.shape[1] == length for state in single)
        relative = [float((a[0] - t[index, :length]).norm() / a.norm()) for a, t in zip(single, together, strict=True)]
        differences.append(max(relative))
    return differences
