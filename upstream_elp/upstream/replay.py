"""Compute the frozen part of an adapted backbone once per utterance, and put it back into later forward passes.

The stock model's own code runs in both cases. To record, a forward pass of one utterance stops where the trained part
begins. To replay, the modules below that place are passed over, and hooks put the recorded frames in their place, with
a mask that marks exactly each utterance's own frames. What is recorded is therefore that of the utterance by itself,
even if padding changes the features in a batch. A record at a higher place may begin from one at a lower place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from upstream_elp.adapters.lowest import CNN_OUTPUT, ENCODER_INPUT, LAYER_LEVEL, STATES, Place, layer_input
from upstream_elp.adapters.primitives import mix_in, take_out_mixin
from upstream_elp.base.randomness import preserved
from upstream_elp.upstream.adapted import AdaptedModule
from upstream_elp.upstream.passed_over import BIAS, Cnn, Layer, LayerInput, PassedOver, Positions, X, filled, pattern_of

PROBE_FRAMES = 12
BEGINNINGS = (layer_input(0), ENCODER_INPUT)
"""Places from whose record a higher one can be computed, the highest first; the CNN is below both."""
Upstream = Callable[[list[Tensor]], dict[str, Any]]
"""Waves of shape (samples,) to S3PRL's dictionary of hidden states."""


class _Recorded(Exception):
    """Ends a forward pass once everything that is wanted has been recorded."""


@dataclass(frozen=True)
class Begin:
    """A record at one of :data:`BEGINNINGS`, (1, frames, width)."""

    place: Place
    part: Tensor


def kept_states(place: Place, states: Sequence[int], *, layers: int) -> tuple[int, ...]:
    """Return the indices of the hidden states in a record up to a place, if ``states`` are needed."""
    if place in (CNN_OUTPUT, ENCODER_INPUT):
        return ()
    top = layers if place == STATES else place.layer
    return tuple(sorted({*(index for index in states if index <= top), top}))


def longer(states: Tensor, frames: int) -> Tensor:
    """Append zeros to (batch, frames, width) until there are at least ``frames`` frames."""
    return F.pad(states, (0, 0, 0, max(0, frames - states.shape[1])))


