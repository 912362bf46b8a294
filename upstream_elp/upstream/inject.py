"""Put the adapters of a configuration into a backbone, and take them out.

Order: load the backbone, take its fingerprint, :func:`inject` (which freezes it first), then the self-check.
Nothing here knows S3PRL; the backbone is any module that holds a model of a family in
:mod:`upstream_elp.backbones.families`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from upstream_elp.adapters.additions import inject_adapter_bias, inject_houlsby
from upstream_elp.adapters.base_tensors import inject_biases, inject_encoder, inject_layer_norms
from upstream_elp.adapters.bottleneck import inject_e, inject_l
from upstream_elp.adapters.cnn import inject_cnn
from upstream_elp.adapters.config import AdapterConfig
from upstream_elp.adapters.contract import Injection, Switch, Target
from upstream_elp.adapters.lora import inject_lora
from upstream_elp.adapters.parallel import inject_parallel
from upstream_elp.adapters.prefix import inject_deep_prompt, inject_prefix_kv
from upstream_elp.adapters.primitives import OutputSite, take_out_mixin
from upstream_elp.adapters.pseudo import inject_p
from upstream_elp.backbones.family import HUGGING_FACE
from upstream_elp.backbones.recognition import find_family, front_end
from upstream_elp.base.errors import ElpError

INJECTORS: dict[str, Callable[[Target, Any], None]] = {
    "e_adapter": inject_e,
    "l_adapter": inject_l,
    "p_adapter": inject_p,
    "houlsby": inject_houlsby,
    "adapter_bias": inject_adapter_bias,
    "parallel": inject_parallel,
    "deep_prompt": inject_deep_prompt,
    "prefix_kv": inject_prefix_kv,
    "cnn": inject_cnn,
    "lora": inject_lora,
    "layer_norm": inject_layer_norms,
    "bias": inject_biases,
    "encoder": inject_encoder,
}
"""Method name to what puts it in; the names are those of :data:`upstream_elp.adapters.options.METHODS`."""


def inject(expert: nn.Module, config: AdapterConfig) -> Injection:
    """Freeze the backbone inside ``expert`` and add the adapters of ``config``.

    Args:
        expert: module that holds the backbone; L-adapters become its child ``l_adapters``.
        config: what to inject.

    Raises:
        ElpError: unknown backbone, or layers or sizes that do not fit it.
    """
    family, model_path = find_family(expert)
    model = expert.get_submodule(model_path)
    layers = model.get_submodule(family.layers)
    injection = Injection(
        config=config,
        family=family,
        model_path=model_path,
        dim=getattr(layers[0], family.ffn_norm).normalized_shape[0],
        layers=len(layers),
        front=front_end(model, family),
    )
    config.check(layers=injection.layers, dim=injection.dim)
    if config.spec_augment and family.format != HUGGING_FACE:
        raise ElpError(f"spec_augment is for Hugging Face's models, and this is a {family.name} of S3PRL's")
    expert.requires_grad_(False)
    target = Target(expert, model, injection)
    for name, options in config.methods.items():
        if name in INJECTORS:
            INJECTORS[name](target, options)
        else:
            options.inject(target)
    for parameter in injection.parameters(expert).values():
        parameter.requires_grad_(True)
    return injection


def eject(expert: nn.Module) -> nn.Module:
    """Take all adapters out again; ``expert`` must not be used afterwards.

    Returns:
        The plain frozen backbone, bit by bit as it was loaded.

    Raises:
        ElpError: if the backbone was fine-tuned in place, so that its original weights are gone.
    """
    if not expert.injection.switchable:
        raise ElpError("this preset fine-tunes the backbone in place, so the plain backbone cannot be had back")
    for module in list(expert.backbone.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, OutputSite):
                setattr(module, name, child.dropout)
            elif isinstance(child, Switch):
                delattr(module, name)
        if parametrize.is_parametrized(module):
            _restore_tensors(module)
        take_out_mixin(module)
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if isinstance(hook, Switch)]:
                del hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
                module._forward_hooks_with_kwargs.pop(key, None)
    for path, attribute, value in reversed(expert.injection.overridden):
        setattr(expert.get_submodule(path), attribute, value)
    return expert.backbone


def _restore_tensors(module: nn.Module) -> None:
    """Take our parametrizations off, leaving the original tensors in their order."""
    ours = [name for name, chain in module.parametrizations.items() if isinstance(chain[0], Switch)]
    for name in ours:
        parametrize.remove_parametrizations(module, name, leave_parametrized=False)
    if ours and "bias" in module._parameters:  # a restored weight has come last
        module._parameters["bias"] = module._parameters.pop("bias")
