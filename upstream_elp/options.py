"""The methods' options: what a user may say of each, checked against a model and counted from shapes alone.

This module knows neither torch nor S3PRL. A method is one class here, one injector in :mod:`upstream_elp.adapters`, and
one entry in :data:`METHODS` and in :data:`upstream_elp.inject.INJECTORS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from upstream_elp.errors import ElpError
from upstream_elp.layers import resolve_layers, resolve_size

if TYPE_CHECKING:
    from upstream_elp.shapes import Architecture

Layers = str | int | list[int]
"""A selection as in :func:`upstream_elp.layers.resolve_layers`."""
Size = str | int
"""Absolute, or a fraction of the model's width as in :func:`upstream_elp.layers.resolve_size`."""
Activation = Literal["gelu", "relu"]
Init = Literal["reference", "zero"]
Block = Literal["attention", "ffn"]
CNN_BLOCKS = 7
"""Blocks of the waveform front end in every family."""
Linear = Literal["q", "k", "v", "out", "fc1", "fc2"]
Scope = Literal["layers", "no_cnn", "all"]


@dataclass(frozen=True)
class EAdapter:
    """E-adapters: ``x + LN(W_up act(W_down x))`` inside the encoder layers (arXiv 2212.02780, official code)."""

    layers: Layers = "all"
    sites: list[Block] = field(default_factory=lambda: ["ffn"])
    """Outputs that are adapted, each before its residual addition."""
    bottleneck: Size = "1/3"
    """Inner width (1/3 of 768 is 256)."""
    activation: Activation = "gelu"
    init: Init = "reference"
    """``reference``: weights N(0, 1e-3), LayerNorm weight 1. ``zero``: LayerNorm weight 0, an exact identity."""

    @property
    def identity_at_init(self) -> bool:
        """Whether the adapted backbone starts as the plain one, bit by bit; methods that do not say so do."""
        return self.init == "zero"

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or size does not fit ``layers`` layers of width ``dim``."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")
        resolve_size(self.bottleneck, dim, where=f"{where}.bottleneck")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        size = resolve_size(self.bottleneck, model.dim)
        each = 2 * model.dim * size + size + model.dim + 2 * model.dim
        return len(resolve_layers(self.layers, model.layers)) * len(self.sites) * each


@dataclass(frozen=True)
class LAdapter:
    """L-adapters: ``LN(act(W x))`` from each encoder layer's output to the head (arXiv 2212.02780, official code)."""

    layers: Layers = "all"
    dim: Size = "2/3"
    """Output width (2/3 of 768 is 512)."""
    activation: Activation = "gelu"

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or size does not fit ``layers`` layers of width ``dim``."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")
        resolve_size(self.dim, dim, where=f"{where}.dim")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        size = resolve_size(self.dim, model.dim)
        return len(resolve_layers(self.layers, model.layers)) * (model.dim * size + size + 2 * size)


@dataclass(frozen=True)
class PAdapter:
    """P-adapter: learned pseudo features beside the CNN features.

    Our reading: arXiv 2407.21066 says only that it appends pseudo features to the CNN features.
    """

    length: int = 10
    """Number of pseudo frames (the prompts of arXiv 2210.06175 have 10)."""
    position: Literal["end", "start"] = "end"
    """``end``: right after each utterance's own last frame; ``start``: before its first."""
    site: Literal["projected", "cnn"] = "projected"
    """``projected``: vectors of the model's width; ``cnn``: of the CNN's, sent through its norm and projection."""
    init: Literal["normal", "ones"] = "normal"
    """``ones`` is the start of arXiv 2210.06175's prompts."""
    init_std: float = 0.02
    """Standard deviation of init ``normal``."""

    @property
    def identity_at_init(self) -> bool:
        """Pseudo features are further keys from the first."""
        return False

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        _check_vectors(self.length, self.init_std, where)

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Every model has a place for pseudo features."""

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return self.length * (model.cnn_dim if self.site == "cnn" else model.dim)


@dataclass(frozen=True)
class Houlsby:
    """Bottlenecks without a LayerNorm, beside a block's dropout: ``dropout(f) + A(f)``, A = ``W_up act(W_down f)``.

    As coded for arXiv 2210.06175: f is the block's output before its dropout, and both stand before the residual sum.
    """

    layers: Layers = "all"
    sites: list[Block] = field(default_factory=lambda: ["ffn"])
    """Outputs that are adapted."""
    bottleneck: Size = 32
    """Inner width."""
    activation: Activation = "gelu"
    init: Init = "reference"
    """``reference``: weights N(0, 0.02), biases 0 (our reading). ``zero``: W_up 0 as well, an exact identity."""

    @property
    def identity_at_init(self) -> bool:
        """Whether the adapted backbone starts as the plain one, bit by bit."""
        return self.init == "zero"

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or size does not fit ``layers`` layers of width ``dim``."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")
        resolve_size(self.bottleneck, dim, where=f"{where}.bottleneck")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        size = resolve_size(self.bottleneck, model.dim)
        each = 2 * model.dim * size + size + model.dim
        return len(resolve_layers(self.layers, model.layers)) * len(self.sites) * each


@dataclass(frozen=True)
class AdapterBias:
    """AdapterBias: ``v * alpha`` added to the FFN's output, one learned vector and one number per frame."""

    layers: Layers = "all"
    input: Literal["hidden", "output"] = "hidden"
    """What ``alpha`` is a linear function of: ``hidden``, the FFN's activations (as coded for arXiv 2210.06175), or
    ``output``, the FFN's output (as in AdapterBias's own paper)."""
    init: Init = "reference"
    """``reference``: v = 1, alpha's weights N(0, 0.02), its bias 0 (our reading). ``zero``: v = 0, an exact identity.
    After a LayerNorm v = 1 is one as well, to rounding: the norm takes the mean away, so alpha has no gradient yet."""

    @property
    def identity_at_init(self) -> bool:
        """Whether the adapted backbone starts as the plain one, bit by bit."""
        return self.init == "zero"

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        width = model.ffn if self.input == "hidden" else model.dim
        return len(resolve_layers(self.layers, model.layers)) * (model.dim + width + 1)


