"""E-adapters on block outputs inside the encoder layers, and L-adapters from the layers to the head."""

from torch import Tensor, nn

from upstream_elp.adapters.contract import Target
from upstream_elp.adapters.options import EAdapter, LAdapter
from upstream_elp.adapters.primitives import output_site
from upstream_elp.adapters.selection import resolve_size

REFERENCE_STD = 1e-3
"""Standard deviation of the reference's initial weights (sinhat98/adapter-wavlm, ``_init_weights``)."""

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


def reference_init(linear: nn.Linear) -> None:
    """Initialise as the L-E reference does: weight N(0, 1e-3 squared), bias 0."""
    nn.init.normal_(linear.weight, std=REFERENCE_STD)
    nn.init.zeros_(linear.bias)


class Bottleneck(nn.Module):
    """``E(x) = x + LN(W_up act(W_down x + b_down) + b_up)`` (arXiv 2212.02780; the skip is added after the norm).

    Args:
        dim: width of the block's output.
        bottleneck: inner width.
        activation: ``gelu`` or ``relu``.
        init: ``reference`` (weights N(0, 1e-3), norm weight 1) or ``zero`` (norm weight 0: an exact identity).
        eps: the norm's epsilon; the reference takes its backbone's, 1e-5.

    Shape:
        (..., dim) to (..., dim).
    """

    def __init__(
        self, dim: int, bottleneck: int, *, activation: str = "gelu", init: str = "reference", eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.down = nn.Linear(dim, bottleneck)
        self.activation = ACTIVATIONS[activation]()
        self.up = nn.Linear(bottleneck, dim)
        self.norm = nn.LayerNorm(dim, eps=eps)
        reference_init(self.down)
        reference_init(self.up)
        if init == "zero":
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.up(self.activation(self.down(x))))


class LayerAdapter(nn.Module):
    """L-adapter: ``L(x) = LN(act(W x + b))`` from one encoder layer's output to the head (arXiv 2212.02780).

    Args:
        dim: width of the encoder.
        out_dim: width that the head sees.
        activation: ``gelu`` or ``relu``.
        eps: the norm's epsilon.

    Shape:
        (batch, frames, dim) to (batch, frames, out_dim).
    """

    def __init__(self, dim: int, out_dim: int, *, activation: str = "gelu", eps: float = 1e-5) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, out_dim)
        self.activation = ACTIVATIONS[activation]()
        self.norm = nn.LayerNorm(out_dim, eps=eps)
        reference_init(self.projection)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.projection(x)))


def inject_e(target: Target, options: EAdapter) -> None:
    """Put a bottleneck at each selected output site."""
    for index, size in options.sizes(target.injection.layers, target.dim).items():
        for block in options.sites:
            attribute = getattr(target.family, f"{block}_output")
            site = output_site(target.layer(index), attribute)
            site.adapters["e_adapter"] = Bottleneck(
                target.dim, size, activation=options.activation, init=options.init, eps=target.norm_eps
            )
            path = f"{target.layer_path(index)}.{attribute}.adapters.e_adapter"
            target.declare_module("e_adapter", f"{index}.{block}", path)


def inject_l(target: Target, options: LAdapter) -> None:
    """Give the expert one L-adapter per selected layer; the expert applies them to the hidden states."""
    size = resolve_size(options.dim, target.dim)
    layers = target.select(options.layers)
    target.injection.l_layers = layers
    target.expert.l_adapters = nn.ModuleDict(
        {
            str(index): LayerAdapter(target.dim, size, activation=options.activation, eps=target.norm_eps)
            for index in layers
        }
    )
    for index in layers:
        target.declare_module("l_adapter", str(index), f"l_adapters.{index}")
