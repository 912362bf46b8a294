"""The methods' options: what a user may say of each, checked against a model and counted from shapes alone.

This package knows neither torch nor S3PRL. A method is one class here, one injector in :mod:`upstream_elp.adapters`,
and one entry in :data:`METHODS` and in :data:`upstream_elp.upstream.inject.INJECTORS`.
"""

from upstream_elp.adapters.options.bottlenecks import AdapterBias, EAdapter, Houlsby, LAdapter, Parallel
from upstream_elp.adapters.options.inputs import CNN, DeepPrompt, PAdapter, PrefixKV
from upstream_elp.adapters.options.weights import Biases, Encoder, LayerNorms, LoRA

__all__ = [
    "CNN", "CONFLICTS", "METHODS", "WEIGHT_SPACE", "AdapterBias", "Biases", "DeepPrompt", "EAdapter", "Encoder",
    "Houlsby", "LAdapter", "LayerNorms", "LoRA", "PAdapter", "Parallel", "PrefixKV",
]  # fmt: skip

METHODS: dict[str, type] = {
    "e_adapter": EAdapter,
    "l_adapter": LAdapter,
    "p_adapter": PAdapter,
    "houlsby": Houlsby,
    "adapter_bias": AdapterBias,
    "parallel": Parallel,
    "deep_prompt": DeepPrompt,
    "prefix_kv": PrefixKV,
    "cnn": CNN,
    "lora": LoRA,
    "layer_norm": LayerNorms,
    "bias": Biases,
    "encoder": Encoder,
}
"""Method name, which is also the YAML key and the component's name, to its options; in the order of injection.

``encoder`` is last: it declares whatever tensors the others have not.
"""

CONFLICTS: dict[tuple[str, str], str] = {
    ("bias", "layer_norm"): "both train the layer norms' biases",
    ("encoder", "layer_norm"): "encoder already trains the layer norms",
    ("encoder", "bias"): "encoder already trains the biases",
    ("encoder", "lora"): "encoder already trains the weights that lora changes",
}
"""Pairs of methods that do not go together, and why."""

WEIGHT_SPACE = ("lora", "layer_norm", "bias", "encoder")
"""Methods that change the backbone's own tensors and nothing else, so that they can be merged into it."""