class Replay:
    """The frozen part of one expert, up to a place.

    Args:
        expert: the expert; hooks are added to its backbone until :meth:`remove` is called.
        place: where the trained part begins: anything but the waves.
        states: indices of the hidden states that are needed, from 0 to N; those below ``place`` are recorded.
    """

    def __init__(self, expert: AdaptedModule, place: Place, *, states: Sequence[int]) -> None:
        injection = expert.injection
        self.place = place
        self.stride = injection.front.stride
        self.count = injection.layers + 1
        self.kept = kept_states(place, states, layers=injection.layers)
        self.batch: list[Tensor] | None = None
        """The utterances that are being replayed, each of shape (recorded, frames, width)."""
        self._seen: dict[int, Tensor] | None = None
        self._until = place
        self.begin: Begin | None = None
        """Where the utterance that is being recorded begins; None for its wave."""
        self._bias: Tensor | None = None
        self._install(expert)

    # --- recording ------------------------------------------------------------------------------------------------

    def record(
        self, expert: AdaptedModule, wav: Tensor, *, until: Place | None = None, begin: Begin | None = None
    ) -> Tensor:
        """Compute the frozen part of one utterance, without gradients.

        Args:
            expert: the expert that this object belongs to.
            wav: (samples,).
            until: one of :data:`BEGINNINGS` below this object's place; None for that place.
            begin: a record of the utterance at a lower place, from which the result is the same bit by bit.

        Returns:
            (recorded, frames, width): the hidden states :attr:`kept`; or one tensor, the encoder's input, the CNN's
            output or the input of layer 0.
        """
        frame_len = expert.check_wavs([wav])
        frames = int(frame_len)
        self._seen, self._until, self.begin = {}, until or self.place, begin
        try:
            with torch.no_grad(), preserved(wav.device):  # WavLM draws from numpy in every forward pass
                states = expert.backbone_states([wav], frame_len)
            seen = [states[index][0, :frames] for index in self.kept]  # reached only if the place is the hidden states
        except _Recorded:
            seen = [self._seen[index] for index in sorted(self._seen)]
        finally:
            self._seen = self.begin = None
        return torch.stack([state[:frames] for state in seen])

    def _note(self, index: int, frames: Tensor, *, last: bool) -> None:
        """Keep what a forward pass has reached, (frames, width), and end the pass if nothing more is needed."""
        self._seen[index] = frames
        if last:
            raise _Recorded

    # --- replaying ------------------------------------------------------------------------------------------------

    def run(self, model: Upstream, parts: Sequence[Tensor]) -> tuple[list[Tensor], dict[str, Any]]:
        """Call the expert with recorded utterances in place of waves.

        Args:
            model: calls the expert, or what wraps it for several processes.
            parts: what :meth:`record` returned for each utterance of the batch.

        Returns:
            Waves of zeros with as many samples as the frames stand for, as S3PRL's featurizer needs their lengths; and
            what the expert returns.
        """
        waves = [part.new_zeros(1).expand(part.shape[1] * self.stride) for part in parts]
        self.batch, self._bias = list(parts), None
        try:
            return waves, model(waves)
        finally:
            self.batch = self._bias = None

    @property
    def frame_len(self) -> Tensor:
        """The number of frames of each utterance of the batch, on the CPU."""
        return torch.tensor([part.shape[1] for part in self.batch])

    def hidden_states(self) -> list[Tensor | None]:
        """Return the batch's N+1 hidden states, (batch, frames, dim) each; None for those that are not recorded."""
        states: list[Tensor | None] = [None] * self.count
        for row, index in enumerate(self.kept):
            states[index] = self._padded(row)
        return states

    def _padded(self, row: int) -> Tensor:
        """Return one of the recorded tensors for the batch, (batch, frames, width)."""
        return pad_sequence([part[row] for part in self.batch], batch_first=True)

    # --- hooks and mixed-in classes -----------------------------------------------------------------------------------

    def _install(self, expert: AdaptedModule) -> None:
        injection, place = expert.injection, self.place
        family, model = injection.family, expert.get_submodule(injection.model_path)
        encoder, layers = model.get_submodule(family.encoder), model.get_submodule(family.layers)
        self._mask = (family.mask_argument, family.mask_marks_padding)
        self._cnn_dim = model.get_submodule(family.cnn_norm).normalized_shape[0]
        below = list(layers)[: place.layer] if place.level == LAYER_LEVEL else []
        self._look(expert, list(layers)[: len(below) + 1])
        mix_in(model.get_submodule(family.cnn), Cnn)
        model.get_submodule(family.cnn).replay = self
        encoder.register_forward_pre_hook(self.enter_encoder, prepend=True, with_kwargs=True)
        if place < layer_input(0):
            return
        positions = getattr(encoder, family.positions, None)
        if isinstance(positions, nn.Module):
            mix_in(positions, Positions)
            positions.replay = self
        for index, layer in enumerate(below):
            mix_in(layer, Layer)
            layer.replay, layer.place_in_stack = self, index
            if index == 0:
                self._first_attention = layer.get_submodule(family.attention)
        for index, layer in enumerate(list(layers)[: len(below) + 1]):
            layer.register_forward_pre_hook(LayerInput(self, index), prepend=True)

    def _look(self, expert: AdaptedModule, layers: Sequence[nn.Module]) -> None:
        """See in a forward pass of noise how the layers' inputs and outputs are arranged."""
        seen: list[tuple[Tensor, Any]] = []
        handles = [layer.register_forward_hook(lambda _, args, out: seen.append((args[0], out))) for layer in layers]
        like = next(expert.backbone.parameters())
        samples = expert.injection.front.samples(PROBE_FRAMES)
        wav = torch.randn(samples, generator=torch.Generator().manual_seed(0)).to(like)
        try:
            with torch.no_grad(), preserved(like.device):
                expert.backbone_states([wav], expert.injection.frame_len(torch.tensor([samples])))
        finally:
            for handle in handles:
                handle.remove()
        self._batch_first = seen[0][0].shape[0] == 1
        self._outputs = [pattern_of(out, x, x.shape[int(self._batch_first)]) for x, out in seen]

    def remove(self, expert: AdaptedModule) -> None:
        """Remove hooks and classes; the expert then computes everything again."""
        for module in expert.backbone.modules():
            for hooks in (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs):
                for key, hook in list(hooks.items()):
                    if getattr(hook, "__self__", None) is self or getattr(hook, "replay", None) is self:
                        del hooks[key]
            if isinstance(module, PassedOver):
                take_out_mixin(module)
                del module.replay

    def cnn_output(self) -> Tensor:
        """Return the batch's CNN output, (batch, channels, frames); zeros if it is replayed further up."""
        if self.begin is not None:
            return self.begin.part.new_zeros(1, self._cnn_dim, self.begin.part.shape[1])
        if self.place == CNN_OUTPUT:
            return self._padded(0).transpose(1, 2)
        return self.batch[0].new_zeros(len(self.batch), self._cnn_dim, int(self.frame_len.max()))

    def leave_cnn(self, output: Tensor) -> None:
        """Record the output of the CNN, (1, channels, frames), if that is the place."""
        if self._seen is not None and self._until == CNN_OUTPUT:
            self._note(0, output[0].transpose(0, 1), last=True)

    def passes_over(self, place: Place) -> bool:
        """Return whether what computes a place is passed over, because a record begins there or further up."""
        if self.batch is not None:
            return True
        return self.begin is not None and self.begin.place >= place

    def enter_encoder(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict] | None:
        """Run as the pre-hook of the encoder: record or replay its input, and mask exactly the padding."""
        if self._seen is not None and self._until == ENCODER_INPUT:
            self._note(0, args[0][0], last=True)
        if self.begin is not None and self.begin.place == ENCODER_INPUT:
            return (self.begin.part, *args[1:]), kwargs
        if self.batch is None:
            return None
        x, *rest = args
        kwargs = dict(kwargs)
        frames = torch.arange(x.shape[1])
        name, marks_padding = self._mask
        if kwargs.get(name) is not None or len({part.shape[1] for part in self.batch}) > 1:
            padding = frames >= self.frame_len.unsqueeze(1)  # (batch, frames)
            kwargs[name] = (padding if marks_padding else ~padding).to(x.device)
        return (self._padded(0) if self.place == ENCODER_INPUT else x, *rest), kwargs

    def enter_layer(self, index: int, x: Tensor) -> Tensor | None:
        """Run as the pre-hook of a layer up to the place: record or replay its input, arranged as the layer has it."""
        frames = x.shape[int(self._batch_first)]  # some models add frames of padding
        if self.begin is not None and self.begin.place == layer_input(index):
            x = self._arranged(longer(self.begin.part, frames))
        if self._seen is not None:
            if self._until.level == LAYER_LEVEL and index in {*self.kept, self._until.layer}:
                self._note(index, self._arranged(x)[0], last=index == self._until.layer)
            return x
        if self.batch is None or index not in self.kept:
            return None
        return self._arranged(longer(self._padded(self.kept.index(index)), frames))

    def _arranged(self, state: Tensor) -> Tensor:
        """Swap (batch, frames, dim) and what the layers have."""
        return state if self._batch_first else state.transpose(0, 1)

    def skip_layer(self, index: int, x: Tensor) -> Any:
        """Return what layer ``index`` would return, with its input for its output, and layer 0's position bias."""
        if index == 0 and BIAS in self._outputs[0]:
            frames = x.shape[int(self._batch_first)]
            self._bias = self._first_attention.compute_bias(frames, frames).repeat(len(self.batch), 1, 1)
        return filled(self._outputs[index], {X: x, BIAS: self._bias})
