"""A featurizer that refuses a selection that the upstream does not offer."""

import logging
from types import ModuleType
from typing import Any

import torch

from upstream_elp.backbones.structure import unwrapped
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import did_you_mean

logger = logging.getLogger(__name__)


def check_featurizer(runner: ModuleType) -> None:
    """Replace ``runner.Featurizer`` with a strict subclass, as S3PRL's silently falls back to ``hidden_states``."""
    stock = runner.Featurizer

    class Featurizer(stock):
        """S3PRL's featurizer, strict about ``-s`` and ``-l``."""

        def __init__(
            self,
            upstream: torch.nn.Module,
            feature_selection: str = "hidden_states",
            layer_selection: int | None = None,
            **kwargs: Any,
        ) -> None:
            super().__init__(
                upstream=Probe(upstream, feature_selection, layer_selection),
                feature_selection=feature_selection,
                layer_selection=layer_selection,
                **kwargs,
            )

    Featurizer.__qualname__ = "Featurizer"
    runner.Featurizer = Featurizer


class Probe:
    """Stand-in for the upstream while the featurizer examines it, which checks its output."""

    def __init__(self, upstream: torch.nn.Module, selection: str, layer: int | None) -> None:
        self._upstream = upstream
        self._selection = selection
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._upstream, name)

    def __call__(self, wavs: list[torch.Tensor]) -> dict:
        if hasattr(self._upstream, "min_samples"):  # ours: neither keys nor widths depend on the length
            wavs = [wav[: max(self._upstream.min_samples, len(wav) // 10)] for wav in wavs]
        features = self._upstream(wavs)
        check_selection(features, self._selection, self._layer)
        if self._layer is not None or self._selection != "hidden_states":
            warn_unreached(self._upstream, wavs, self._selection, self._layer)
        return features


def check_selection(features: dict, selection: str, layer: int | None) -> None:
    """Refuse an unknown ``-s`` and an ``-l`` that is out of range or meaningless.

    Args:
        features: the upstream's output.
        selection: the key that ``-s`` names.
        layer: the index that ``-l`` names, or None.

    Raises:
        ElpError: listing the valid keys or the valid range.
    """
    if selection not in features:
        public = [key for key in features if not key.startswith("_")]
        hint = did_you_mean(selection, public, then=f"it has: {', '.join(_keys(features))}")
        raise ElpError(f"-s {selection}: the upstream has no such feature; {hint}")
    value = features[selection]
    if layer is None:
        return
    if not isinstance(value, (list, tuple, dict)):
        raise ElpError(f"-l {layer}: -s {selection} is a single feature without layers; remove -l")
    if not -len(value) <= layer < len(value):
        raise ElpError(f"-l {layer}: -s {selection} has {len(value)} layers; choose 0 to {len(value) - 1}")


def warn_unreached(upstream: torch.nn.Module, wavs: list[torch.Tensor], selection: str, layer: int | None) -> None:
    """Warn of new adapters that the selected feature does not depend on, as they would stay untrained.

    Args:
        upstream: any upstream; only ours have adapters.
        wavs: probe waves.
        selection: the key that ``-s`` names.
        layer: the index that ``-l`` names, or None.
    """
    upstream = unwrapped(upstream)
    injection = getattr(upstream, "injection", None)
    if injection is None or upstream.trained or not injection.declared:
        return
    parameters = injection.parameters(upstream)
    with torch.enable_grad():  # S3PRL's featurizer examines the upstream without gradients
        value = upstream(wavs)[selection]
        chosen = value if torch.is_tensor(value) else list(value.values() if isinstance(value, dict) else value)
        chosen = [chosen] if torch.is_tensor(chosen) else chosen if layer is None else [chosen[layer]]
        total = sum(feature.sum() for feature in chosen)
    upstream.trained = False  # that pass was not training
    gradients = [None] * len(parameters)
    if total.requires_grad:
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    unreached = [name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None]
    if unreached:
        logger.warning(
            "-s/-l: the selected feature does not depend on %d of %d trained tensors (such as %s), so they stay "
            "untrained",
            len(unreached),
            len(parameters),
            unreached[-1],
        )


def _keys(features: dict) -> list[str]:
    """The public keys, with the sequence ``hidden_state_0 … hidden_state_N`` shortened."""
    numbered = [key for key in features if key.startswith("hidden_state_")]
    keys = [key for key in features if not key.startswith("_") and key not in numbered]
    if numbered:
        keys.append(f"{numbered[0]} … {numbered[-1]}")
    return keys
