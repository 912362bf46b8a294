"""An expert for backbones in Hugging Face's format that follows S3PRL's upstream contract.

S3PRL has ``hf_wav2vec2_custom`` and ``hf_hubert_custom``, but nothing for WavLM. In these, the last hidden state is
normalised with transformers 4 but not with 5, LayerDrop and SpecAugment run in training, gradients are computed through
the frozen CNN, and if ``preprocessor_config.json`` is missing, that of another model is downloaded silently. The expert
here works for all three models.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from upstream_elp.audio.front import SAMPLE_RATE
from upstream_elp.audio.scaling import standardized
from upstream_elp.backbones.family import HUB_PREFIX
from upstream_elp.backbones.huggingface_attention import make_lean
from upstream_elp.backbones.huggingface_files import (
    CONFIG_FILE,
    MODEL_CLASSES,
    PREPROCESSOR_FILE,
    hugging_face_family,
    normalizes_waves,
    read_json,
)
from upstream_elp.base.errors import ElpError, chain, counted, shown
from upstream_elp.base.foreign import recognised_in
from upstream_elp.base.safe_load import why_refused

ANCHOR = "feature_extractor.conv_layers.0.conv.weight"
"""A tensor that every model has; anything before it in a file is a prefix."""


class StateTap(nn.Module):
    """Forward pre-hook that keeps the input of an encoder layer; a module, so that copies feed the copy's tap."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Tensor | None = None
        self.open = False
        """Whether the expert calls the model; states of other calls are not kept alive."""

    def forward(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Run as the pre-hook."""
        if self.open:
            self.state = args[0]

    def take(self) -> Tensor:
        """Return the state and forget it, so that its graph is not kept alive."""
        state, self.state = self.state, None
        return state


class HuggingFaceExpert(nn.Module):
    """A wav2vec 2.0, HuBERT or WavLM model of Hugging Face: waves in, N+1 hidden states out.

    The last state is the output of the encoder, which in pre-norm models comes after its final norm, whatever
    ``hidden_states[-1]`` is in the installed version of transformers. LayerDrop and SpecAugment are off.

    Args:
        ckpt: a folder with ``config.json``, ``preprocessor_config.json`` or ``processor_config.json``, and weights; or
            a name on Hugging Face's hub.
        refresh: whether to download cached files again.

    Raises:
        ElpError: the model does not exist, is of another kind, or lacks files or tensors.
    """

    def __init__(self, ckpt: str | os.PathLike, *, refresh: bool = False) -> None:
        place = str(ckpt)
        family = hugging_face_family(place, refresh=refresh)
        normalize = normalizes_waves(place, refresh=refresh)
        model = load_model(place, refresh=refresh)
        make_lean(model)
        self._hold(model, family=family, normalize=normalize)

    @classmethod
    def around(cls, model: nn.Module) -> HuggingFaceExpert:
        """Return the expert of a model in memory, which expects prepared waves; the model is used and not copied."""
        expert = cls.__new__(cls)
        expert._hold(model, family=f"hf_{model.config.model_type}", normalize=False)
        return expert

    def _hold(self, model: nn.Module, *, family: str, normalize: bool) -> None:
        super().__init__()
        self.family = family
        self.normalize = normalize
        self.model = model
        self.model.feature_extractor._freeze_parameters()  # otherwise its input requires gradients in training
        self.model.config.layerdrop = 0.0
        self.model.config.apply_spec_augment = False
        self.taps = nn.ModuleList(StateTap() for _ in self.model.encoder.layers)
        for layer, tap in zip(self.model.encoder.layers, self.taps, strict=True):
            layer.register_forward_pre_hook(tap)

    def set_spec_augment(self, on: bool) -> None:
        """Set whether forward passes mask features as the model's configuration says, independent of the mode."""
        self.model.config.apply_spec_augment = on
        self.model.training = on or self.training

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Return the samples per frame."""
        return prod(self.model.config.conv_stride)

    def forward(self, wavs: list[Tensor]) -> dict[str, list[Tensor]]:
        """Extract the states.

        Args:
            wavs: 16 kHz waves, each of shape (samples,).

        Returns:
            ``hidden_states``: the encoder layers' inputs and the encoder's output, each (batch, frames, dim).
        """
        if self.normalize:
            wavs = [standardized(wav) for wav in wavs]
        samples = torch.tensor([len(wav) for wav in wavs], device=wavs[0].device)
        padded = pad_sequence(wavs, batch_first=True)  # (batch, samples)
        mask = torch.arange(padded.shape[1], device=padded.device) < samples.unsqueeze(1)
        with self._tapped():
            output = self.model(padded, attention_mask=mask.long())
        return {"hidden_states": [*(tap.take() for tap in self.taps), output.last_hidden_state]}

    @contextmanager
    def _tapped(self) -> Iterator[None]:
        """Keep the layers' inputs of calls within this context."""
        for tap in self.taps:
            tap.open = True
        try:
            yield
        finally:
            for tap in self.taps:
                tap.open = False


def write_hugging_face(model: nn.Module, folder: Path, *, normalize: bool) -> None:
    """Write a model and its preprocessor into a folder, as :class:`HuggingFaceExpert` reads them."""
    import transformers

    with _quiet(transformers.utils.logging):
        model.save_pretrained(folder)
    preprocessor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": normalize,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": SAMPLE_RATE,
    }
    (folder / PREPROCESSOR_FILE).write_text(json.dumps(preprocessor, indent=2), encoding="utf-8")


