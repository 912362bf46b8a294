"""Find a family's model inside a module, and measure its waveform CNN."""

from __future__ import annotations

from operator import attrgetter

from torch import nn
from torch.nn.utils import parametrize

from upstream_elp.audio.front import FrontEnd
from upstream_elp.backbones.families import families
from upstream_elp.backbones.family import LAYER_SITES, Family
from upstream_elp.base.errors import ElpError


def qualified_name(module: nn.Module) -> str:
    """Return the module and class name, ignoring the dynamic subclasses of parametrizations."""
    cls = type(module)
    if parametrize.is_parametrized(module):
        cls = cls.__mro__[1]
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_of(module: nn.Module, family: Family) -> bool:
    """Return whether a module is a model of a family; its layers are checked later."""
    if qualified_name(module) != family.model_type:
        return False
    return family.told_apart is None or attrgetter(family.told_apart[0])(module) == family.told_apart[1]


def find_family(expert: nn.Module) -> tuple[Family, str]:
    """Recognise the model inside an expert.

    Returns:
        The family, and the model's path relative to ``expert``.

    Raises:
        ElpError: there is no known model, or its encoder layers have another type or lack one of the sites.
    """
    known = families()
    for path, module in expert.named_modules():
        family = next((family for family in known.values() if _is_of(module, family)), None)
        if family is None:
            continue
        found = sorted({qualified_name(layer) for layer in module.get_submodule(family.layers)})
        if len(found) != 1 or found[0] not in family.layer_types:
            raise ElpError(
                f"the encoder layers of this {family.name} model are of type {', '.join(found) or 'none'}, "
                f"but adapters only support {' or '.join(family.layer_types)}"
            )
        _check_sites(module.get_submodule(family.layers)[0], family)
        return family, path
    kinds = sorted({qualified_name(module) for module in expert.modules() if next(module.children(), None) is not None})
    raise ElpError(
        f"no supported backbone was found; the families are {', '.join(known)}, and this backbone consists of: "
        f"{', '.join(kinds)}"
    )


def _check_sites(layer: nn.Module, family: Family) -> None:
    """Refuse an encoder layer that lacks a site, as may happen with another version of the package that defines it."""
    for site in LAYER_SITES:
        try:
            layer.get_submodule(getattr(family, site))
        except AttributeError as error:
            raise ElpError(
                f"the encoder layers of this {family.name} model have no {site} ({getattr(family, site)}); "
                f"the sites of {type(layer).__module__} have changed, `elp doctor` lists the versions"
            ) from error


def front_end(model: nn.Module, family: Family) -> FrontEnd:
    """Return the waveform CNN of a family's model, as measured from its convolutions and not from a configuration."""
    convolutions = (m for m in model.get_submodule(family.cnn).modules() if isinstance(m, nn.Conv1d))
    return FrontEnd(tuple((m.kernel_size[0], m.stride[0]) for m in convolutions))
