"""Replacements for what torch, torchaudio and huggingface_hub have removed; each function fixes one thing."""

import argparse
import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch.utils.data import Sampler

from upstream_elp.base.errors import ElpError
from upstream_elp.host import sound

_HUB_NAMES = ("HfFolder", "Repository")


# torchaudio --------------------------------------------------------------------------------------------------------


def add_set_audio_backend() -> None:
    import torchaudio

    torchaudio.set_audio_backend = set_audio_backend


def set_audio_backend(backend: str | None) -> None:
    """Accept a backend's name and do nothing, as the only backend is soundfile."""


def replace_load() -> None:
    import torchaudio

    torchaudio.load = sound.load
    torchaudio.info = sound.info
    if not hasattr(torchaudio, "AudioMetaData"):
        torchaudio.AudioMetaData = sound.AudioMetaData


def lacks_sox_effects() -> bool:
    """Whether the module is missing (2.9) or lacks the library that it opens (2.8 without ``libsox.so``)."""
    import torchaudio

    if importlib.util.find_spec("torchaudio.sox_effects") is None:
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torchaudio.sox_effects.effect_names()
        except (OSError, RuntimeError, ImportError, AttributeError):
            return True
    return False


def replace_sox_effects() -> None:
    import torchaudio

    module = ModuleType("torchaudio.sox_effects", "SoX effects without libsox, see upstream_elp.audio.sox.")
    module.apply_effects_file = apply_effects_file
    module.apply_effects_tensor = apply_effects_tensor
    module.init_sox_effects = module.shutdown_sox_effects = _nothing
    sys.modules["torchaudio.sox_effects"] = module
    torchaudio.sox_effects = module


def apply_effects_file(path: Any, effects: list[list[str]], *args: Any, **kwargs: Any) -> tuple[torch.Tensor, int]:
    """Load a file through SoX effects; see :func:`upstream_elp.audio.sox.apply_effects_file`."""
    from upstream_elp.audio.sox import apply_effects_file as apply

    return apply(path, effects, *args, **kwargs)


def apply_effects_tensor(
    tensor: torch.Tensor, sample_rate: int, effects: list[list[str]], *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, int]:
    """Send samples through SoX effects; see :func:`upstream_elp.audio.sox.apply_effects_tensor`."""
    from upstream_elp.audio.sox import apply_effects_tensor as apply

    return apply(tensor, sample_rate, effects, *args, **kwargs)


def _nothing() -> None:
    """Do nothing, as SoX needs neither start-up nor shut-down here."""


# huggingface_hub ---------------------------------------------------------------------------------------------------


def lacks_hub_names() -> bool:
    import huggingface_hub

    return not all(hasattr(huggingface_hub, name) for name in _HUB_NAMES)


def add_hub_names() -> None:
    import huggingface_hub

    for name in _HUB_NAMES:
        if not hasattr(huggingface_hub, name):
            setattr(huggingface_hub, name, type(name, (RemovedFromHub,), {}))


class RemovedFromHub:
    """A name that S3PRL imports and uses only to log in or upload to the Hugging Face Hub."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise self._gone()

    @classmethod
    def save_token(cls, token: str) -> None:
        raise cls._gone()

    @classmethod
    def get_token(cls) -> str:
        raise cls._gone()

    @classmethod
    def _gone(cls) -> ElpError:
        return ElpError(
            f"huggingface_hub 1.0 removed {cls.__name__}, which S3PRL's --hub huggingface and --push_to_hf_hub need; "
            "install huggingface_hub 0.36 for them"
        )


# torch -------------------------------------------------------------------------------------------------------------


def refuses_namespace() -> bool:
    return argparse.Namespace not in torch.serialization.get_safe_globals()


def allow_namespace() -> None:
    torch.serialization.add_safe_globals([argparse.Namespace])


def no_cuda() -> bool:
    return not torch.cuda.is_available()


def quiet_noise() -> None:
    """Hide deprecation warnings on every step, an unneeded package, model configurations, and advice on workers."""
    logging.getLogger("s3prl.upstream.espnet_hubert.expert").setLevel(logging.ERROR)
    for model in ("wavlm.WavLM", "unispeech_sat.UniSpeechSAT"):
        logging.getLogger(f"s3prl.upstream.{model}").setLevel(logging.WARNING)
    for notice in (
        r".*torchaudio.*deprecat",
        r".*torch\.nn\.utils\.weight_norm.* is deprecated",
        r".*torch\.jit\.\w+.* is deprecated",
        ".*mismatched key_padding_mask and attn_mask",
        "This DataLoader will create .* worker processes",
    ):
        warnings.filterwarnings("ignore", message=notice)
    warnings.filterwarnings("ignore", message=r".*torch\.cuda\.amp\.", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*CUDA is not available.*", module=r"torch\.(cuda\.)?amp")


# catalyst ----------------------------------------------------------------------------------------------------------


def lacks_catalyst() -> bool:
    return "catalyst" not in sys.modules and importlib.util.find_spec("catalyst") is None


def add_catalyst() -> None:
    """Provide the one class of catalyst that S3PRL's speech_commands imports."""
    names = ("catalyst", "catalyst.data", "catalyst.data.sampler")
    modules = {name: ModuleType(name, "Stand-in for catalyst, of which S3PRL needs one class.") for name in names}
    modules["catalyst"].data = modules["catalyst.data"]
    modules["catalyst.data"].sampler = modules["catalyst.data.sampler"]
    modules["catalyst.data.sampler"].DistributedSamplerWrapper = DistributedSamplerWrapper
    sys.modules.update(modules)


class DistributedSamplerWrapper(Sampler):
    """Distribute any sampler's indices to the ranks in turn, after making their number divisible."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.rank = torch.distributed.get_rank()
        self.ranks = torch.distributed.get_world_size()

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.ranks)

    def __iter__(self) -> Iterator[int]:
        indices = list(self.sampler)
        indices += indices[: len(self) * self.ranks - len(indices)]
        return iter(indices[self.rank :: self.ranks])
