"""Put the adapters of a configuration into a backbone, and take them out again.

The order is: load the backbone, take its fingerprint, :func:`inject` (which first freezes it), run the self-check.
Nothing here depends on S3PRL; the backbone is any module that contains a model of a family in
:mod:`upstream_elp.backbones.families`.
"""

from __future__ import annotations

from torch import nn

from upstream_elp.adapters.attention import quicken
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
        expert: module that contains the backbone; L-adapters become its child ``l_adapters``.
        config: the adapters to inject.

    Raises:
        ElpError: an unknown backbone, or layers or sizes that do not fit it.
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
        raise ElpError(
            f"spec_augment only works with Hugging Face's models, but this is S3PRL's {family.name}; remove it"
        )
    expert.requires_grad_(False)
    plain = Structure(expert)
    for method in config.methods.values():
        method.inject(Target(expert, model, injection, method.zero_gradients(family)))
    quicken(layers, family)
    injection.changes = plain.changes()
    for parameter in injection.parameters(expert).values():
        parameter.requires_grad_(True)
    return injection


def eject(expert: nn.Module) -> nn.Module:
    """Remove all adapters; ``expert`` must not be used afterwards.

    Returns:
        The plain frozen backbone, bit-equal to the one that was loaded.

    Raises:
        ElpError: the backbone was fine-tuned in place, so its original weights are gone.
    """
    if not expert.injection.switchable:
        raise ElpError("this preset fine-tunes the backbone in place, so the plain backbone cannot be restored")
    if expert.replay is not None:
        expert.replay.remove(expert)
    expert.injection.changes.undo()
    for module in expert.backbone.modules():  # gradient checkpointing, which was added after the injection
        take_out_mixin(module)
    return expert.backbone
