"""The models that peers.py compares: S3PRL's, peft's, the L-E reference's step restated, and ours.

Dropout, LayerDrop and SpecAugment are off in all of them, so that every row does the same arithmetic except for what
it trains. All waves of a batch have the same length. Therefore peft's models and the restatement get no padding mask,
as their users would not pass one to models with a group norm; ours always handles one.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

LossOf = Callable[[list[Tensor], dict], Tensor]
RANK = 8
"""Of peft's LoRA, as in the preset lora_qv8."""
SAMPLES_PER_FRAME = 320
NO_REGULARISERS = {
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
}
"""Keyword arguments for transformers' ``from_pretrained``."""


class Row(NamedTuple):
    """What a row of the tables trains, and with which code."""

    side: str
    """``S3PRL``, ``peft``, ``reference`` or ``ours``."""
    family: str
    """Family of the backbone, as in ``elp mini-backbone``."""
    preset: str | None = None
    """Of our side."""
    trained: bool = True
    cached: bool = False
    """Whether what is frozen is computed once per utterance and read from the disk."""
    freezes: bool = True
    """For peft: whether transformers was asked to freeze the CNN."""


ROWS = {
    "S3PRL frozen": Row("S3PRL", "wavlm", trained=False),
    "weighted_sum": Row("ours", "wavlm", "weighted_sum", trained=False),
    "weighted_sum (cached)": Row("ours", "wavlm", "weighted_sum", trained=False, cached=True),
    "l_only": Row("ours", "wavlm", "l_only"),
    "l_plain": Row("ours", "wavlm", "l_plain"),
    "l_plain (cached)": Row("ours", "wavlm", "l_plain", cached=True),
    "le": Row("ours", "wavlm", "le"),
    "le (cached)": Row("ours", "wavlm", "le", cached=True),
    "elp": Row("ours", "wavlm", "elp"),
    "elp (cached)": Row("ours", "wavlm", "elp", cached=True),
    "lora_qv8": Row("ours", "wavlm", "lora_qv8"),
    "lora_qv8 (cached)": Row("ours", "wavlm", "lora_qv8", cached=True),
    "full_finetune": Row("ours", "wavlm", "full_finetune"),
    "full_finetune (cached)": Row("ours", "wavlm", "full_finetune", cached=True),
    "S3PRL -f": Row("S3PRL", "wavlm"),
    "L-E reference on HF WavLM": Row("reference", "hf_wavlm"),
    "le on HF WavLM": Row("ours", "hf_wavlm", "le"),
    "peft LoRA on HF HuBERT": Row("peft", "hf_hubert"),
    "peft LoRA as is on HF HuBERT": Row("peft", "hf_hubert", freezes=False),
    "lora_qv8 on HF HuBERT": Row("ours", "hf_hubert", "lora_qv8"),
    "lora_qv8 on HF HuBERT (cached)": Row("ours", "hf_hubert", "lora_qv8", cached=True),
    "peft LoRA on HF wav2vec2": Row("peft", "hf_wav2vec2"),
    "lora_qv8 on HF wav2vec2": Row("ours", "hf_wav2vec2", "lora_qv8"),
}


PEERS = {
    "weighted_sum": ("S3PRL frozen",),
    "full_finetune": ("S3PRL -f",),
    "le on HF WavLM": ("L-E reference on HF WavLM",),
    "lora_qv8 on HF HuBERT": ("peft LoRA on HF HuBERT", "peft LoRA as is on HF HuBERT"),
    "lora_qv8 on HF HuBERT (cached)": ("peft LoRA on HF HuBERT", "peft LoRA as is on HF HuBERT"),
    "lora_qv8 on HF wav2vec2": ("peft LoRA on HF wav2vec2",),
}
"""The other code that does the same as a row of ours, or for full fine-tuning, nearly the same."""
SCALED = ("S3PRL frozen", "weighted_sum", "le", "elp", "full_finetune", "S3PRL -f")
"""Rows that are also measured with other lengths and sizes."""


def load(row: Row, checkpoint: Path) -> nn.Module:
    """Load a row's upstream: waves in, ``hidden_states`` out."""
    import upstream_elp

    upstream_elp.register()  # first: torchaudio, which transformers imports too, may need its repair
    from s3prl import hub

    if row.side == "S3PRL":
        return getattr(hub, f"{row.family}_local")(ckpt=str(checkpoint)).requires_grad_(row.trained)
    if row.side == "ours":
        return hub.elp_custom(ckpt=str(checkpoint), model_config=row.preset)
    return PeftLora(checkpoint, freezes=row.freezes) if row.side == "peft" else ReferenceLE(checkpoint)


def set_mode(row: Row, upstream: nn.Module) -> None:
    """Put an upstream into the mode of its training; S3PRL ties dropout to that mode, so its own model never is."""
    upstream.train(row.trained and row.side != "S3PRL")


def trained_parameters(row: Row, upstream: nn.Module) -> int:
    """Count the parameters of an upstream that training changes."""
    return sum(p.numel() for p in upstream.parameters() if p.requires_grad) if row.trained else 0


def plain_step(row: Row, upstream: nn.Module, loss_of: LossOf, waves: list[Tensor]) -> Callable[[], Tensor]:
    """Return what computes the loss of a batch from its waves.

    Args:
        row: says whether the upstream is trained.
        upstream: waves to hidden states.
        loss_of: the head's loss for waves and hidden states.
        waves: the batch, each of shape (samples,).
    """

    def forward() -> Tensor:
        with torch.set_grad_enabled(row.trained):
            states = upstream(waves)
        return loss_of(waves, states)

    return forward


