"""Experts on tiny backbones: the cases that the laws run over, and what the tests do to them."""

import torch
from torch import nn
from torch.nn import functional as F

import upstream_elp
from tests.toys import BACKBONES, tiny_backbone
from upstream_elp.adapters.config import load_config, preset_names
from upstream_elp.adapters.registry import method_names
from upstream_elp.backbones.backbone_file import read_backbone, read_folder
from upstream_elp.upstream.expert import ElpExpert

#: presets that are another configuration here with other layers or targets, or with fewer of its methods
SELECTIONS = {"conventional_top4", "conventional_top6", "ep", "lp", "p_only", "layernorm", "adapterbias_paper"}
SELECTIONS |= {"lora_qv8", "topk_finetune", "full_finetune_nocnn"}
#: presets whose methods are cases of their own
SELECTIONS |= {"chapter", "prompt"}
#: what no preset shows: the exact identity, the P-adapter's options, layer selections, methods together
SPECIAL_CASES = {
    "le-zero": {"base": "le", "e_adapter": {"init": "zero"}},
    "conventional-zero": {"base": "conventional", "e_adapter": {"init": "zero"}},
    "elp-start": {"base": "elp", "p_adapter": {"position": "start"}},
    "elp-cnn": {"base": "elp", "p_adapter": {"site": "cnn"}},
    "elp-start-cnn": {"base": "elp", "p_adapter": {"position": "start", "site": "cnn", "length": 3}},
    "p-single-vector": {"features": "layers", "p_adapter": {"length": 1}},
    "le-relu": {"base": "le", "e_adapter": {"activation": "relu"}, "l_adapter": {"activation": "relu"}},
    "le-some-layers": {
        "base": "le",
        "e_adapter": {"layers": [1], "sites": ["attention", "ffn"]},
        "l_adapter": {"layers": "top:2", "dim": 16},
        "layer_norm": {"layers": "1-2", "norms": ["ffn"]},
    },
    "top-layer-tuned": {"features": "last", "encoder": {"layers": "top:1"}},
    "top-layers-and-front-tuned": {"base": "topk_finetune", "e_adapter": {"layers": [0], "init": "zero"}},
    "lora-everywhere": {
        "features": "last",
        "lora": {"targets": ["q", "k", "v", "out", "fc1", "fc2"], "rank": 3, "alpha": 6, "layers": "top:2"},
    },
    "bottlenecks-together": {
        "features": "layers",
        "e_adapter": {"sites": ["attention"], "layers": [0, 2]},
        "houlsby": {"sites": ["attention", "ffn"], "bottleneck": "1/4"},
        "adapter_bias": {"layers": "1-2", "input": "output"},
    },
    "many-methods": {
        "features": "layers",
        "e_adapter": {"sites": ["attention", "ffn"], "init": "zero"},
        "houlsby": {"sites": ["attention", "ffn"], "bottleneck": "1/4", "init": "zero", "activation": "relu"},
        "adapter_bias": {"layers": "1-2", "init": "zero"},
        "lora": {"targets": ["k", "fc2"]},
        "bias": {"layers": ":-1"},
    },
    "parallel-zero-with-others": {
        "base": "parallel",
        "parallel": {"init": "zero", "layers": "1-2", "activation": "relu"},
        "e_adapter": {"init": "zero"},
        "cnn": {"layers": [0, 3, 6], "scale": 1.0},
    },
    "prefixes-together": {
        "base": "elp",
        "parallel": {"layers": [1]},
        "deep_prompt": {"length": 3, "layers": "1-2", "init": "normal"},
        "prefix_kv": {"length": 2, "layers": ":-1"},
    },
    "sizes-per-layer": {
        "features": "layers",
        "e_adapter": {"sites": ["attention", "ffn"], "bottleneck": {":-1": 4, "top:1": "1/2"}},
        "houlsby": {"bottleneck": {"1-2": 12, 0: "1/4"}, "activation": "relu"},
        "parallel": {"layers": [0, 2], "bottleneck": {0: 5, 2: 8}},
        "lora": {"targets": ["q", "fc2"], "rank": {"top:2": 3, "0": 1}, "alpha": 6},
        "prefix_kv": {"length": {":2": 2, "2:": 1}},
        "deep_prompt": {"length": {1: 1, 2: 3}, "init": "normal"},
    },
    "dropout-on": {"base": "e_only", "backbone_dropout": True},
}


def at_defaults(method: str) -> dict:
    """A configuration of one method with its default options."""
    return {"features": "l" if method == "l_adapter" else "layers", method: {}}


