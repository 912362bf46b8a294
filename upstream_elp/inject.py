"""Put the adapters of a configuration into a backbone, and know every tensor that was put in.

Order: load the backbone, take its fingerprint, :func:`inject` (which freezes it first), then the self-check.
Nothing here knows S3PRL; the backbone is any module that holds a model of a family in :mod:`upstream_elp.sites`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from upstream_elp.adapters.bottleneck import Bottleneck, LayerAdapter, OutputSite, ReplacedTensor
from upstream_elp.adapters.pseudo import PseudoFeatures
from upstream_elp.config import AdapterConfig, EAdapter, Encoder, LAdapter, LayerNorms, PAdapter
from upstream_elp.errors import ElpError
from upstream_elp.layers import resolve_layers, resolve_size
from upstream_elp.sites import FAMILIES, Family


@dataclass(frozen=True)
class Declared:
    """One trained tensor: the component it belongs to and where it is, relative to the expert."""

    component: str
    path: str
    zero_gradient: bool = False
    """Its gradient is zero by nature (see :attr:`Family.zero_gradient`)."""


@dataclass
class Injection:
    """What was put into a backbone. Paths are relative to the expert, so a deep copy of the expert stays consistent."""

    config: AdapterConfig
    family: Family
    model_path: str
    """Path of the family's model, such as ``backbone.model``."""
    dim: int
    layers: int
    conv: tuple[tuple[int, int], ...]
    """(kernel, stride) of each CNN layer."""
    declared: dict[str, Declared] = field(default_factory=dict)
    """Canonical name (``e_adapter.0.ffn.down.weight``) to tensor; freezing, counting and saving derive from it."""
    sites: list[str] = field(default_factory=list)
    """Paths of the modules that must be entered in a forward pass."""
    l_layers: tuple[int, ...] = ()
    switchable: bool = True
    """False where a base tensor is trained in place, so that adapters cannot be switched off."""

    def parameters(self, expert: nn.Module) -> dict[str, nn.Parameter]:
        """Canonical name to parameter."""
        return {name: expert.get_parameter(item.path) for name, item in self.declared.items()}

    def counts(self, expert: nn.Module) -> dict[str, int]:
        """Number of trained values per component, in order of injection."""
        totals: dict[str, int] = {}
        for name, parameter in self.parameters(expert).items():
            component = self.declared[name].component
            totals[component] = totals.get(component, 0) + parameter.numel()
        return totals

    def switches(self, expert: nn.Module) -> Iterator[nn.Module]:
        """The modules that have an ``enabled`` flag."""
        kinds = (OutputSite, ReplacedTensor, PseudoFeatures)
        return (module for module in expert.modules() if isinstance(module, kinds))

    def frame_len(self, samples: Tensor) -> Tensor:
        """Number of CNN frames for wave lengths in samples: floor((n - kernel) / stride) + 1, layer by layer."""
        for kernel, stride in self.conv:
            samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
        return samples.clamp(min=0)

    @property
    def min_samples(self) -> int:
        """Shortest wave that gives one frame, in samples: the CNN's receptive field."""
        samples = 1
        for kernel, stride in reversed(self.conv):
            samples = (samples - 1) * stride + kernel
        return samples

    def pseudo(self, expert: nn.Module) -> PseudoFeatures | None:
        """The P-adapter, if there is one."""
        if "p_adapter" not in self.config.methods:
            return None
        return expert.get_submodule(f"{self.model_path}.{self.family.encoder}.p_adapter")


def qualified_name(module: nn.Module) -> str:
    """Module and class name, seen through parametrization's dynamic subclasses."""
    cls = type(module)
    if parametrize.is_parametrized(module):
        cls = cls.__mro__[1]
    return f"{cls.__module__}.{cls.__qualname__}"


def find_family(expert: nn.Module) -> tuple[Family, str]:
    """Recognise the model inside an expert.

    Returns:
        The family and the model's path relative to ``expert``.

    Raises:
        ElpError: no known model, or a known model with encoder layers of another type; lists what was found.
    """
    by_type = {family.model_type: family for family in FAMILIES.values()}
    for path, module in expert.named_modules():
        family = by_type.get(qualified_name(module))
        if family is None:
            continue
        found = sorted({qualified_name(layer) for layer in module.get_submodule(family.layers)})
        if found != [family.layer_type]:
            raise ElpError(
                f"the encoder layers of this {family.name} model are of type {', '.join(found) or 'none'}, "
                f"but adapters are known for {family.layer_type} only"
            )
        return family, path
    kinds = sorted({qualified_name(module) for module in expert.modules() if next(module.children(), None) is not None})
    raise ElpError(
        f"no supported backbone was found; the families are {', '.join(FAMILIES)}, and this backbone is made of: "
        f"{', '.join(kinds)}"
    )


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
    convolutions = (m for m in model.get_submodule(family.cnn).modules() if isinstance(m, nn.Conv1d))
    injection = Injection(
        config=config,
        family=family,
        model_path=model_path,
        dim=getattr(layers[0], family.ffn_norm).normalized_shape[0],
        layers=len(layers),
        conv=tuple((m.kernel_size[0], m.stride[0]) for m in convolutions),
    )
    config.check(layers=injection.layers, dim=injection.dim)
    expert.requires_grad_(False)
    for name, options in config.methods.items():
        _INJECTORS[name](expert, model, injection, options)
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
    pseudo = expert.injection.pseudo(expert)
    for module in list(expert.backbone.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, OutputSite):
                setattr(module, name, child.dropout)
        if parametrize.is_parametrized(module):
            replaced = [name for name, chain in module.parametrizations.items() if isinstance(chain[0], ReplacedTensor)]
            for name in replaced:
                parametrize.remove_parametrizations(module, name, leave_parametrized=False)
        for key, hook in list(module._forward_pre_hooks.items()):
            if hook is pseudo:
                del module._forward_pre_hooks[key], module._forward_pre_hooks_with_kwargs[key]
                del module.p_adapter
    return expert.backbone


