"""Typical mistakes in adapter code, each as a small patch of the package that silently does nothing or the wrong thing.

A mutant takes pytest's monkeypatch and plants one mistake until the patch is undone. Which tests detect it, and if
the self-check does, is in ``tests/upstream/test_mutants.py``.
"""

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import ParametrizationList

from upstream_elp.adapters.deep_prompt import LearnedFrames
from upstream_elp.adapters.e_adapter import Bottleneck, EAdapter
from upstream_elp.adapters.injection import Injection, Target
from upstream_elp.adapters.lora import LoRA, LowRankUpdate
from upstream_elp.adapters.networks import PlainBottleneck
from upstream_elp.adapters.p_adapter import PseudoFeatures
from upstream_elp.adapters.parallel import ParallelBottleneck
from upstream_elp.adapters.primitives import OutputSite, ReplacedTensor
from upstream_elp.backbones.structure import Changes
from upstream_elp.upstream import expert as expert_module
from upstream_elp.upstream import inject as inject_module
from upstream_elp.upstream import merge, state_dict
from upstream_elp.upstream.expert import ElpExpert

# --- the injection, and what is trained -----------------------------------------------------------------------------


class _WrappedLinear(nn.Module):
    """LoRA as in loralib and peft: with its own forward, which S3PRL's attention never calls."""

    def __init__(self, linear, rank, scale):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.update = LowRankUpdate(linear.weight, rank, scale=scale)

    def forward(self, x):
        return F.linear(x, self.update(self.weight), self.bias)


def wrap_q_proj(patch):
    """LoRA wraps q_proj, although the attention only reads its weight; other weights are parametrized."""

    plain = LoRA.inject

    def inject_wrapped(method, target):
        others = [name for name in method.targets if name != "q"]
        plain(replace(method, targets=others), target)
        for index in target.select(method.layers):
            attention = target.layer(index).get_submodule(target.family.attention)
            attention.q_proj = _WrappedLinear(attention.q_proj, method.rank, method.alpha / method.rank)
            path = f"{target.layer_path(index)}.{target.family.attention}.q_proj.update"
            target.declare_module("lora", f"{index}.q", path)

    patch.setattr(LoRA, "inject", inject_wrapped)


def drop_a_site(patch):
    """One configured E-adapter is neither built nor declared."""

    plain = EAdapter.inject

    def inject_fewer(method, target):
        plain(replace(method, layers=[i for i in target.select(method.layers) if i != 1]), target)

    patch.setattr(EAdapter, "inject", inject_fewer)


def leave_a_site_out_of_the_forward(patch):
    """One E-adapter is built, declared, counted and saved, but the layer runs without it."""

    plain = EAdapter.inject

    def inject_idle(method, target):
        plain(method, target)
        site = getattr(target.layer(1), target.family.ffn_output)
        setattr(target.layer(1), target.family.ffn_output, site.dropout)
        target.layer(1).idle = site
        old, new = f"layers.1.{target.family.ffn_output}.", "layers.1.idle."
        for name, item in list(target.injection.declared.items()):
            target.declare(item.component, name.partition(".")[2], item.path.replace(old, new))
        target.injection.sites[:] = [path.replace(old, new) for path in target.injection.sites]

    patch.setattr(EAdapter, "inject", inject_idle)


def _exchange(patch, method, first, second):
    """Exchange two entries of the site table while a method is injected."""
    plain = method.inject

    def inject_elsewhere(options, target):
        family = target.injection.family
        swapped = {first: getattr(family, second), second: getattr(family, first)}
        target.injection.family = replace(family, **swapped)
        plain(options, target)
        target.injection.family = family

    patch.setattr(method, "inject", inject_elsewhere)


def adapt_the_other_block(patch):
    """E-adapters for the FFN are put after the attention, and the other way round."""
    _exchange(patch, EAdapter, "ffn_output", "attention_output")


def update_the_other_weight(patch):
    """LoRA for q changes v, and the other way round."""
    _exchange(patch, LoRA, "q", "v")


def _after_injection(patch, change):
    """Call ``change(expert, injection)`` at the end of every injection."""
    plain = expert_module.inject

    def inject(expert, config):
        injection = plain(expert, config)
        change(expert, injection)
        return injection

    patch.setattr(expert_module, "inject", inject)


def freeze_a_declared_tensor(patch):
    """The first declared tensor does not require a gradient."""
    _after_injection(patch, lambda e, injection: next(iter(injection.parameters(e).values())).requires_grad_(False))


def train_a_frozen_tensor(patch):
    """A projection of the backbone requires a gradient, but no method declares it."""
    _after_injection(patch, lambda expert, _: expert.backbone.model.post_extract_proj.weight.requires_grad_(True))


def leave_the_front_end_without_gradients(patch):
    """S3PRL's switch stays off, so that CNN adapters do not train."""
    patch.setattr(Target, "let_gradients_through_cnn", lambda target: None)


# --- what is computed -----------------------------------------------------------------------------------------------


def scale_lora_by_alpha(patch):
    """The scale is alpha instead of alpha / rank."""
    plain = LowRankUpdate.__init__
    patch.setattr(LowRankUpdate, "__init__", lambda self, w, rank, *, scale: plain(self, w, rank, scale=scale * rank))


def put_the_skip_inside_the_norm(patch):
    """``LN(x + ...)`` in place of ``x + LN(...)``."""
    patch.setattr(Bottleneck, "forward", lambda self, x: self.norm(x + self.up(self.activation(self.down(x)))))


