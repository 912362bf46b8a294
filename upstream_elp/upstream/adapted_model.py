"""A transformers model with adapters for your own training loop: the model's own forward, plus our methods.

The model is adapted in place and composed, never subclassed. It shares its backbone with an
:class:`~upstream_elp.upstream.expert.ElpExpert`, which injects, checks, saves and computes features. An adapter folder
therefore means the same here and in ``elp run`` on the same backbone.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from upstream_elp.adapters.config import AdapterConfig
from upstream_elp.adapters.p_adapter import PseudoFeatures
from upstream_elp.audio.front import FrontEnd
from upstream_elp.backbones.huggingface import HuggingFaceExpert
from upstream_elp.backbones.huggingface_files import check_options
from upstream_elp.backbones.recognition import find_family
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.adapted import AdaptedModule
from upstream_elp.upstream.expert import ElpExpert
from upstream_elp.upstream.face import AdapterFace
from upstream_elp.upstream.state_dict import forget_missing


class PseudoFrames(nn.Module):
    """Keeps the frames of a P-adapter inside the encoder, so that a head sees as many frames as without it.

    It is both a forward pre-hook and a forward hook of the transformers model, with keyword arguments. It is a module
    and not a closure, so that copies feed the copy's adapter.

    Args:
        pseudo: the P-adapter.
        front: the waveform CNN, which determines how many frames a wave yields.
    """

    def __init__(self, pseudo: PseudoFeatures, front: FrontEnd) -> None:
        super().__init__()
        self._pseudo = (pseudo,)  # in a tuple, since it is the encoder's child
        self.front = front
        self.open = False
        """Whether the model is called directly; our expert strips the frames itself."""
        self._frame_len: Tensor | None = None
        self._longest = 0

    def forward(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any = None) -> Any:
        """Count the frames before the model runs, and remove the pseudo frames from its output."""
        if not self.open:
            return None
        return self._count(*args, **kwargs) if output is None else self._stripped(output)

    def _count(self, input_values: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> None:
        samples = torch.full((len(input_values),), input_values.shape[1])
        if attention_mask is not None:
            samples = attention_mask.sum(-1).cpu()
        self._frame_len = self.front.frame_len(samples)
        self._longest = int(self.front.frame_len(torch.tensor(input_values.shape[1])))
        self._pseudo[0].set_lengths(self._frame_len)

    def _stripped(self, output: Any) -> Any:
        (pseudo,) = self._pseudo
        if not pseudo.enabled:
            return output
        if isinstance(output, dict):  # as the outputs of transformers are
            return type(output)(**{key: self._strip(value) for key, value in output.items()})
        return tuple(map(self._strip, output))

    def _strip(self, value: Any) -> Any:
        """Remove the pseudo frames from a value that has them: the states do, the CNN features do not."""
        if isinstance(value, tuple | list):
            return type(value)(map(self._strip, value))
        if not isinstance(value, Tensor):
            return value
        if value.dim() == 4:
            raise ElpError(
                "attention weights cannot be returned with a P-adapter: they have rows and columns for its frames; "
                "call the model without output_attentions, or within adapters_off()"
            )
        (pseudo,) = self._pseudo
        has_them = value.dim() == 3 and value.shape[1] == self._longest + pseudo.length
        return pseudo.strip([value], self._frame_len)[0] if has_them else value

    def close(self) -> None:
        """Forget the batch."""
        self.open = False
        self._frame_len = None
        self._pseudo[0].set_lengths(None)


class GradientWatch(nn.Module):
    """A forward pre-hook of the backbone that notices a wrapper which runs it without gradients.

    SpeechBrain's wrappers do so with ``freeze=True``. New adapters would silently stay as they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.expected = False
        """Whether gradients are recorded where the model is called, and new adapters are to receive them."""

    def forward(self, module: nn.Module, args: tuple) -> None:
        """Refuse to run the backbone without gradients if they are expected."""
        if self.expected and not torch.is_grad_enabled():
            raise ElpError(
                "the model runs its backbone without gradients, so the new adapters would not be trained; the backbone "
                "is frozen already, so build the model without freezing it (in SpeechBrain: freeze=False)"
            )