def _declare(injection: Injection, expert: nn.Module, component: str, name: str, path: str) -> None:
    for key, _ in expert.get_submodule(path).named_parameters():
        injection.declared[f"{component}.{name}.{key}" if name else f"{component}.{key}"] = Declared(
            component, f"{path}.{key}"
        )


def _inject_e(expert: nn.Module, model: nn.Module, injection: Injection, options: EAdapter) -> None:
    family = injection.family
    size = resolve_size(options.bottleneck, injection.dim)
    for index in resolve_layers(options.layers, injection.layers):
        layer = model.get_submodule(f"{family.layers}.{index}")
        for site_name in options.sites:
            attribute = getattr(family, f"{site_name}_output")
            eps = getattr(layer, family.ffn_norm).eps
            site = _output_site(layer, attribute)
            site.adapters["e_adapter"] = Bottleneck(
                injection.dim, size, activation=options.activation, init=options.init, eps=eps
            )
            path = f"{injection.model_path}.{family.layers}.{index}.{attribute}.adapters.e_adapter"
            _declare(injection, expert, "e_adapter", f"{index}.{site_name}", path)
            injection.sites.append(path)


def _output_site(layer: nn.Module, attribute: str) -> OutputSite:
    module = getattr(layer, attribute)
    if isinstance(module, OutputSite):
        return module
    if next(module.parameters(), None) is not None:
        raise ElpError(f"the site {attribute} of {qualified_name(layer)} holds parameters, so it cannot be replaced")
    site = OutputSite(module)
    setattr(layer, attribute, site)
    return site


def _inject_l(expert: nn.Module, model: nn.Module, injection: Injection, options: LAdapter) -> None:
    size = resolve_size(options.dim, injection.dim)
    injection.l_layers = resolve_layers(options.layers, injection.layers)
    eps = getattr(model.get_submodule(f"{injection.family.layers}.0"), injection.family.ffn_norm).eps
    expert.l_adapters = nn.ModuleDict(
        {
            str(index): LayerAdapter(injection.dim, size, activation=options.activation, eps=eps)
            for index in injection.l_layers
        }
    )
    for index in injection.l_layers:
        _declare(injection, expert, "l_adapter", str(index), f"l_adapters.{index}")
        injection.sites.append(f"l_adapters.{index}")


def _inject_p(expert: nn.Module, model: nn.Module, injection: Injection, options: PAdapter) -> None:
    family = injection.family
    encoder = model.get_submodule(family.encoder)
    projection = getattr(model, family.projection)
    norm = getattr(model, family.cnn_norm)
    at_cnn = options.site == "cnn"
    encoder.p_adapter = PseudoFeatures(
        options.length,
        norm.normalized_shape[0] if at_cnn else injection.dim,
        position=options.position,
        mask_argument=family.mask_argument,
        through=[module for module in (norm, projection) if module is not None] if at_cnn else (),
        std=options.init_std,
    )
    encoder.register_forward_pre_hook(encoder.p_adapter, with_kwargs=True)
    path = f"{injection.model_path}.{family.encoder}.p_adapter"
    _declare(injection, expert, "p_adapter", "", path)
    injection.sites.append(path)


def _inject_layer_norms(expert: nn.Module, model: nn.Module, injection: Injection, options: LayerNorms) -> None:
    family = injection.family
    for index in resolve_layers(options.layers, injection.layers):
        for norm_name in options.norms:
            attribute = getattr(family, f"{norm_name}_norm")
            norm = model.get_submodule(f"{family.layers}.{index}.{attribute}")
            for tensor in ("weight", "bias"):
                parametrize.register_parametrization(norm, tensor, ReplacedTensor(getattr(norm, tensor)))
                path = f"{injection.model_path}.{family.layers}.{index}.{attribute}.parametrizations.{tensor}.0"
                injection.declared[f"layer_norm.{index}.{norm_name}.{tensor}"] = Declared("layer_norm", f"{path}.value")
                injection.sites.append(path)


def _inject_encoder(expert: nn.Module, model: nn.Module, injection: Injection, options: Encoder) -> None:
    family = injection.family
    for index in resolve_layers(options.layers, injection.layers):
        layer = model.get_submodule(f"{family.layers}.{index}")
        path = f"{injection.model_path}.{family.layers}.{index}"
        for key, parameter in layer.named_parameters():
            if isinstance(parameter, nn.Parameter) and ".adapters." not in key:
                injection.declared[f"encoder.{index}.{key}"] = Declared(
                    "encoder", f"{path}.{key}", zero_gradient=key in family.zero_gradient
                )
    injection.switchable = False


_INJECTORS = {
    "e_adapter": _inject_e,
    "l_adapter": _inject_l,
    "p_adapter": _inject_p,
    "layer_norm": _inject_layer_norms,
    "encoder": _inject_encoder,
}
