"""The families in S3PRL's checkpoint formats, which S3PRL's own experts load."""

from __future__ import annotations

import importlib
import io
import logging
import re
import traceback
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upstream_elp.audio.front import STANDARD, FrontEnd, fairseq_layers
from upstream_elp.backbones.family import S3PRL, BackboneFile, Family
from upstream_elp.backbones.shapes import BackboneShape
from upstream_elp.base.errors import ElpError, counted

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)
LARGE = {"layer_norm_first": True, "extractor_mode": "layer_norm", "normalize": True}
TOYS = {"base": {}, "large": LARGE}


def _is_wavlm(content: Mapping[str, Any]) -> bool:
    return _is_microsofts(content) and bool(content["cfg"].get("relative_position_embedding"))


def _is_unispeech_sat(content: Mapping[str, Any]) -> bool:
    return _is_microsofts(content) and not content["cfg"].get("relative_position_embedding")


def _is_microsofts(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has WavLM's layout, which UniSpeech-SAT shares."""
    return isinstance(content.get("cfg"), Mapping) and isinstance(content.get("model"), Mapping)


def _is_hubert(content: Mapping[str, Any]) -> bool:
    return _is_converted(content) and "dictionaries_symbols" in content


def _is_data2vec(content: Mapping[str, Any]) -> bool:
    return _is_converted(content) and not _is_hubert(content) and _has_teacher(content)


def _is_wav2vec2(content: Mapping[str, Any]) -> bool:
    return _is_converted(content) and not _is_hubert(content) and not _has_teacher(content)


def _is_converted(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has the layout that S3PRL converts fairseq's checkpoints to."""
    return {"task_cfg", "model_cfg", "model_weight"} <= set(content) and isinstance(content["model_weight"], Mapping)


def _has_teacher(content: Mapping[str, Any]) -> bool:
    return any(name.endswith("_ema") for name in content["model_weight"])


def front_layers(state: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...] | None:
    """Return the convolutions in the configuration, read before S3PRL evaluates them as Python; None without any."""
    config = next((state[key] for key in ("model_cfg", "cfg") if isinstance(state.get(key), Mapping)), {})
    text = config.get("conv_feature_layers")
    return None if text is None else fairseq_layers(text)


def _front(found: BackboneFile) -> FrontEnd:
    layers = front_layers(found.state)
    return STANDARD if layers is None else FrontEnd(tuple((kernel, stride) for _, kernel, stride in layers))


def _load(found: BackboneFile) -> nn.Module:
    """Return S3PRL's stock expert for the file itself, or for its converted content in memory.

    Raises:
        ElpError: S3PRL cannot load it.
    """
    from s3prl import hub

    from upstream_elp.base import unfilled

    try:
        if not found.remarks:
            with _mapped(found.place):
                return unfilled.build(lambda: getattr(hub, found.kind.hub_local)(ckpt=found.place))
        import torch

        logger.warning("%s: %s", found.place, "; ".join(found.remarks))
        buffer = io.BytesIO()
        torch.save(found.state, buffer)
        expert = importlib.import_module(f"s3prl.upstream.{found.family}.expert").UpstreamExpert
        return unfilled.build(lambda: expert(_from_start(buffer)))
    except (RuntimeError, KeyError, ValueError, TypeError, AssertionError) as error:
        raise ElpError(
            f"{found.place} looks like a {found.family} checkpoint, but S3PRL cannot load it: {_reason(error)}"
        ) from error


def _mapped(path: str) -> AbstractContextManager:
    """Let ``torch.load``, which S3PRL calls, map the file into memory: its tensors are only copied into the model."""
    from torch.utils.serialization import config

    return config.patch({"load.mmap": zipfile.is_zipfile(path)})


def _from_start(buffer: io.BytesIO) -> io.BytesIO:
    buffer.seek(0)
    return buffer


def _reason(error: Exception) -> str:
    """Return why S3PRL cannot load a checkpoint; of the tensors that do not fit, their number and the first one."""
    text = " ".join(str(error).split())
    if not text:  # an assertion
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {last.line}"
    missing, unknown = (
        re.findall(r'"([^"]+)"', found[1])
        if (found := re.search(rf"{kind} key\(s\) in state_dict: ([^:]*?)\. ", f"{text} "))
        else []
        for kind in ("Missing", "Unexpected")
    )
    shapes = re.findall(r"size mismatch for ([^:]+): ", text)
    said = [
        f"{what} {counted(len(names), 'tensor')}, such as {names[0]}"
        for what, names in (
            ("it lacks", missing),
            ("it contains the unknown", unknown),
            ("it has another shape of", shapes),
        )
        if names
    ]
    return ", ".join(said) or text


def _write(path: Path, shape: BackboneShape, seed: int) -> None:
    import torch

    from upstream_elp.backbones.random_models import build_checkpoint

    with path.open("wb") as stream:  # torch writes the name of a file into it, but not that of a stream
        torch.save(build_checkpoint(shape, seed=seed), stream)


_UPSTREAM = "s3prl.upstream"
_FAIRSEQ_LAYER = (f"{_UPSTREAM}.wav2vec2.wav2vec2_model.TransformerSentenceEncoderLayer",)
_SHARED = {"front": _front, "load": _load, "write": _write, "format": S3PRL, "toys": TOYS}
_WAVLM = Family(
    name="wavlm",
    title="WavLM",
    hub_local="wavlm_local",
    model_type=f"{_UPSTREAM}.wavlm.WavLM.WavLM",
    layer_types=(f"{_UPSTREAM}.wavlm.WavLM.TransformerSentenceEncoderLayer",),
    told_apart=("encoder.relative_position_embedding", True),
    recognise=_is_wavlm,
    gated=True,
    **_SHARED,
)
S3PRL_FAMILIES = (
    _WAVLM,
    Family(
        name="hubert",
        title="HuBERT, ContentVec",
        hub_local="hubert_local",
        model_type=f"{_UPSTREAM}.hubert.hubert_model.HubertModel",
        layer_types=_FAIRSEQ_LAYER,
        recognise=_is_hubert,
        **_SHARED,
    ),
    Family(
        name="wav2vec2",
        title="wav2vec 2.0, XLSR, XLS-R",
        hub_local="wav2vec2_local",
        model_type=f"{_UPSTREAM}.wav2vec2.wav2vec2_model.Wav2Vec2Model",
        layer_types=_FAIRSEQ_LAYER,
        recognise=_is_wav2vec2,
        **_SHARED,
    ),
    Family(
        name="data2vec",
        title="data2vec",
        hub_local="data2vec_local",
        model_type=f"{_UPSTREAM}.data2vec.data2vec_model.Data2VecAudioModel",
        layer_types=_FAIRSEQ_LAYER,
        recognise=_is_data2vec,
        stacked_positions=True,
        # its Base has layer norms in the front end
        **{
            **_SHARED,
            "toys": {
                "base": {"extractor_mode": "layer_norm", "normalize": True, "conv_pos_depth": 5},
                "large": {**LARGE, "conv_pos_depth": 5},
            },
        },
    ),
    replace(
        _WAVLM,
        name="unispeech_sat",
        title="UniSpeech-SAT",
        hub_local="unispeech_sat_local",
        told_apart=("encoder.relative_position_embedding", False),
        recognise=_is_unispeech_sat,
        gated=False,
    ),
)