def adapt_after_the_residual(patch):
    """E-adapters see the sum of the residual and the block's output, before the norm of a post-norm layer."""

    plain = EAdapter.inject

    def inject_late(method, target):
        plain(method, target)
        for index in target.select(method.layers):
            for block in method.sites:
                site = getattr(target.layer(index), getattr(target.family, f"{block}_output"))
                norm = getattr(target.layer(index), getattr(target.family, f"{block}_norm"))
                norm.register_forward_pre_hook(
                    lambda _, args, site=site: (site.adapters["e_adapter"](args[0]),) if site.enabled else None
                )

    patch.setattr(EAdapter, "inject", inject_late)
    patch.setattr(OutputSite, "forward", lambda self, x: self.dropout(x))


def adapt_before_the_dropout(patch):
    """The adapters of an output site see the block's output before its dropout, which then acts on their result."""

    def forward(self, x):
        y = x
        if self.enabled:
            for adapter in self.adapters.values():
                y = adapter(y)
            for addition in self.additions.values():
                y = y + addition(x)
        return self.dropout(y)

    patch.setattr(OutputSite, "forward", forward)


def show_parallel_adapters_the_blocks_output(patch):
    """The parallel bottleneck sees the FFN's output instead of the layer's input."""

    def forward(self, f):
        self.tap.take()
        return PlainBottleneck.forward(self, f)

    patch.setattr(ParallelBottleneck, "forward", forward)


def forget_prompt_positions(patch):
    """WavLM's position bias does not reach the learned frames."""
    patch.setattr(LearnedFrames, "bias", lambda self, frames: None)


def append_pseudo_frames_after_the_padding(patch):
    """All pseudo frames are at the end of the padded batch and not after the last frame of their utterance."""

    def insert(self, x, frame_len):
        return torch.cat([x, self.vectors.to(x.dtype).expand(x.shape[0], -1, -1)], dim=1)

    patch.setattr(PseudoFeatures, "_insert", insert)


def keep_pseudo_frames(patch):
    """Pseudo frames stay in the hidden states."""
    patch.setattr(PseudoFeatures, "strip", lambda self, states, frame_len: list(states))


def count_a_frame_too_many(patch):
    """The frames of utterances are counted by rounding up, as in S3PRL's padding mask."""
    patch.setattr(Injection, "frame_len", lambda self, samples: torch.div(samples + 319, 320, rounding_mode="floor"))


# --- what the head sees ---------------------------------------------------------------------------------------------


def read_the_layers_input(patch):
    """L-adapter i reads state i, which is the input of its layer, instead of state i + 1."""
    plain = ElpExpert._features

    def features(self, states):
        return plain(self, [states[0], *states[:-1]] if self.config.features == "l" else states)

    patch.setattr(ElpExpert, "_features", features)


def turn_the_order_of_layers(patch):
    """The head's weighted sum sees the layers from the last to the first."""
    plain = ElpExpert._features
    patch.setattr(ElpExpert, "_features", lambda self, states: plain(self, states)[::-1])


# --- switching, modes, copies, taking out ---------------------------------------------------------------------------


def leave_norms_switched_on(patch):
    """Trained layer norms and biases stay when adapters are switched off."""
    patch.setattr(ReplacedTensor, "forward", lambda self, original: self.value)


def leave_lora_switched_on(patch):
    """The low-rank update stays when adapters are switched off."""
    patch.setattr(LowRankUpdate, "forward", lambda self, w: torch.addmm(w, self.up, self.down, alpha=self.scale))


def run_the_backbones_dropout(patch):
    """Training mode reaches the frozen backbone, although the configuration says otherwise."""
    patch.setattr(ElpExpert, "train", nn.Module.train)


def share_adapters_with_copies(patch):
    """A deep copy trains the original's L-adapters."""
    plain = ElpExpert.__deepcopy__

    def copied(self, memo):
        clone = plain(self, memo)
        clone.l_adapters = self.l_adapters
        return clone

    patch.setattr(ElpExpert, "__deepcopy__", copied)


def leave_trained_norms_in(patch):
    """Removing the adapters leaves trained values in the backbone's tensors."""
    plain = Changes.undo

    def undo(changes):
        modules = [module for added in changes.added for module in added.modules()]
        for chain in [module for module in modules if isinstance(module, ParametrizationList)]:
            chain.original.data.copy_(chain().data)
        plain(changes)

    patch.setattr(Changes, "undo", undo)


def leave_the_attentions_class(patch):
    """Removing prefixes leaves the attention's class swapped."""
    plain = Changes.undo
    patch.setattr(Changes, "undo", lambda changes: plain(replace(changes, classes=())))
    patch.setattr(inject_module, "take_out_mixin", lambda module: None)


# --- what is saved, loaded and merged -------------------------------------------------------------------------------


def forget_a_tensor(patch):
    """Checkpoints lack the last declared tensor."""
    plain = state_dict._keep_trained

    def keep_fewer(expert, tensors, prefix, metadata):
        plain(expert, tensors, prefix, metadata)
        del tensors[f"{prefix}{list(expert.injection.declared)[-1]}"]

    patch.setattr(state_dict, "_keep_trained", keep_fewer)


def load_without_audit(patch):
    """Checkpoints that lack tensors are loaded without an error."""
    patch.setattr(state_dict, "audit", lambda expert, tensors: None)


def trust_every_backbone(patch):
    """The backbone's fingerprint is ignored."""
    patch.setattr(state_dict, "_digest", lambda fingerprint: torch.zeros(32, dtype=torch.uint8))


def merge_without_the_scale(patch):
    """Merged weights contain LoRA's product without alpha / rank."""
    plain = merge.merged_tensors

    def merged(expert):
        updates = {module: module.scale for module in expert.modules() if isinstance(module, LowRankUpdate)}
        for module in updates:
            module.scale = 1.0
        tensors = plain(expert)
        for module, scale in updates.items():
            module.scale = scale
        return tensors

    patch.setattr(merge, "merged_tensors", merged)
