"""Methods that train the backbone's own tensors: as switchable copies, or in place."""

from upstream_elp.adapters.primitives import replace_tensor
from upstream_elp.injection import Target
from upstream_elp.options import Encoder, LayerNorms


def inject_layer_norms(target: Target, options: LayerNorms) -> None:
    """Put trained copies in place of the selected LayerNorms' weights and biases."""
    for index in target.select(options.layers):
        for block in options.norms:
            attribute = getattr(target.family, f"{block}_norm")
            for tensor in ("weight", "bias"):
                place = replace_tensor(getattr(target.layer(index), attribute), tensor)
                path = f"{target.layer_path(index)}.{attribute}.{place}"
                target.declare("layer_norm", f"{index}.{block}.{tensor}", f"{path}.value")
                target.injection.sites.append(path)


def inject_encoder(target: Target, options: Encoder) -> None:
    """Declare the selected layers' own tensors as trained; they change in place."""
    for index in target.select(options.layers):
        for key, _ in target.layer(index).named_parameters():
            if ".adapters." not in key:
                path = f"{target.layer_path(index)}.{key}"
                target.declare("encoder", f"{index}.{key}", path, zero_gradient=key in target.family.zero_gradient)
    target.injection.switchable = False
