"""Put the adapters of a configuration into a backbone, and take them out.

Order: load the backbone, take its fingerprint, :func:`inject` (which freezes it first), then the self-check.
Nothing here knows S3PRL; the backbone is any module that holds a model of a family in
:mod:`upstream_elp.backbones.families`.
"""

from __future__ import annotations

from torch import nn

from upstream_elp.adapters.config import AdapterConfig
from upstream_elp.adapters.injection import Injection, Target
from upstream_elp.adapters.primitives import take_out_mixin
from upstream_elp.backbones.family import HUGGING_FACE
from upstream_elp.backbones.recognition import find_family, front_end
from upstream_elp.backbones.structure import Structure
from upstream_elp.base.errors import ElpError


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
        family=family,
        model_path=model_path,
        dim=getattr(layers[0], family.ffn_norm).normalized_shape[0],
        layers=len(layers),
        front=front_end(model, family),
        switchable=not any(method.in_place for method in config.methods.values()),
    )
    config.check(layers=injection.layers, dim=injection.dim)
    if config.spec_augment and family.format != HUGGING_FACE:
        raise ElpError(f"spec_augment is for Hugging Face's models, and this is a {family.name} of S3PRL's")
    expert.requires_grad_(False)
    plain = Structure(expert)
    for method in config.methods.values():
        method.inject(Target(expert, model, injection, method.zero_gradients(family)))
    injection.changes = plain.changes()
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
    expert.injection.changes.undo()
    for module in expert.backbone.modules():  # gradient checkpointing, which came after the injection
        take_out_mixin(module)
    return expert.backbone
