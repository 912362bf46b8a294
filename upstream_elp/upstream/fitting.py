"""Which configurations fit a backbone, and what they train on it, counted on the model itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from upstream_elp.adapters.config import AdapterConfig, load_config
from upstream_elp.base.errors import ElpError
from upstream_elp.upstream.adapter_folder import is_adapter_folder
from upstream_elp.upstream.build import load_backbone
from upstream_elp.upstream.counting import summary
from upstream_elp.upstream.expert import ElpExpert


def counts_on(
    place: str, configs: Mapping[str, AdapterConfig]
) -> tuple[int, int, dict[str, dict[str, Any]], dict[str, str]]:
    """Count the parameters that configurations train on the backbone at a place.

    Our names must be registered with S3PRL. The backbone is loaded once.

    Args:
        place: a backbone's checkpoint, folder or name on Hugging Face's hub.
        configs: the configurations by any name.

    Returns:
        the backbone's parameters and encoder layers; the result of
        :func:`upstream_elp.upstream.counting.summary` of each configuration
        that fits; and of the others, why not.

    Raises:
        ElpError: the place is an adapter folder, or has no backbone.
    """
    if is_adapter_folder(place):
        raise ElpError(f"-k {place} is an adapter folder, not a backbone; pass the checkpoint of a backbone")
    stock, _ = load_backbone(None, place, False, None)
    total = sum(parameter.numel() for parameter in stock.parameters())
    plain = ElpExpert(stock, load_config("weighted_sum"), check=False)  # unlike S3PRL's, it can be copied
    counts, unfit = {}, {}
    for name, config in configs.items():
        try:
            expert = ElpExpert(copy.deepcopy(plain).backbone, config, check=False, known=plain.fingerprint)
        except ElpError as error:
            unfit[name] = str(error)
            continue
        counts[name] = summary(config, expert.injection.counts(expert), total)
    return total, plain.injection.layers, counts, unfit