class AdaptedModel(AdapterFace):
    """A transformers model whose backbone has adapters, as made by :func:`upstream_elp.adapt`.

    A call takes and returns the same as a call of the model, and missing attributes are looked up in the model. The
    state dict contains the adapters and everything outside the backbone, such as a head, but not the frozen backbone.

    Args:
        model: a WavLM, HuBERT or wav2vec 2.0 model of transformers, bare or with a head, or a module that contains one.
        config: the adapters.
        name: backbone name to record in adapter folders.
        check: whether to run the self-check.

    Raises:
        ElpError: the model or the configuration cannot be used, or the self-check failed.
    """

    def __init__(self, model: nn.Module, config: AdapterConfig, *, name: str | None, check: bool) -> None:
        super().__init__()
        _, path = find_family(model)
        backbone = model.get_submodule(path)
        _check(model, path, backbone, config)
        mode = model.training
        self.backbone_path = path
        expert = ElpExpert(HuggingFaceExpert.around(backbone), config, name=name, check=check)
        self.model = model  # before the expert, so that shared tensors are listed under the model's names
        self.expert = expert
        self.frames: PseudoFrames | None = None
        if (pseudo := expert.injection.pseudo(expert)) is not None:
            self.frames = PseudoFrames(pseudo, expert.injection.front)
            backbone.register_forward_pre_hook(self.frames, with_kwargs=True)
            backbone.register_forward_hook(self.frames, with_kwargs=True)
        self.watch = GradientWatch()
        backbone.register_forward_pre_hook(self.watch)
        _install_hooks(self)
        self.train(mode)

    def __getattr__(self, name: str) -> Any:
        """Look up attributes that we do not have, such as ``config`` and ``device``, in the model."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "model" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(self.model, name)

    @property
    def adapted(self) -> AdaptedModule:
        """The expert that shares the model's backbone."""
        return self.expert

    @property
    def enabled(self) -> bool:
        """Whether the adapters are active."""
        return self.expert.enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self.expert.enabled = value

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model's own forward."""
        if kwargs.get("mask_time_indices") is not None and not self.expert.config.spec_augment:
            raise ElpError(
                "mask_time_indices has no effect while masking is off; set spec_augment: true in the configuration"
            )
        self.watch.expected = self._learns()
        if self.frames is not None:
            self.frames.open = True
        try:
            return self.model(*args, **kwargs)
        finally:
            self.watch.expected = False
            if self.frames is not None:
                self.frames.close()

    def _learns(self) -> bool:
        """Return whether a call is a step of training in which new adapters receive gradients."""
        new = self.training and torch.is_grad_enabled() and not self.expert.trained
        return new and any(each.requires_grad for each in self.adapter_parameters().values())

    def gradient_checkpointing_enable(self, **_: Any) -> None:
        """Recompute activations in the backward pass to save memory; transformers only does so in training mode."""
        self.expert.checkpoint_layers()

    def features(
        self, input_values: Tensor | Sequence[Tensor], attention_mask: Tensor | None = None
    ) -> dict[str, list[Tensor] | Tensor]:
        """Compute the features for your own head, including the outputs of L-adapters.

        Args:
            input_values: waves prepared as for the model, (batch, samples), or a list of waves, each (samples,).
            attention_mask: (batch, samples), 1 on the wave; needed if the waves of a batch differ in length.

        Returns:
            The same as :meth:`upstream_elp.upstream.expert.ElpExpert.forward`: ``hidden_states`` (a list of
            (batch, frames, dim), see ``features`` in the configuration), ``last_hidden_state`` and
            ``backbone_hidden_states``.

        Raises:
            ElpError: a wave that is too short or not finite.
        """
        waves = list(input_values)
        if attention_mask is not None:
            waves = [wave[:samples] for wave, samples in zip(waves, attention_mask.sum(-1).tolist(), strict=True)]
        return self.expert(waves)

    def __deepcopy__(self, memo: dict[int, Any]) -> AdaptedModel:
        """Make an independent copy; the expert is copied first, since it knows how to copy a backbone."""
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        copy.deepcopy(self.expert, memo)
        clone.__dict__.update({key: copy.deepcopy(value, memo) for key, value in self.__dict__.items()})
        _install_hooks(clone)
        return clone


@functools.cache
def adapted_class(kind: type[nn.Module]) -> type[AdaptedModel]:
    """Return the class for models of a kind; its forward has their signature, which transformers' Trainer reads."""

    @functools.wraps(kind.forward)
    def forward(self: AdaptedModel, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    return type(f"Adapted{kind.__name__}", (AdaptedModel,), {"forward": forward, "__doc__": AdaptedModel.__doc__})


def _check(model: nn.Module, path: str, backbone: nn.Module, config: AdapterConfig) -> None:
    """Refuse a model or a combination that cannot work."""
    kind = type(model).__name__
    options = backbone.config.to_dict()
    check_options(options, kind)
    if options.get("add_adapter"):
        raise ElpError(
            f"{kind} has transformers' own strided adapter (add_adapter), whose frames are not those of the encoder; "
            "load the model with add_adapter=False"
        )
    if path and "l_adapter" in config.methods:
        raise ElpError(
            f"L-adapters cannot be trained through {kind}: its head reads the last state of the encoder and not their "
            "outputs; use a preset without l_adapter, such as e_only, or adapt the bare model and call features()"
        )
    dtype = next(backbone.parameters()).dtype
    if dtype != torch.float32:
        raise ElpError(
            f"the model must be in torch.float32 to train adapters, but is in {dtype}; call model.float() first, and "
            "use autocast for speed"
        )


def _install_hooks(module: AdaptedModel) -> None:
    """Keep the frozen backbone out of state dicts; the expert has its own hooks for the adapters."""
    module._state_dict_hooks.clear()
    module._load_state_dict_pre_hooks.clear()
    module._load_state_dict_post_hooks.clear()
    module._register_state_dict_hook(_drop_backbone)
    module.register_load_state_dict_pre_hook(_note_prefix)
    module.register_load_state_dict_post_hook(forget_missing)


def _frozen_prefix(module: AdaptedModel, prefix: str) -> str:
    return f"{prefix}model.{module.backbone_path}{'.' if module.backbone_path else ''}"


def _drop_backbone(module: AdaptedModel, state: dict[str, Any], prefix: str, _: Any) -> None:
    frozen = _frozen_prefix(module, prefix)
    for key in [key for key in state if key.startswith(frozen)]:
        del state[key]


def _note_prefix(module: AdaptedModel, _state: dict[str, Any], prefix: str, *_: Any) -> None:
    module._load_prefix = _frozen_prefix(module, prefix)
