"""Methods that train the backbone's own tensors: as switchable copies, or in place."""

from operator import attrgetter

from upstream_elp.adapters.contract import Target
from upstream_elp.adapters.options import Biases, Encoder, LayerNorms
from upstream_elp.adapters.primitives import replace_tensor


def inject_layer_norms(target: Target, options: LayerNorms) -> None:
    """Put trained copies in place of the selected LayerNorms' weights and biases."""
    for index in target.select(options.layers):
        for block in options.norms:
            attribute = getattr(target.family, f"{block}_norm")
            for tensor in ("weight", "bias"):
                _replace(target, "layer_norm", f"{index}.{block}.{tensor}", f"{index}.{attribute}.{tensor}")


def inject_biases(target: Target, options: Biases) -> None:
    """Put trained copies in place of all biases of the selected layers, but not of other methods' tensors."""
    declared = target.declared_paths()
    for index in target.select(options.layers):
        for key, _ in list(target.layer(index).named_parameters()):
            if key.endswith("bias") and f"{target.layer_path(index)}.{key}" not in declared:
                zero = key in target.family.zero_gradient
                _replace(target, "bias", f"{index}.{key}", f"{index}.{key}", zero_gradient=zero)


def _replace(target: Target, component: str, name: str, place: str, *, zero_gradient: bool = False) -> None:
    """Replace and declare one tensor; ``place`` is its path under the encoder layers."""
    index, _, path = place.partition(".")
    owner, _, tensor = path.rpartition(".")
    copy = replace_tensor(target.layer(int(index)).get_submodule(owner), tensor)
    site = f"{target.layer_path(int(index))}.{owner}.{copy}"
    target.declare(component, name, f"{site}.value", zero_gradient=zero_gradient)
    target.injection.sites.append(site)


def inject_encoder(target: Target, options: Encoder) -> None:
    """Declare the model's own tensors in the scope as trained; they change in place.

    Not in any scope is what gets no gradient by nature: the mask vector and the heads of pre-training.
    """
    family, model_path = target.family, target.injection.model_path
    declared = target.declared_paths()
    for index in target.select(options.layers):
        for key, _ in target.layer(index).named_parameters():
            path = f"{target.layer_path(index)}.{key}"
            if path not in declared:
                target.declare("encoder", f"{index}.{key}", path, zero_gradient=key in family.zero_gradient)
    around = [] if options.scope == "layers" else [family.cnn_norm, family.projection, family.encoder]
    for part in [*around, family.cnn] if options.scope == "all" else around:
        module = attrgetter(part)(target.model)
        for key, _ in module.named_parameters() if module is not None else ():
            name = f"{part}.{key}"
            if not name.startswith(f"{family.layers}.") and f"{model_path}.{name}" not in declared:
                target.declare("encoder", name, f"{model_path}.{name}")
    if options.scope == "all":
        target.let_gradients_through_cnn()
    target.injection.switchable = False
