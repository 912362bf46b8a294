"""A single encoder layer: what LoRA and an output site cost in addition to their arithmetic, forward and backward.

The layers are those that the package makes: layer 1 of a stock expert, of one with LoRA on q and v, and of one with an
E-adapter after the FFN. They take turns on the same input, which requires a gradient, as it does above other adapters.

The targets are: with LoRA, at most 1.10 times the plain layer; with the site, at most 1.05 times the plain layer plus
the adapter by itself, which runs on a tensor of the same shape.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared import Clock, stock_expert, take_turns
from torch import Tensor, nn

LAYER = 1
WAVES, FRAMES = 4, 200
"""800 frames in total."""
CONFIGS = {
    "lora": {"features": "layers", "lora": {"targets": ["q", "v"], "rank": 8, "layers": [LAYER]}},
    "site": {"features": "layers", "e_adapter": {"sites": ["ffn"], "bottleneck": "1/3", "layers": [LAYER]}},
}
LORA_TARGET, SITE_TARGET = 1.10, 1.05


def measure_layer(checkpoint: Path, *, family: str, device: str, layer_repeats: int, **_: Any) -> dict[str, Any]:
    """Time the layers and the adapter.

    Returns:
        ``plain``, ``lora``, ``site`` and ``adapter``, each with its seconds per round.
    """
    import torch

    from upstream_elp.adapters.config import load_config
    from upstream_elp.backbones.recognition import find_family
    from upstream_elp.upstream.expert import ElpExpert

    def stock() -> nn.Module:
        return stock_expert(family, checkpoint).eval().requires_grad_(False)

    torch.manual_seed(0)
    plain = stock().to(device)
    known, path = find_family(plain)
    layers = {"plain": plain.get_submodule(f"{path}.{known.layers}.{LAYER}")}
    x, options = _layer_input(plain, layers["plain"], device)
    for name, config in CONFIGS.items():
        expert = ElpExpert(stock(), load_config(config)).to(device)
        layers[name] = expert.backbone.get_submodule(f"{path}.{known.layers}.{LAYER}")
    adapter = layers["site"].get_submodule(known.ffn_output).adapters["e_adapter"]
    steps = {name: _step(layer, x, options) for name, layer in layers.items()}
    steps["adapter"] = _step(adapter, x, {})
    return take_turns(steps, Clock(device), repeats=layer_repeats, warmup=2)


def _layer_input(expert: nn.Module, layer: nn.Module, device: str) -> tuple[Tensor, dict[str, Any]]:
    """A layer's inputs in a forward pass: x (frames, batch, dim), which requires a gradient, and the rest."""
    import torch

    seen: dict[str, Any] = {}

    def note(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        seen.update(kwargs, x=args[0])

    handle = layer.register_forward_pre_hook(note, with_kwargs=True)
    samples = 400 + 320 * (FRAMES - 1)
    with torch.no_grad():
        expert([torch.randn(samples, device=device) for _ in range(WAVES)])
    handle.remove()
    x = seen.pop("x")
    if {*x.shape[:2]} != {FRAMES, WAVES}:
        raise ValueError(f"the layer's input must be {FRAMES} frames of {WAVES} waves, but is {tuple(x.shape)}")
    return x.detach().clone().requires_grad_(True), seen


def _step(module: nn.Module, x: Tensor, options: dict[str, Any]) -> Callable[[], None]:
    """Forward and backward of one module, without keeping its gradients."""
    import torch

    gradient = torch.randn_like(x)

    def step() -> None:
        output = module(x, **options)
        (output[0] if isinstance(output, tuple) else output).backward(gradient)
        module.zero_grad(set_to_none=True)
        x.grad = None

    return step


def layer_table(times: dict[str, list[float]]) -> str:
    """A Markdown table with each ratio's median and quartiles over the rounds, and its target."""
    from tabulate import tabulate

    together = [plain + own for plain, own in zip(times["plain"], times["adapter"], strict=True)]
    checks = (
        ("LoRA on q and v / plain layer", "lora", times["plain"], LORA_TARGET),
        ("layer with E-adapter / (plain layer + adapter)", "site", together, SITE_TARGET),
    )
    rows = []
    for text, name, base, target in checks:
        ratios = [own / other for own, other in zip(times[name], base, strict=True)]
        low, middle, high = quartiles(ratios)
        seconds = f"{statistics.median(times[name]):.3f} / {statistics.median(base):.3f}"
        met = "yes" if middle <= target else "no"
        rows.append((text, seconds, f"{middle:.3f} ({low:.3f}-{high:.3f})", f"{target:.2f}", met))
    head = ["one layer, 4 x 200 frames", "s", "ratio (quartiles)", "at most", "met"]
    return tabulate(rows, headers=head, tablefmt="github", disable_numparse=True)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
