"""Put the adapters of a configuration into a backbone, and take them out.

Order: load the backbone, take its fingerprint, :func:`inject` (which freezes it first), then the self-check.
Nothing here knows S3PRL; the backbone is any module that holds a model of a family in
:mod:`upstream_elp.backbones.families`.
"""

from __future__ import annotations

from operator import attrgetter

from torch import nn

from upstream_elp.adapters.config import AdapterConfig
from upstream_elp.adapters.injection import Injection, Target, qualified_name
from upstream_elp.adapters.primitives import take_out_mixin
from upstream_elp.audio.front import FrontEnd
from upstream_elp.backbones.families import FAMILIES, LAYER_SITES, Family
from upstream_elp.backbones.structure import Structure
from upstream_elp.base.errors import ElpError


def _is_of(module: nn.Module, family: Family) -> bool:
    """Whether a module is a model of a family, of its layers not yet speaking."""
    if qualified_name(module) != family.model_type:
        return False
    return family.told_apart is None or attrgetter(family.told_apart[0])(module) == family.told_apart[1]


def find_family(expert: nn.Module) -> tuple[Family, str]:
    """Recognise the model inside an expert.

    Returns:
        The family and the model's path relative to ``expert``.

    Raises:
        ElpError: no known model, or a known model with encoder layers of another type or without one of the sites.
    """
    for path, module in expert.named_modules():
        family = next((family for family in FAMILIES.values() if _is_of(module, family)), None)
        if family is None:
            continue
        found = sorted({qualified_name(layer) for layer in module.get_submodule(family.layers)})
        if len(found) != 1 or found[0] not in family.layer_types:
            raise ElpError(
                f"the encoder layers of this {family.name} model are of type {', '.join(found) or 'none'}, "
                f"but adapters are known for {' or '.join(family.layer_types)} only"
            )
        _check_sites(module.get_submodule(family.layers)[0], family)
        return family, path
    kinds = sorted({qualified_name(module) for module in expert.modules() if next(module.children(), None) is not None})
    raise ElpError(
        f"no supported backbone was found; the families are {', '.join(FAMILIES)}, and this backbone is made of: "
        f"{', '.join(kinds)}"
    )


def _check_sites(layer: nn.Module, family: Family) -> None:
    """Refuse an encoder layer that lacks a site, as another version of the package that defines it may."""
    for site in LAYER_SITES:
        try:
            layer.get_submodule(getattr(family, site))
        except AttributeError as error:
            raise ElpError(
                f"the encoder layers of this {family.name} model have no {site} ({getattr(family, site)}); "
                f"the sites of {type(layer).__module__} have changed, `elp doctor` lists the versions"
            ) from error


def front_end(model: nn.Module, family: Family) -> FrontEnd:
    """The waveform CNN of a family's model; its own convolutions count, whatever a configuration says."""
    convolutions = (m for m in model.get_submodule(family.cnn).modules() if isinstance(m, nn.Conv1d))
    return FrontEnd(tuple((m.kernel_size[0], m.stride[0]) for m in convolutions))


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
    if config.spec_augment and not family.name.startswith("hf_"):
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