def cached_step(row: Row, upstream: nn.Module, loss_of: LossOf, waves: list[Tensor]) -> Callable[[], Tensor]:
    """Do the same with what ``runner.cache: auto`` keeps, which is read from the disk in every step.

    All hidden states of a frozen upstream are kept, and not their means, as the head may need every frame.

    Args:
        row: one of ours.
        upstream: our expert.
        loss_of: the head's loss for waves and hidden states.
        waves: the batch, each of shape (samples,).
    """
    from upstream_elp.caching.choice import choose
    from upstream_elp.caching.features import FrozenFeatures
    from upstream_elp.caching.setup import needed_states
    from upstream_elp.caching.store import Store

    choice = choose(upstream, "auto", trained=row.trained, pools=False)
    features = FrozenFeatures(upstream, choice, states=needed_states(upstream))
    folder = Path(tempfile.mkdtemp(prefix="elp-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    features.store = Store(folder / "features", limit=10**12, description={})
    host = [wave.cpu() for wave in waves]
    features.parts(host, "train")
    features.flush()

    def featurizer(stand_ins: list[Tensor], states: dict) -> list[Tensor]:
        return [loss_of(stand_ins, states)]

    def forward() -> Tensor:
        def model(stand_ins: list[Tensor]) -> dict:
            with torch.set_grad_enabled(row.trained):
                return upstream(stand_ins)

        return features(model, featurizer, host, "train")[0]

    return forward


class HuggingFaceUpstream(nn.Module):
    """A plain transformers model with dropout off and no adapters.

    Args:
        folder: a backbone in Hugging Face's format.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        import transformers

        self.model = transformers.AutoModel.from_pretrained(folder, **NO_REGULARISERS)

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Return the samples per frame, which S3PRL's featurizer asks for."""
        return SAMPLES_PER_FRAME


class PeftLora(HuggingFaceUpstream):
    """peft's LoRA on q and v.

    Args:
        folder: a backbone in Hugging Face's format.
        freezes: whether transformers was asked to freeze the CNN, as ``freeze_feature_encoder`` of its models with a
            head does. Otherwise, in training, its CNN makes its input require a gradient, so that the backward pass
            goes through the CNN, although peft has frozen all weights there.
    """

    def __init__(self, folder: Path, *, freezes: bool) -> None:
        super().__init__(folder)
        import peft

        if freezes:
            self.model.feature_extractor._freeze_parameters()
        options = {"r": RANK, "lora_alpha": 1, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
        self.model = peft.get_peft_model(self.model, peft.LoraConfig(**options))

    def forward(self, waves: list[Tensor]) -> dict[str, list[Tensor]]:
        """Return all hidden states, each (batch, frames, dim)."""
        output = self.model(torch.stack(waves), output_hidden_states=True)
        return {"hidden_states": list(output.hidden_states)}


class ReferenceLE(HuggingFaceUpstream):
    """The training step of the L-E-adapter paper (arXiv 2212.02780) on transformers' WavLM, written from its facts.

    E-adapters are after the FFN of all layers except the last, L-adapters after every layer; layer norms of the
    encoder layers are trained. As in the official code (sinhat98/adapter-wavlm), the CNN's weights do not require
    gradients, but transformers' CNN still makes its input require one, since nothing tells it to freeze. So the
    backward pass goes through the CNN.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        config = self.model.config
        dim, eps, layers = config.hidden_size, config.layer_norm_eps, self.model.encoder.layers
        self.model.requires_grad_(requires_grad=False)
        self.l_adapters = nn.ModuleList(_LAdapter(dim, _width(dim * 2 / 3), eps) for _ in layers)
        self.weights = nn.Parameter(torch.full((len(layers),), 1 / len(layers)))
        self._outputs: list[Tensor] = []
        for layer in layers:
            for norm in (layer.layer_norm, layer.final_layer_norm):
                norm.requires_grad_(requires_grad=True)
            layer.register_forward_hook(lambda module, args, output: self._outputs.append(output[0]))
        for layer in layers[:-1]:
            layer.feed_forward = nn.Sequential(layer.feed_forward, _EAdapter(dim, _width(dim / 3), eps))

    def forward(self, waves: list[Tensor]) -> dict[str, list[Tensor]]:
        """Return the weighted sum of the L-adapters' outputs, (batch, frames, dim of L), as the only state."""
        self.model(torch.stack(waves))
        outputs, self._outputs = self._outputs, []
        paths = torch.stack([adapter(h) for adapter, h in zip(self.l_adapters, outputs, strict=True)])
        weights = self.weights.softmax(dim=0)  # (layers,)
        return {"hidden_states": [torch.einsum("l,lbfd->bfd", weights, paths)]}


class _EAdapter(nn.Module):
    """``x + LN(up(gelu(down(x))))`` with a normal initialisation of standard deviation 1e-3."""

    def __init__(self, dim: int, bottleneck: int, eps: float) -> None:
        super().__init__()
        self.down, self.up = _small_linear(dim, bottleneck), _small_linear(bottleneck, dim)
        self.norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.up(nn.functional.gelu(self.down(x))))


class _LAdapter(nn.Module):
    """``LN(gelu(linear(x)))``, which is narrower than the layer."""

    def __init__(self, dim: int, width: int, eps: float) -> None:
        super().__init__()
        self.linear, self.norm = _small_linear(dim, width), nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(nn.functional.gelu(self.linear(x)))


def _width(size: float) -> int:
    """Return the published 256 and 512 at a width of 768, and multiples of 8 at others."""
    return 8 * round(size / 8)


def _small_linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.normal_(linear.weight, std=1e-3)
    nn.init.zeros_(linear.bias)
    return linear