@dataclass(frozen=True)
class Parallel:
    """A bottleneck ``W_up act(W_down x)`` of the layer's input x, added to the residual sum at the layer's end.

    As coded for arXiv 2401.02122: in post-norm layers the sum before the final norm, in pre-norm layers the layer's
    output, x being the input before its first norm.
    """

    layers: Layers = "all"
    bottleneck: Size = 32
    """Inner width."""
    activation: Activation = "gelu"
    init: Init = "reference"
    """``reference``: PyTorch's default, uniform up to one over the root of the fan-in, as coded. ``zero``: weights
    N(0, 0.02), but W_up and the biases 0, an exact identity."""

    @property
    def identity_at_init(self) -> bool:
        """Whether the adapted backbone starts as the plain one, bit by bit."""
        return self.init == "zero"

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or size does not fit ``layers`` layers of width ``dim``."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")
        resolve_size(self.bottleneck, dim, where=f"{where}.bottleneck")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        size = resolve_size(self.bottleneck, model.dim)
        return len(resolve_layers(self.layers, model.layers)) * (2 * model.dim * size + size + model.dim)


@dataclass(frozen=True)
class DeepPrompt:
    """Learned frames before the input of each layer, stripped from its output.

    As coded for arXiv 2211.02227 and 2306.05350. WavLM sees them at the positions before the first frame.
    """

    length: int = 5
    """Number of frames per layer."""
    layers: Layers = "all"
    init: Literal["xavier", "normal"] = "xavier"
    """``xavier``: uniform, of a tensor (1, length, width), as coded."""
    init_std: float = 0.02
    """Standard deviation of init ``normal``."""

    @property
    def identity_at_init(self) -> bool:
        """Learned frames are further keys from the first."""
        return False

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        _check_vectors(self.length, self.init_std, where)

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return len(resolve_layers(self.layers, model.layers)) * self.length * model.dim


@dataclass(frozen=True)
class PrefixKV:
    """Prefix tuning: learned keys and values in each layer's attention, without a position."""

    length: int = 10
    """Number of keys, and of values, per layer."""
    layers: Layers = "all"
    init_std: float = 0.02
    """Standard deviation of the initial ones (our reading)."""

    @property
    def identity_at_init(self) -> bool:
        """Learned keys take part in the softmax from the first."""
        return False

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        _check_vectors(self.length, self.init_std, where)

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return len(resolve_layers(self.layers, model.layers)) * 2 * self.length * model.dim


def _check_vectors(length: int, init_std: float, where: str) -> None:
    if length < 1:
        raise ElpError(f"{where}.length must be at least 1, got {length}")
    if not 0 <= init_std < math.inf:
        raise ElpError(f"{where}.init_std must be a finite number and not negative, got {init_std}")


