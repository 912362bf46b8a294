"""Fine-tuning of the backbone's own tensors, in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar, Literal

from upstream_elp.adapters.injection import Target
from upstream_elp.adapters.kinds import Layers, PerLayer
from upstream_elp.adapters.selection import resolve_layers
from upstream_elp.backbones.architecture import Architecture
from upstream_elp.backbones.family import Family

Scope = Literal["layers", "no_cnn", "all"]


@dataclass(frozen=True)
class Encoder(PerLayer):
    """Fine-tuning in place: the encoder layers, and optionally the modules around them."""

    conflicts: ClassVar[Mapping[str, str]] = {
        "layer_norm": "encoder already trains the layer norms",
        "bias": "encoder already trains the biases",
        "lora": "encoder already trains the weights that lora changes",
    }
    mergeable: ClassVar[bool] = True
    in_place: ClassVar[bool] = True

    layers: Layers = "all"
    scope: Scope = "layers"
    """``layers``: CNN, projection, positional convolution and the encoder's own norm stay frozen. ``no_cnn``: only the
    CNN and the layers that are not selected stay frozen. ``all``: the CNN is trained as well."""

    def count(self, model: Architecture) -> int:
        """Return the number of trained values."""
        around = 0 if self.scope == "layers" else model.front_parameters
        cnn = model.cnn_parameters if self.scope == "all" else 0
        return model.encoder_parameters(resolve_layers(self.layers, model.layers)) + around + cnn

    def zero_gradients(self, family: Family) -> tuple[str, ...]:
        """The bias of the keys shifts all scores of a query equally."""
        return family.zero_gradient

    def inject(self, target: Target) -> None:
        """Declare the model's own tensors in the scope as trained, except those that other methods have declared.

        The mask vector and the pre-training heads never get a gradient, so they are not part of any scope.
        """
        declared = target.declared_paths()
        for name, path in self._tensors(target):
            if path not in declared:
                target.declare("encoder", name, path)
        if self.scope == "all":
            target.let_gradients_through_cnn()

    def _tensors(self, target: Target) -> Iterator[tuple[str, str]]:
        """Yield the canonical name and path of every tensor in the scope."""
        family, model_path = target.family, target.injection.model_path
        for index in target.select(self.layers):
            for key, _ in target.layer(index).named_parameters():
                yield f"{index}.{key}", f"{target.layer_path(index)}.{key}"
        around = [] if self.scope == "layers" else [family.cnn_norm, family.projection, family.encoder]
        for part in [*around, family.cnn] if self.scope == "all" else around:
            module = attrgetter(part)(target.model)
            for key, _ in module.named_parameters() if module is not None else ():
                name = f"{part}.{key}"
                if not name.startswith(f"{family.layers}."):
                    yield name, f"{model_path}.{name}"
