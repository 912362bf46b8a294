"""Backbone families: where adapters go in their models, and how their checkpoints are recognised and loaded.

A family is one frozen value: facts and four functions. It imports neither torch nor S3PRL until a function is called,
so that ``elp backbones`` answers at once. Our families are in :mod:`upstream_elp.backbones.s3prl_families` and
:mod:`upstream_elp.backbones.huggingface_families`; other packages offer theirs through the entry-point group
``upstream_elp.backbones``, see :mod:`upstream_elp.backbones.families`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upstream_elp.backbones.shapes import BackboneShape
from upstream_elp.base.errors import ElpError

if TYPE_CHECKING:
    from torch import nn

    from upstream_elp.audio.front import FrontEnd

HUB_PREFIX = "hf:"
"""Prefix of a model on Hugging Face's hub where the name could also be a path or an S3PRL name."""
S3PRL, HUGGING_FACE, OWN = "s3prl", "hugging_face", "own"
"""Formats of checkpoints: S3PRL's file, Hugging Face's folder, and a format that only the family's package knows."""
WEIGHT_KEYS = ("model", "model_weight")
"""Keys of the tensors in S3PRL's checkpoint formats: that of WavLM, and that of HuBERT, wav2vec 2.0 and data2vec."""


def weights_key(checkpoint: Mapping[str, Any]) -> str:
    """Return the key of the tensors in a checkpoint of one of S3PRL's formats."""
    return next(key for key in WEIGHT_KEYS if key in checkpoint)


LAYER_SITES = (
    "attention_output", "ffn_output", "attention", "attention_norm", "ffn_norm", "q", "k", "v", "out", "fc1", "fc2",
)  # fmt: skip
"""Fields of :class:`Family` with the path of a module in an encoder layer."""


@dataclass(frozen=True)
class Family:
    """One kind of model; paths are relative to the model, and those of sites to an encoder layer.

    The model is recognised by its qualified class name and those of its encoder layers, so that an unknown layer type
    is detected before anything is injected.
    """

    name: str
    title: str
    """The name that people use."""
    model_type: str
    """Qualified class name of the model inside the expert."""
    layer_types: tuple[str, ...]
    """Qualified class names that an encoder layer may have."""
    recognise: Callable[[Mapping[str, Any]], bool]
    """Returns whether a checkpoint is of this family, given the outermost mapping of its file or the content of a
    folder's ``config.json``. The file is read without running code from it, so objects of other packages in it are
    stand-ins."""
    front: Callable[[BackboneFile], FrontEnd]
    """Returns the waveform CNN, with stride and receptive field, from the checkpoint's configuration."""
    load: Callable[[BackboneFile], nn.Module]
    """Builds the expert. Called with a list of waves, each of shape (samples,), the expert returns ``hidden_states``:
    the encoder layers' inputs and the encoder's output, N+1 tensors of shape (batch, frames, dim)."""
    write: Callable[[Path, BackboneShape, int], None]
    """Writes a random model of a shape, drawn with a seed, as a new file or folder that ``recognise`` accepts."""
    told_apart: tuple[str, Any] | None = None
    """An attribute of the model and its value, if two families share the classes."""
    encoder: str = "encoder"
    """Called with x of shape (batch, frames, dim) and a mask (batch, frames) by keyword, or None."""
    mask_argument: str = "padding_mask"
    mask_marks_padding: bool = True
    """Whether the mask is true on padding; otherwise it is true on the utterance."""
    layers: str = "encoder.layers"
    cnn: str = "feature_extractor"
    """The waveform front end; its ``conv_layers`` are the blocks."""
    cnn_norm: str = "layer_norm"
    """LayerNorm over the CNN's channels, called before the projection."""
    projection: str = "post_extract_proj"
    """Linear layer from the CNN's width to the encoder's; None in the model if both are equal."""
    positions: str = "pos_conv"
    """Positional convolution, a child of the encoder whose result has the shape of its input; if it has another name,
    nothing goes wrong, but it is computed even if its result is already known."""
    attention_output: str = "dropout1"
    """Parameter-free dropout, called on the attention's output before the residual addition."""
    ffn_output: str = "dropout3"
    """The same after the feed-forward block. Tensors at both are (frames, batch, dim) in S3PRL's layers, and batch
    first in Hugging Face's."""
    attention: str = "self_attn"
    attention_kind: str = "fairseq"
    """Key in :data:`upstream_elp.adapters.attention.KINDS`."""
    pre_norm: str = "layer_norm_first"
    """How to find out whether norms come before the blocks instead of after the residual additions: an attribute of a
    layer that is true then, or the qualified class name of such layers."""
    attention_norm: str = "self_attn_layer_norm"
    ffn_norm: str = "final_layer_norm"
    q: str = "self_attn.q_proj"
    """Linear layer of the attention. All four are read and not called in S3PRL's layers and Hugging Face's WavLM."""
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    out: str = "self_attn.out_proj"
    fc1: str = "fc1"
    """First linear layer of the feed-forward block. It and ``fc2`` are called; ``fc2`` sees the hidden activations."""
    fc2: str = "fc2"
    cnn_gradient: str | None = "feature_grad_mult"
    """Attribute of the model: at 0 the CNN runs without gradients, at 1 it can be trained. None if it always can."""
    zero_gradient: tuple[str, ...] = ("self_attn.k_proj.bias",)
    """Tensors of a layer whose gradient is always zero: a bias of the keys shifts all scores of a query equally."""
    format: str = OWN
    """Format of its checkpoints: :data:`S3PRL`, :data:`HUGGING_FACE` or :data:`OWN`."""
    hub_local: str = ""
    """S3PRL's hub entry that loads a local checkpoint; for Hugging Face's WavLM there is only ours, with ``elp_``."""
    gated: bool = False
    """Whether the attention has WavLM's gated relative positions."""
    stacked_positions: bool = False
    """Whether several positional convolutions share the kernel, as in data2vec; the first writes into the padding."""
    toys: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"base": {}})
    """Tiny models that the tests check the laws on: by name, what differs from
    :data:`upstream_elp.backbones.shapes.TINY`."""

    def sees_padding(self, shape: BackboneShape) -> bool:
        """Return whether an utterance sees the padding of its batch before the encoder layers."""
        return shape.extractor_mode == "default" or self.stacked_positions


@dataclass(frozen=True)
class BackboneFile:
    """A backbone that was recognised but not built yet."""

    place: str
    """Path of a file or folder, or a name on Hugging Face's hub."""
    kind: Family
    state: dict[str, Any]
    """The mapping in a file, always in S3PRL's layout for S3PRL's families; or the content of a folder's
    ``config.json``."""
    remarks: tuple[str, ...] = ()
    """What had to be changed; if nothing had to be, S3PRL loads the file itself."""
    refresh: bool = False
    """Whether to download cached files again."""

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.kind.name

    @property
    def front(self) -> FrontEnd:
        """The waveform CNN, according to the configuration."""
        return self.kind.front(self)

    @property
    def weights_key(self) -> str:
        """Key of the tensors in :attr:`state`.

        Raises:
            ElpError: the format is not S3PRL's.
        """
        if self.kind.format != S3PRL:
            raise ElpError(f"{self.place} is a {self.family} checkpoint, and this format cannot be written")
        return weights_key(self.state)

    def expert(self) -> nn.Module:
        """Build the expert of the backbone.

        Raises:
            ElpError: the checkpoint cannot be loaded.
        """
        return self.kind.load(self)


def is_remote(place: str) -> bool:
    """Return whether a backbone's place is a URL or a name on Hugging Face's hub, and not a path."""
    return "://" in place or place.startswith(HUB_PREFIX)
