"""The scale of a wave, for models and tasks that expect one."""

from torch import Tensor

VARIANCE_FLOOR = 1e-7
"""Added to the variance of a wave, as in Hugging Face's Wav2Vec2FeatureExtractor."""


def standardized(wav: Tensor) -> Tensor:
    """Scale a wave to mean 0 and variance 1. Shape: ``(samples,)``."""
    return (wav - wav.mean()) / (wav.var(correction=0) + VARIANCE_FLOOR).sqrt()
