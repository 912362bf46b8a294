"""An upstream in the layout of SUPERB's hidden set: one frozen backbone, and an adapter for each of several tasks.

This file is copied into the repository as ``expert.py``. ``model.pt`` is the plain backbone's checkpoint; of a backbone
in Hugging Face's format, it only says that the folder ``backbone`` contains it. Each folder in ``adapters`` is an
adapter, named after the task that uses it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from upstream_elp.upstream.switching import load_adapters

HERE = Path(__file__).resolve().parent
BACKBONE = "backbone"
"""The folder of a backbone in Hugging Face's format."""
DEFAULT = "hidden_states"
"""The key for tasks without an adapter of their own, and the name of the adapter for them."""


class UpstreamExpert(nn.Module):
    """The upstream that S3PRL and SUPERB's organisers load.

    Args:
        ckpt: the backbone's checkpoint; not used if the repository contains a folder in Hugging Face's format.
        upstream_feature_selection: accepted, as S3PRL passes it; every task's features are lists of states.
        **kwargs: accepted, as S3PRL passes more.
    """

    def __init__(
        self, ckpt: str = "model.pt", upstream_feature_selection: str = "hidden_states", **kwargs: Any
    ) -> None:
        super().__init__()
        folders = {folder.name: folder for folder in sorted((HERE / "adapters").iterdir()) if folder.is_dir()}
        self.adapters = load_adapters(folders, backbone=HERE / BACKBONE if (HERE / BACKBONE).is_dir() else ckpt)

    def get_downsample_rates(self, key: str) -> int:
        """Return the samples per frame; it is the same for all tasks."""
        return self.adapters.get_downsample_rates(key)

    def forward(self, wavs: list[Tensor]) -> dict[str, list[Tensor]]:
        """Extract the features of every task.

        Args:
            wavs: 16 kHz waves, each of shape (samples,).

        Returns:
            For each task with an adapter its states, and as ``hidden_states`` those for all other tasks; each is a list
            of (batch, frames, dim).
        """
        results = {name: list(self.adapters.use(name)(wavs)[DEFAULT]) for name in self.adapters.names}
        if DEFAULT not in results:
            results[DEFAULT] = list(self.adapters.use(None)(wavs)[DEFAULT])
        return results
