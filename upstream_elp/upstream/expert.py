"""The upstream that S3PRL sees: a stock expert with adapters inside, composed, never subclassed.

S3PRL's ``UpstreamBase`` collects hidden states by hooks on module objects and refuses subclasses that return their own;
so the stock expert stays as it is, its hooks included, and this module works on what it returns.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import Tensor, nn

from upstream_elp.adapters.config import AdapterConfig
from upstream_elp.adapters.primitives import CheckpointedLayer, mix_in
from upstream_elp.audio.front import FrontEnd
from upstream_elp.backbones.fingerprint import Fingerprint, fingerprint
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.adapted import AdaptedModule
from upstream_elp.upstream.face import AdapterFace
from upstream_elp.upstream.inject import inject
from upstream_elp.upstream.selfcheck import Probe, self_check
from upstream_elp.upstream.state_dict import install_state_hooks

logger = logging.getLogger(__name__)
MOST_FRAMES_MISSING = 4
"""S3PRL's ``TOLERABLE_SEQLEN_DIFF`` less one."""


class ElpExpert(AdaptedModule, AdapterFace):
    """A frozen backbone with adapters, under S3PRL's upstream contract.

    Args:
        backbone: S3PRL's stock expert, loaded, nothing injected yet.
        config: which adapters to inject and what the head sees.
        name: the backbone's hub name, for adapter folders; None for a local checkpoint without one.
        check: whether to run the self-check.
        known: the backbone's fingerprint, if it has been taken before.

    Raises:
        ElpError: unknown backbone, configuration that does not fit it, or a failed self-check.
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
        self._warned = False
        self._frozen_calls = 0
        self.fingerprint = known or fingerprint(backbone)
        probe = Probe(backbone) if check else None
        self.injection = inject(self, config)
        _check_front(self.injection.front)
        self.to(next(backbone.parameters()).device)
        install_state_hooks(self)
        if probe is not None:
            self_check(self, probe)

    @property
    def adapted(self) -> AdaptedModule:
        """The expert itself."""
        return self

    def get_downsample_rates(self, key: str) -> int:
        """Samples per frame of the feature ``key``."""
        return self.injection.front.stride  # S3PRL's experts say 320 whatever the checkpoint's CNN is

    @property
    def min_samples(self) -> int:
        """Shortest wave that is accepted."""
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
        """Compute the encoder layers' activations again in the backward pass: less memory, a third more time."""
        for layer in self.get_submodule(f"{self.injection.model_path}.{self.injection.family.layers}"):
            mix_in(layer, CheckpointedLayer)

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """Extract features.

        Args:
            wavs: 16 kHz waves, each of shape (samples,).

        Returns:
            ``hidden_states``: what the head sees, a list of (batch, frames, dim), see :attr:`AdapterConfig.features`;
            ``last_hidden_state``: the encoder's last state; ``backbone_hidden_states``: the adapted backbone's N+1
            states; and S3PRL's ``hidden_state_i`` for each of those.

        Raises:
            ElpError: no list of waves, or a wave that is not 1-D, shorter than one frame, or not finite.
        """
        wav_len = self._check_wavs(wavs)
        self._warn_if_untrained()
        frame_len = self.injection.frame_len(wav_len)
        states = self._backbone_states(wavs, frame_len)
        result: dict[str, Any] = {f"hidden_state_{index}": state for index, state in enumerate(states)}
        result["backbone_hidden_states"] = states
        result["last_hidden_state"] = states[-1]
        result["hidden_states"] = self._features(states)
        return result

    def _backbone_states(self, wavs: list[Tensor], frame_len: Tensor) -> list[Tensor]:
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

    def _check_wavs(self, wavs: list[Tensor]) -> Tensor:
        """Return the lengths in samples, shape (batch,), on the CPU."""
        if not isinstance(wavs, list | tuple):
            given = f"one of the shape {tuple(wavs.shape)}" if isinstance(wavs, Tensor) else f"a {type(wavs).__name__}"
            raise ElpError(f"expected a list of waves, each a tensor of shape (samples,), got {given}")
        if not wavs:
            raise ElpError("the batch holds no waves")
        for index, wav in enumerate(wavs):
            if problem := self._problem(wav):
                raise ElpError(f"wave {index} of the batch {problem}")
        finite = torch.stack([torch.isfinite(wav).all() for wav in wavs])
        if not bool(finite.all()):
            index = int((~finite).nonzero()[0])
            raise ElpError(f"wave {index} of the batch holds samples that are not finite numbers (NaN or infinity)")
        return torch.tensor([len(wav) for wav in wavs])

    def _problem(self, wav: Any) -> str:
        """What is wrong with one wave, to be said of it; empty if nothing is."""
        if not isinstance(wav, Tensor):
            return f"is a {type(wav).__name__}; expected a tensor of shape (samples,)"
        if wav.dim() != 1:
            return f"has the shape {tuple(wav.shape)}; expected (samples,)"
        if len(wav) < self.min_samples:
            return f"has {len(wav)} samples; the backbone needs at least {self.min_samples}"
        weights = next(self.backbone.parameters()).dtype
        if wav.dtype != weights and not (wav.is_floating_point() and torch.is_autocast_enabled(wav.device.type)):
            return f"has the type {wav.dtype}; expected {weights} samples in [-1, 1]"
        return ""

    def _warn_if_untrained(self) -> None:
        """Say once that untrained adapters are used without gradients, after the host's own probe pass."""
        if torch.is_grad_enabled():
            self.trained = True
        if self._warned or self.trained or not self.injection.declared:
            return
        self._frozen_calls += 1
        if self._frozen_calls > 1:
            self._warned = True
            logger.warning(
                "the adapters of this upstream are untrained and receive no gradient: "
                "train with -f, or load trained adapters with -k FOLDER"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> ElpExpert:
        """Copy independently: S3PRL's hooks are closures over the original's list, so they are registered anew."""
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        for module in self.modules():
            # weight norm keeps a computed weight as a plain attribute, which torch refuses to copy with its graph
            computed = (value for value in vars(module).values() if isinstance(value, Tensor) and not value.is_leaf)
            memo.update({id(value): value.detach().clone() for value in computed})
        for key, value in self.__dict__.items():
            clone.__dict__[key] = copy.deepcopy(value, memo)
        _renew_hooks(clone.backbone)
        install_state_hooks(clone)
        return clone


def _check_front(front: FrontEnd) -> None:
    """Refuse a CNN whose frames S3PRL's featurizer would not accept: it expects about one per stride."""
    missing = round((front.min_samples + front.stride - 1) / front.stride) - 1
    if missing > MOST_FRAMES_MISSING:
        raise ElpError(
            f"the backbone's frames see {front.min_samples} samples and come every {front.stride}, so a wave gives up "
            f"to {missing} frames fewer than its length divided by {front.stride}; S3PRL accepts at most "
            f"{MOST_FRAMES_MISSING}, so this backbone cannot be used"
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
