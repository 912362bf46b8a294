"""E-adapter: a bottleneck on the output of a block inside an encoder layer."""

from torch import Tensor, nn

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


class OutputSite(nn.Module):
    """Stands where a parameter-free dropout stood: applies it, then the site's adapters in order.

    The dropout has no tensors, so the backbone's state-dict keys do not change.
    """

    def __init__(self, dropout: nn.Module) -> None:
        super().__init__()
        self.dropout = dropout
        self.adapters = nn.ModuleDict()
        self.enabled = True

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        if self.enabled:
            for adapter in self.adapters.values():
                x = adapter(x)
        return x


class ReplacedTensor(nn.Module):
    """Parametrization that puts a trainable copy in place of a frozen tensor, and steps aside when switched off.

    Args:
        original: the frozen tensor, which is copied.
    """

    def __init__(self, original: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(original.detach().clone())
        self.enabled = True

    def forward(self, original: Tensor) -> Tensor:
        return self.value if self.enabled else original