def catalogue() -> dict[str, dict]:
    """The cases of the laws: presets, special cases, and every registered method at its defaults.

    Methods come from the registry, those of installed packages too, so nobody has to name a method here. A method that
    a preset shows at its defaults has that preset's name, any other is called ``NAME-defaults``.
    """
    cases = {name: {"base": name} for name in preset_names() if name not in SELECTIONS}
    shown = [load_config(case) for case in cases.values()]
    for method in method_names():
        default = load_config(at_defaults(method))
        if not any((config.features, config.methods) == (default.features, default.methods) for config in shown):
            cases[f"{method}-defaults"] = at_defaults(method)
    return cases | SPECIAL_CASES


CONFIGS = catalogue()


def backbone_path(backbone: str, **options):
    """File or folder of a tiny backbone; `backbone` is a key of BACKBONES."""
    family, pre_norm, layer_norm_front = BACKBONES[backbone]
    return tiny_backbone(None, family, pre_norm=pre_norm, layer_norm_front=layer_norm_front, **options)


def stock_expert(backbone: str = "wavlm-base", **options) -> nn.Module:
    """The plain expert of a tiny backbone, S3PRL's own or ours for Hugging Face's, in eval mode and frozen."""
    upstream_elp.register()
    path = backbone_path(backbone, **options)
    found = read_folder(str(path)) if path.is_dir() else read_backbone(path)
    return found.expert().eval().requires_grad_(False)


def make_expert(backbone: str = "wavlm-base", config="elp", *, seed=0, check=False, noise=0.0, **options) -> ElpExpert:
    """Our expert on a tiny backbone; `config` is a key of CONFIGS or a mapping; `noise` moves it away from its init."""
    torch.manual_seed(seed)
    raw = CONFIGS[config] if isinstance(config, str) else config
    expert = ElpExpert(stock_expert(backbone, **options), load_config(raw), check=check)
    if noise:
        add_noise(expert, noise)
    return expert.eval()


def collected(backbone: nn.Module) -> list:
    """Hidden states that the hooks of a stock expert have kept."""
    if hasattr(backbone, "taps"):
        return [tap.state for tap in backbone.taps if tap.state is not None]
    return getattr(backbone, "_hook_hiddens", [])  # an expert of another package need not keep any


def add_noise(expert: ElpExpert, std: float = 0.1, seed: int = 1) -> None:
    """Add noise to every declared tensor, so that no gradient is zero because of an initial zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in expert.injection.parameters(expert).values():
            parameter.add_(std * torch.randn(parameter.shape, generator=generator).to(parameter))


def waves(*lengths: int, seed: int = 0, dtype=torch.float32) -> list[torch.Tensor]:
    """Noise waves of the given lengths in samples."""
    generator = torch.Generator().manual_seed(seed)
    return [(0.1 * torch.randn(length, generator=generator)).to(dtype) for length in lengths]


def in_float64(module: nn.Module) -> nn.Module:
    """Convert to float64 throughout: S3PRL's layers otherwise round GELU and CNN norms to float32."""
    module.double()
    for part in module.modules():
        if callable(getattr(part, "activation_fn", None)):
            part.activation_fn = F.gelu
        if type(part).__name__ == "Fp32LayerNorm":
            part.__class__ = nn.LayerNorm
        if type(part).__name__ == "Fp32GroupNorm":
            part.__class__ = nn.GroupNorm
    return module


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all parameters and buffers."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


def changed(module: nn.Module, before: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that are no longer bit-equal to a snapshot."""
    after = snapshot(module)
    assert after.keys() == before.keys()
    return [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]


def states_of(expert: nn.Module, wavs: list[torch.Tensor], key: str = "hidden_states") -> list[torch.Tensor]:
    """States without gradients."""
    with torch.no_grad():
        return [state.clone() for state in expert(wavs)[key]]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    """Whether two lists of states are bit-equal."""
    return len(first) == len(second) and all(map(torch.equal, first, second))


def distance(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    """Largest difference between two lists of states."""
    return max((a - b).detach().abs().max().item() for a, b in zip(first, second, strict=True))


def random_loss(states: list[torch.Tensor], seed: int = 2) -> torch.Tensor:
    """A random projection of all states."""
    generator = torch.Generator().manual_seed(seed)
    return sum((s * torch.randn(s.shape, generator=generator).to(s)).sum() for s in states)


def train_step(expert: nn.Module, wavs: list[torch.Tensor], lr: float = 0.1) -> torch.Tensor:
    """One Adam step over all of the expert's parameters, as S3PRL's runner makes it; returns the loss."""
    optimizer = torch.optim.Adam(expert.parameters(), lr=lr)
    loss = random_loss(expert(wavs)["hidden_states"])
    loss.backward()
    optimizer.step()
    return loss.detach()
