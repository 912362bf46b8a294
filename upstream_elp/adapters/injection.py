"""The record of an injection, from which freezing, counting, saving and the self-check are derived."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from upstream_elp.adapters.selection import resolve_layers
from upstream_elp.audio.front import FrontEnd
from upstream_elp.backbones.family import Family
from upstream_elp.backbones.recognition import qualified_name
from upstream_elp.backbones.structure import Changes


class Switch(nn.Module):
    """A module that can be switched off; it then does what the plain backbone does in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True


@dataclass(frozen=True)
class Declared:
    """A trained tensor: the component that it belongs to, and its path relative to the expert."""

    component: str
    path: str
    zero_gradient: bool = False
    """Whether its gradient is always zero (see :meth:`Method.zero_gradients`)."""


@dataclass
class Injection:
    """What was put into a backbone. Paths are relative to the expert, so a deep copy of the expert stays consistent."""

    family: Family
    model_path: str
    """Path of the model, such as ``backbone.model``."""
    dim: int
    layers: int
    front: FrontEnd
    declared: dict[str, Declared] = field(default_factory=dict)
    """Trained tensors by canonical name (``e_adapter.0.ffn.down.weight``)."""
    sites: list[str] = field(default_factory=list)
    """Paths of the modules that a forward pass must enter."""
    l_layers: tuple[int, ...] = ()
    """Encoder layers with an L-adapter."""
    pseudo_path: str | None = None
    """Path of the P-adapter, whose frames the expert removes from the hidden states; None without one."""
    changes: Changes | None = None
    """What the injection changed, so that it can be undone."""
    switchable: bool = True
    """Whether the adapters can be switched off; not if a backbone tensor is trained in place."""

    def parameters(self, expert: nn.Module) -> dict[str, nn.Parameter]:
        """Return the trained parameters by canonical name."""
        return {name: expert.get_parameter(item.path) for name, item in self.declared.items()}

    def counts(self, expert: nn.Module) -> dict[str, int]:
        """Return the number of trained values per component, in the order of injection."""
        totals: dict[str, int] = {}
        for name, parameter in self.parameters(expert).items():
            component = self.declared[name].component
            totals[component] = totals.get(component, 0) + parameter.numel()
        return totals

    def switches(self, expert: nn.Module) -> Iterator[nn.Module]:
        """Yield the modules that have an ``enabled`` flag."""
        return (module for module in expert.modules() if isinstance(module, Switch))

    def frame_len(self, samples: Tensor) -> Tensor:
        """Return the number of CNN frames for wave lengths in samples."""
        return self.front.frame_len(samples)

    @property
    def min_samples(self) -> int:
        """Length of the shortest wave that yields a frame, in samples."""
        return self.front.min_samples

    def pseudo(self, expert: nn.Module) -> nn.Module | None:
        """Return the P-adapter, if there is one."""
        return None if self.pseudo_path is None else expert.get_submodule(self.pseudo_path)


@dataclass
class Target:
    """A frozen backbone during injection, as :meth:`Method.inject` sees it."""

    expert: nn.Module
    """The module that contains the backbone, and adapters outside it, such as L-adapters."""
    model: nn.Module
    """The model inside the backbone."""
    injection: Injection
    zero_gradients: tuple[str, ...] = ()
    """Name endings of the method's tensors whose gradient is always zero."""

    @property
    def family(self) -> Family:
        """The model's family, with the names of its modules."""
        return self.injection.family

    @property
    def dim(self) -> int:
        """Width of the encoder."""
        return self.injection.dim

    @property
    def norm_eps(self) -> float:
        """Epsilon of the encoder layers' norms; the reference uses it in its adapters too."""
        return getattr(self.layer(0), self.family.ffn_norm).eps

    def select(self, layers: str | int | list[int]) -> tuple[int, ...]:
        """Resolve a layer selection."""
        return resolve_layers(layers, self.injection.layers)

    @property
    def pre_norm(self) -> bool:
        """Whether the encoder layers apply their norms before the blocks."""
        layer = self.layer(0)
        if "." in self.family.pre_norm:
            return qualified_name(layer) == self.family.pre_norm
        return getattr(layer, self.family.pre_norm)

    def layer(self, index: int) -> nn.Module:
        """Return encoder layer ``index``."""
        return self.model.get_submodule(f"{self.family.layers}.{index}")

    def layer_path(self, index: int) -> str:
        """Return the path of encoder layer ``index`` relative to the expert."""
        return f"{self.injection.model_path}.{self.family.layers}.{index}"

    def let_gradients_through_cnn(self) -> None:
        """Run the waveform front end with gradients; S3PRL's experts switch them off."""
        if self.family.cnn_gradient is not None:
            setattr(self.model, self.family.cnn_gradient, 1.0)

    def declared_paths(self) -> set[str]:
        """Return the paths of all tensors that have been declared so far."""
        return {item.path for item in self.injection.declared.values()}

    def declare(self, component: str, name: str, path: str) -> None:
        """Declare one tensor as trained.

        Args:
            component: method name.
            name: canonical name after the component.
            path: path of the tensor relative to the expert.
        """
        self.injection.declared[f"{component}.{name}"] = Declared(component, path, name.endswith(self.zero_gradients))

    def declare_module(self, component: str, name: str, path: str) -> None:
        """Declare all tensors of the module at ``path``, and the module as one that a forward pass must enter."""
        for key, _ in self.expert.get_submodule(path).named_parameters():
            self.declare(component, f"{name}.{key}" if name else key, f"{path}.{key}")
        self.injection.sites.append(path)