def load_model(place: str, *, refresh: bool = False) -> nn.Module:
    """Load the plain model in float32, without any head or strided adapter in the file.

    The strided adapter (``add_adapter``) merges frames *after* the encoder, but S3PRL sees the states of the encoder.

    Raises:
        ElpError: the model cannot be read, or its weights lack tensors.
    """
    import transformers

    _check_shards(Path(place.removeprefix(HUB_PREFIX)))
    config = read_json(place, CONFIG_FILE, refresh)
    load = partial(
        getattr(transformers, MODEL_CLASSES[config["model_type"]]).from_pretrained,
        place.removeprefix(HUB_PREFIX),
        output_loading_info=True,
        **({"add_adapter": False} if config.get("add_adapter") else {}),
    )
    try:
        with _quiet(transformers.utils.logging):  # missing tensors are reported below
            model, report = load()
            if prefix := _prefix(report):  # other than wav2vec2. and the like, which transformers strips itself
                model, report = load(key_mapping={f"^{re.escape(prefix)}": ""})
    except Exception as error:  # for a wrong value or file, transformers and torch raise almost any exception
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        for link in chain(error):  # transformers 4 wraps it
            if isinstance(link, pickle.UnpicklingError):
                reason = why_refused(link)
        reason = recognised_in(place.removeprefix(HUB_PREFIX), ".safetensors", ".bin") or reason
        raise ElpError(f"the model {place} cannot be loaded: {reason}") from error
    if missing := sorted(set(report["missing_keys"]) - {"masked_spec_embed"}):
        count, other = counted(len(missing), "tensor"), sorted(report["unexpected_keys"])
        extra = (
            f"; {counted(len(other), 'tensor')} in them {'is' if len(other) == 1 else 'are'} unknown" if other else ""
        )
        instead = f"{extra}, such as {other[0]}" if other else ""
        raise ElpError(f"the weights of {place} lack {count}, such as {missing[0]}{instead}")
    model.float()
    for tensor in [*model.parameters(), *model.buffers()]:
        # copied from the mapped file, which may change; besides, products of single rows are rounded depending on the
        # alignment of a weight, so that a copy of the model would differ from the model in the last bit
        tensor.data = tensor.data.clone()
    return model


def _prefix(report: Mapping[str, Any]) -> str:
    """Return the prefix of the names of all tensors, such as ``module.``; usually empty."""
    found = [key.removesuffix(ANCHOR) for key in report["unexpected_keys"] if key.endswith(f".{ANCHOR}")]
    return found[0] if ANCHOR in report["missing_keys"] and len(found) == 1 else ""


def _check_shards(folder: Path) -> None:
    """Refuse an index of weights that names files outside the folder; for a hub name there is nothing to check."""
    for index in folder.glob("*.index.json"):
        names = read_json(str(folder), index.name, refresh=False).get("weight_map")
        for name in names.values() if isinstance(names, dict) else [names]:
            if not isinstance(name, str) or Path(name).name != name:
                raise ElpError(f"{index} names the file {shown(name)}, which is not in the folder")


@contextmanager
def _quiet(log: Any) -> Iterator[None]:
    """Switch off transformers' messages and progress bars for a while."""
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
