"""The upstream that S3PRL sees: a stock expert with adapters inside, composed and never subclassed.

S3PRL's ``UpstreamBase`` collects hidden states with hooks on module objects and refuses subclasses that return their
own. The stock expert therefore stays as it is, including its hooks, and this module works on its output.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import Tensor, nn

from upstream_elp.adapters.attention import fuse
from upstream_elp.adapters.config import AdapterConfig
from upstream_elp.adapters.lowest import STATES
from upstream_elp.adapters.primitives import CheckpointedLayer, mix_in
from upstream_elp.audio.front import FrontEnd
from upstream_elp.backbones.fingerprint import Fingerprint, fingerprint
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.adapted import AdaptedModule
from upstream_elp.upstream.face import AdapterFace
from upstream_elp.upstream.inject import inject
from upstream_elp.upstream.replay import Replay
from upstream_elp.upstream.selfcheck import Probe, self_check
from upstream_elp.upstream.state_dict import frozen_sample, install_state_hooks

logger = logging.getLogger(__name__)
MOST_FRAMES_MISSING = 4
"""S3PRL's ``TOLERABLE_SEQLEN_DIFF`` less one."""


class ElpExpert(AdaptedModule, AdapterFace):
    """A frozen backbone with adapters that follows S3PRL's upstream contract.

    Args:
        backbone: S3PRL's stock expert, loaded and without adapters.
        config: the adapters to inject, and the features that the head sees.
        name: hub name of the backbone for adapter folders; None for a local checkpoint.
        check: whether to run the self-check.
        known: fingerprint of the backbone, if it is already known.

    Raises:
        ElpError: the backbone is unknown, the configuration does not fit it, or the self-check failed.
    """

    def __init__(
        self,
        backbone: nn.Module,
        config: AdapterConfig,
        *,
        name: str | None = None,
        check: bool = True,
        known: Fingerprint | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.config = config
        self.name = name
        self.trained = False
        self.replay: Replay | None = None
        """Puts the frozen part back that was computed before, if that is wanted (:mod:`upstream_elp.caching`)."""
        self._warned = False
        self._frozen_calls = 0
        self.fingerprint = known or fingerprint(backbone)
        probe = Probe(backbone) if check else None
        self.injection = inject(self, config)
        _check_front(self.injection.front)
        self.to(next(backbone.parameters()).device)
        self.frozen = frozen_sample(self)
        install_state_hooks(self)
        if probe is not None:
            self_check(self, probe)

    @property
    def adapted(self) -> AdaptedModule:
        """The expert itself."""
        return self

    def get_downsample_rates(self, key: str) -> int:
        """Return the samples per frame of the feature ``key``."""
        return self.injection.front.stride  # S3PRL's experts return 320 for any CNN

    @property
    def min_samples(self) -> int:
        """Length of the shortest wave that is accepted, in samples."""
        return self.injection.min_samples

    def train(self, mode: bool = True) -> ElpExpert:
        """Set the mode; the backbone itself stays in eval mode unless the configuration says ``backbone_dropout``."""
        super().train(mode)
        if mode and not self.config.backbone_dropout:
            self.backbone.eval()
            for path in self.injection.sites:
                self.get_submodule(path).train()
        if hasattr(self.backbone, "set_spec_augment"):
            self.backbone.set_spec_augment(mode and self.config.spec_augment)
        return self

    def checkpoint_layers(self) -> None:
        """Recompute the encoder layers' activations in the backward pass: less memory, but a third more time."""
        for layer in self.get_submodule(f"{self.injection.model_path}.{self.injection.family.layers}"):
            mix_in(layer, CheckpointedLayer)

    def fuse_attention(self) -> None:
        """Train WavLM's attention with torch's fused kernel: less memory, but results differ by rounding."""
        fuse(self.get_submodule(f"{self.injection.model_path}.{self.injection.family.layers}"), self.injection.family)

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """Extract features.

        Args:
            wavs: 16 kHz waves, each of shape (samples,).

        Returns:
            ``hidden_states``: what the head sees, a list of (batch, frames, dim), see :attr:`AdapterConfig.features`;
            ``last_hidden_state``: the last state of the encoder; ``backbone_hidden_states``: the N+1 states of the
            adapted backbone; and S3PRL's ``hidden_state_i`` for each of them.

        Raises:
            ElpError: not a list of waves, or a wave that is not 1-D, shorter than one frame, or not finite.
        """
        replayed = self.replay is not None and self.replay.batch is not None
        frame_len = self.replay.frame_len if replayed else self.check_wavs(wavs)
        self._warn_if_untrained()
        if replayed and self.replay.place == STATES:
            states = self.replay.hidden_states()
        else:
            states = self.backbone_states(wavs, frame_len)
        result: dict[str, Any] = {f"hidden_state_{index}": state for index, state in enumerate(states)}
        result["backbone_hidden_states"] = states
        result["last_hidden_state"] = states[-1]
        result["hidden_states"] = self._features(states)
        return result

    def backbone_states(self, wavs: list[Tensor], frame_len: Tensor) -> list[Tensor]:
        """Return the N+1 states of the adapted backbone, (batch, frames, dim) each, for waves and their frames."""
        pseudo = self.injection.pseudo(self)
        if pseudo is None:
            return list(self.backbone(wavs)["hidden_states"])
        pseudo.set_lengths(frame_len)
        try:
            states = self.backbone(wavs)["hidden_states"]
        finally:
            pseudo.set_lengths(None)
        return pseudo.strip(states, frame_len)

    def _features(self, states: list[Tensor]) -> list[Tensor]:
        if self.config.features == "l":
            # states[0] is the encoder's input; layer i's output is states[i + 1]
            return [self.l_adapters[str(index)](states[index + 1]) for index in self.injection.l_layers]
        return states if self.config.features == "layers" else states[-1:]

    def check_wavs(self, wavs: list[Tensor]) -> Tensor:
        """Return the waves' numbers of frames, shape (batch,), on the CPU.

        Raises:
            ElpError: the waves cannot be used, see :meth:`forward`.
        """
        if not isinstance(wavs, list | tuple):
            given = f"a tensor of shape {tuple(wavs.shape)}" if isinstance(wavs, Tensor) else f"a {type(wavs).__name__}"
            raise ElpError(f"the input must be a list of waves, each a tensor of shape (samples,), but is {given}")
        if not wavs:
            raise ElpError("the batch does not contain any waves")
        for index, wav in enumerate(wavs):
            if problem := self._problem(wav):
                raise ElpError(f"wave {index} of the batch {problem}")
        finite = torch.stack([torch.isfinite(wav).all() for wav in wavs])
        if not bool(finite.all()):
            index = int((~finite).nonzero()[0])
            raise ElpError(f"wave {index} of the batch contains samples that are not finite (NaN or infinity)")
        return self.injection.frame_len(torch.tensor([len(wav) for wav in wavs]))

    def _problem(self, wav: Any) -> str:
        """Return what is wrong with a wave, as the predicate of a sentence; empty if nothing is wrong."""
        if not isinstance(wav, Tensor):
            return f"must be a tensor of shape (samples,), but is a {type(wav).__name__}"
        if wav.dim() != 1:
            return f"must have the shape (samples,), but has {tuple(wav.shape)}"
        if len(wav) < self.min_samples:
            return f"must have at least {self.min_samples} samples, but has {len(wav)}"
        weights = next(self.backbone.parameters()).dtype
        if wav.dtype != weights and not (wav.is_floating_point() and torch.is_autocast_enabled(wav.device.type)):
            return f"must be of type {weights}, with samples in [-1, 1], but is of type {wav.dtype}"
        return ""

    def _warn_if_untrained(self) -> None:
        """Warn once if untrained adapters are used without gradients; the first such pass is the host's own probe.

        That is so without a graph, and also with one if a toolkit has frozen every tensor of the upstream.
        """
        if self._warned or self.trained or not self.injection.declared:
            return
        if torch.is_grad_enabled() and any(each.requires_grad for each in self.adapter_parameters().values()):
            self.trained = True
            return
        self._frozen_calls += 1
        if self._frozen_calls > 1:
            self._warned = True
            logger.warning(
                "the adapters of this upstream are untrained and do not receive gradients; "
                "train with -f (in other toolkits: do not freeze the upstream), or load trained adapters with -k FOLDER"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> ElpExpert:
        """Make an independent copy; S3PRL's hooks are closures over the original's list and are registered anew."""
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        for module in self.modules():
            # weight norm keeps a computed weight as a plain attribute, and torch refuses to copy a tensor with a graph
            computed = (value for value in vars(module).values() if isinstance(value, Tensor) and not value.is_leaf)
            memo.update({id(value): value.detach().clone() for value in computed})
        for key, value in self.__dict__.items():
            clone.__dict__[key] = copy.deepcopy(value, memo)
        _renew_hooks(clone.backbone)
        install_state_hooks(clone)
        return clone


def _check_front(front: FrontEnd) -> None:
    """Refuse a CNN whose number of frames S3PRL's featurizer would not accept; it expects about one per stride."""
    missing = round((front.min_samples + front.stride - 1) / front.stride) - 1
    if missing > MOST_FRAMES_MISSING:
        raise ElpError(
            f"this backbone cannot be used: its frames see {front.min_samples} samples and come every {front.stride}, "
            f"so a wave may yield {missing} frames fewer than its length divided by {front.stride}, and S3PRL accepts "
            f"at most {MOST_FRAMES_MISSING}"
        )


def _renew_hooks(backbone: nn.Module) -> None:
    """Replace a copied stock expert's hooks, which still write into the original's list."""
    for hook in getattr(backbone, "hooks", []):
        if hook.handler is None:
            continue
        for module in backbone.modules():
            module._forward_hooks.pop(hook.handler.id, None)
        hook.handler = None
        backbone._register_hook_handler(hook)
