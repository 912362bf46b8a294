"""Networks and initialisations that several methods share."""

from torch import Tensor, nn

from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.primitives import output_site

REFERENCE_STD = 1e-3
"""Standard deviation of the initial weights in the L-E reference (sinhat98/adapter-wavlm, ``_init_weights``)."""
BERT_STD = 0.02
"""Standard deviation of fairseq's ``init_bert_params``. Our reading: it may not be applied to these adapters there."""
ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


def reference_init(linear: nn.Linear) -> None:
    """Initialise as in the L-E reference: weight N(0, 1e-3 squared), bias 0."""
    nn.init.normal_(linear.weight, std=REFERENCE_STD)
    nn.init.zeros_(linear.bias)


def bert_linear(in_dim: int, out_dim: int) -> nn.Linear:
    """Return a linear layer with weight N(0, 0.02 squared) and bias 0."""
    linear = nn.Linear(in_dim, out_dim)
    nn.init.normal_(linear.weight, std=BERT_STD)
    nn.init.zeros_(linear.bias)
    return linear


class PlainBottleneck(nn.Module):
    """``A(f) = W_up act(W_down f + b_down) + b_up``, without a norm and without a skip connection.

    Args:
        dim: width of the block's output.
        bottleneck: inner width.
        activation: ``gelu`` or ``relu``.
        init: ``reference`` or ``zero`` (W_up is zero, which adds nothing).

    Shape:
        (..., dim) to (..., dim).
    """

    def __init__(self, dim: int, bottleneck: int, *, activation: str = "gelu", init: str = "reference") -> None:
        super().__init__()
        self.down = bert_linear(dim, bottleneck)
        self.activation = ACTIVATIONS[activation]()
        self.up = bert_linear(bottleneck, dim)
        if init == "zero":
            nn.init.zeros_(self.up.weight)

    def forward(self, f: Tensor) -> Tensor:
        return self.up(self.activation(self.down(f)))


def add_to_output(target: Target, component: str, index: int, block: str, adapter: nn.Module) -> None:
    """Add ``adapter(f)`` to ``dropout(f)``, where f is the output of a block, and declare the adapter."""
    attribute = getattr(target.family, f"{block}_output")
    output_site(target.layer(index), attribute).additions[component] = adapter
    path = f"{target.layer_path(index)}.{attribute}.additions.{component}"
    target.declare_module(component, f"{index}.{block}", path)