@dataclass(frozen=True)
class CNN:
    """CHAPTER's CNN adapters: ``conv(x) + scale * copy(x)`` in the waveform front end, the copies' convolutions zero.

    The front end then runs with gradients, which takes a multiple of the memory.
    """

    layers: Layers = "all"
    """Blocks of the front end, counted from the waveform."""
    scale: float = 0.01
    """As coded for arXiv 2212.01282 in S3PRL's copy of the model; the fairseq copy has 1."""

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        if not math.isfinite(self.scale) or self.scale == 0:
            raise ElpError(f"{where}.scale must be a finite number and not zero, got {self.scale}")

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit the front end's blocks."""
        resolve_layers(self.layers, CNN_BLOCKS, where=f"{where}.layers")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return sum(model.cnn_block_parameters[index] for index in resolve_layers(self.layers, CNN_BLOCKS))


@dataclass(frozen=True)
class LoRA:
    """LoRA: ``W + (alpha / rank) B A`` in place of the frozen weights W; B starts at zero, an exact identity."""

    layers: Layers = "all"
    targets: list[Linear] = field(default_factory=lambda: ["q", "v"])
    """Weights that are changed: the attention's four projections and the FFN's two matrices."""
    rank: int = 8
    alpha: float = 1.0
    """The update is scaled by alpha / rank; 1 is loralib's default."""

    def validate(self, *, where: str) -> None:
        """Raise an :class:`ElpError` for a value that fits no model."""
        if self.rank < 1:
            raise ElpError(f"{where}.rank must be at least 1, got {self.rank}")
        if not 0 < self.alpha < math.inf:
            raise ElpError(f"{where}.alpha must be a finite number and positive, got {self.alpha}")

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if a selection or the rank does not fit ``layers`` layers of width ``dim``."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")
        if self.rank > dim:
            raise ElpError(f"{where}.rank is {self.rank}, more than the model's width of {dim}")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        widths = {"fc1": model.dim + model.ffn, "fc2": model.dim + model.ffn}
        each = sum(self.rank * widths.get(target, 2 * model.dim) for target in self.targets)
        return len(resolve_layers(self.layers, model.layers)) * each


@dataclass(frozen=True)
class LayerNorms:
    """Trained copies of encoder layers' LayerNorms, put in place of the frozen ones."""

    layers: Layers = "all"
    norms: list[Block] = field(default_factory=lambda: ["attention", "ffn"])

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return len(resolve_layers(self.layers, model.layers)) * len(self.norms) * 2 * model.dim


@dataclass(frozen=True)
class Biases:
    """BitFit: trained copies of all biases of encoder layers, those of the layer norms included.

    WavLM's layers have one more than HuBERT's, that of the gate of the relative positions.
    """

    layers: Layers = "all"

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        return len(resolve_layers(self.layers, model.layers)) * model.layer_biases


@dataclass(frozen=True)
class Encoder:
    """Fine-tuning in place: of encoder layers alone, or with what stands around them."""

    layers: Layers = "all"
    scope: Scope = "layers"
    """``layers``: CNN, projection, positional convolution and the encoder's own norm stay frozen. ``no_cnn``: only the
    CNN (and the layers that are not selected) stay frozen. ``all``: the CNN is trained as well."""

    def check(self, layers: int, dim: int, *, where: str) -> None:
        """Raise an :class:`ElpError` if the selection does not fit ``layers`` layers."""
        resolve_layers(self.layers, layers, where=f"{where}.layers")

    def count(self, model: Architecture) -> int:
        """Number of trained values."""
        around = 0 if self.scope == "layers" else model.front_parameters
        cnn = model.cnn_parameters if self.scope == "all" else 0
        return model.encoder_parameters(resolve_layers(self.layers, model.layers)) + around + cnn


METHODS: dict[str, type] = {
    "e_adapter": EAdapter,
    "l_adapter": LAdapter,
    "p_adapter": PAdapter,
    "houlsby": Houlsby,
    "adapter_bias": AdapterBias,
    "parallel": Parallel,
    "deep_prompt": DeepPrompt,
    "prefix_kv": PrefixKV,
    "cnn": CNN,
    "lora": LoRA,
    "layer_norm": LayerNorms,
    "bias": Biases,
    "encoder": Encoder,
}
"""Method name, which is also the YAML key and the component's name, to its options; in the order of injection.

``encoder`` is last: it declares whatever tensors the others have not.
"""

CONFLICTS: dict[tuple[str, str], str] = {
    ("bias", "layer_norm"): "both train the layer norms' biases",
    ("encoder", "layer_norm"): "encoder already trains the layer norms",
    ("encoder", "bias"): "encoder already trains the biases",
    ("encoder", "lora"): "encoder already trains the weights that lora changes",
}
"""Pairs of methods that do not go together, and why."""

WEIGHT_SPACE = ("lora", "layer_norm", "bias", "encoder")
"""Methods that change the backbone's own tensors and nothing else, so that they can be merged into it."""
