"""What a backbone family is: where adapters go in its models, and how its checkpoints are recognised and loaded.

A family is one frozen value: facts and four functions. It knows neither torch nor S3PRL until a function is called, so
that ``elp backbones`` answers at once. Ours are in :mod:`upstream_elp.backbones.s3prl_families` and
:mod:`upstream_elp.backbones.huggingface_families`; those of other packages come through the entry-point group
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
"""Before the name of a model on Hugging Face's hub, where it could be taken for a path or an S3PRL name."""
S3PRL, HUGGING_FACE, OWN = "s3prl", "hugging_face", "own"
"""The formats of checkpoints: S3PRL's file, Hugging Face's folder, and one that only the family's package knows."""
WEIGHT_KEYS = ("model", "model_weight")
"""Where the tensors are in S3PRL's checkpoint formats: WavLM's, and that of HuBERT, wav2vec 2.0 and data2vec."""
LAYER_SITES = (
    "attention_output", "ffn_output", "attention", "attention_norm", "ffn_norm", "q", "k", "v", "out", "fc1", "fc2",
)  # fmt: skip
"""Fields of :class:`Family` that are paths of modules in an encoder layer."""


@dataclass(frozen=True)
class Family:
    """One kind of model; paths are relative to the model, site names to an encoder layer.

    The model is recognised by the qualified class names of itself and its encoder layers, so that an unknown layer type
    is found out before anything is injected.
    """

    name: str
    title: str
    """What people call it."""
    model_type: str
    """Qualified class name of the model inside the expert."""
    layer_types: tuple[str, ...]
    """Qualified class names that an encoder layer may have."""
    recognise: Callable[[Mapping[str, Any]], bool]
    """Whether a checkpoint is of this family: its file's outermost mapping, or what ``config.json`` says of a folder.
    The file is read without running code from it, so objects of other packages in it are stand-ins."""
    front: Callable[[BackboneFile], FrontEnd]
    """The waveform CNN, and with it stride and receptive field, from the checkpoint's configuration."""
    load: Callable[[BackboneFile], nn.Module]
    """Build the expert. Called with a list of waves, each of shape (samples,), it returns ``hidden_states``: the
    encoder layers' inputs and the encoder's output, N+1 tensors of shape (batch, frames, dim)."""
    write: Callable[[Path, BackboneShape, int], None]
    """Write a random model of a shape, drawn with a seed, as a new file or folder that ``recognise`` accepts."""
    told_apart: tuple[str, Any] | None = None
    """Attribute of the model and its value, where two families share the classes."""
    encoder: str = "encoder"
    """Called with x of shape (batch, frames, dim) and a mask (batch, frames) by keyword, or None."""
    mask_argument: str = "padding_mask"
    mask_marks_padding: bool = True
    """Whether the mask is true on padding; else it is true on the utterance."""
    layers: str = "encoder.layers"
    cnn: str = "feature_extractor"
    """Its ``conv_layers`` are the blocks of the waveform front end."""
    cnn_norm: str = "layer_norm"
    """LayerNorm over the CNN's channels, called before the projection."""
    projection: str = "post_extract_proj"
    """Linear from the CNN's width to the encoder's; None in the model where both are equal."""
    attention_output: str = "dropout1"
    """Parameter-free dropout, called on the attention's output before the residual addition."""
    ffn_output: str = "dropout3"
    """The same after the feed-forward block. Tensors at both are (frames, batch, dim) in S3PRL's layers, batch first in
    Hugging Face's."""
    attention: str = "self_attn"
    attention_kind: str = "fairseq"
    """Which of :data:`upstream_elp.adapters.attention.KINDS` the attention is."""
    pre_norm: str = "layer_norm_first"
    """Whether norms stand before the blocks instead of after the residual additions: an attribute of a layer that says
    so, or the qualified class name of the layers that are like that."""
    attention_norm: str = "self_attn_layer_norm"
    ffn_norm: str = "final_layer_norm"
    q: str = "self_attn.q_proj"
    """Linear layers. The attention's are read and not called in S3PRL's layers and in Hugging Face's WavLM."""
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    out: str = "self_attn.out_proj"
    fc1: str = "fc1"
    """Called, as is ``fc2``, whose input is the feed-forward block's hidden activations."""
    fc2: str = "fc2"
    cnn_gradient: str | None = "feature_grad_mult"
    """Attribute of the model; at 0 the CNN runs without gradients, at 1 it can be trained. None: it always can."""
    zero_gradient: tuple[str, ...] = ("self_attn.k_proj.bias",)
    """Layer tensors whose gradient is zero by nature: a key bias shifts all scores of a query equally."""
    format: str = OWN
    """Of its checkpoints: :data:`S3PRL`, :data:`HUGGING_FACE` or :data:`OWN`."""
    hub_local: str = ""
    """S3PRL's hub entry that loads a local checkpoint; of Hugging Face's WavLM there is only ours, with ``elp_``."""
    gated: bool = False
    """Whether the attention has WavLM's gated relative positions."""
    stacked_positions: bool = False
    """Whether several positional convolutions share one kernel, as in data2vec; the first fills the padding."""
    toys: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"base": {}})
    """Tiny models that the tests check the laws on: a name to what differs from
    :data:`upstream_elp.backbones.shapes.TINY`."""

    def sees_padding(self, shape: BackboneShape) -> bool:
        """Whether an utterance sees the padding of its batch before the encoder layers."""
        return shape.extractor_mode == "default" or self.stacked_positions


@dataclass(frozen=True)
class BackboneFile:
    """A backbone at some place, recognised and not yet built."""

    place: str
    """Path of a file or folder, or a name on Hugging Face's hub."""
    kind: Family
    state: dict[str, Any]
    """A file's mapping, in S3PRL's layout for S3PRL's families, whatever the file's is; a folder's ``config.json``."""
    remarks: tuple[str, ...] = ()
    """What had to be changed; where nothing had, S3PRL loads the file itself."""
    refresh: bool = False
    """Whether to download again what is cached."""

    @property
    def family(self) -> str:
        """The family's name."""
        return self.kind.name

    @property
    def front(self) -> FrontEnd:
        """The waveform CNN by the configuration."""
        return self.kind.front(self)

    @property
    def weights_key(self) -> str:
        """Where the tensors are in :attr:`state`.

        Raises:
            ElpError: only the family's own package knows.
        """
        if self.kind.format != S3PRL:
            raise ElpError(f"{self.place} is a {self.family} checkpoint, in whose format nothing else can be written")
        return next(key for key in WEIGHT_KEYS if key in self.state)

    def expert(self) -> nn.Module:
        """Build the expert of the backbone.

        Raises:
            ElpError: it cannot be loaded.
        """
        return self.kind.load(self)


def is_remote(place: str) -> bool:
    """Whether a backbone's place is a URL or a name on Hugging Face's hub, and not a path."""
    return "://" in place or place.startswith(HUB_PREFIX)
