"""Log-mel features as an upstream of S3PRL: what one gets without any backbone.

S3PRL's ``fbank_no_cmvn`` with each of its three blocks (log-mel, slopes, slopes of slopes) centred and scaled by fixed
numbers, because a linear head does not learn from values as unequal as these in a few hundred steps. S3PRL's ``fbank``
normalises every utterance instead, which leaves nothing to a head that takes the mean over its frames.
"""

from __future__ import annotations

from pathlib import Path

import torch
from s3prl.upstream.baseline import expert, hubconf
from s3prl.upstream.interfaces import UpstreamBase
from torch import Tensor

MELS = 80
CENTRES = (-5.2, 0.0, 0.0)
SCALES = (3.2, 0.65, 0.26)
"""Mean and standard deviation of each block on mini-SUPERB's training speech; only their size matters."""
FRAME = 160
"""Samples per frame, 10 ms."""


class UpstreamExpert(UpstreamBase):
    """S3PRL's upstream contract: ``hidden_states`` is a list with one tensor, (batch, frames, 240)."""

    def __init__(self) -> None:
        super().__init__()
        self.fbank = expert.UpstreamExpert(str(Path(hubconf.__file__).parent / "fbank_no_cmvn.yaml"))
        for name, values in (("centre", CENTRES), ("scale", SCALES)):
            self.register_buffer(name, torch.tensor(values).repeat_interleave(MELS), persistent=False)

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Return the samples per frame."""
        return FRAME

    def forward(self, wavs: list[Tensor]) -> dict[str, list[Tensor]]:
        """Return the features of waves of shape ``(samples,)`` at 16 kHz; shorter ones are padded at their end."""
        (features,) = self.fbank(wavs)["hidden_states"]
        return {"hidden_states": [(features - self.centre) / self.scale]}
