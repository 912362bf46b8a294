"""Use of what was trained: transcripts, emotions, intents and speaker similarity from files, without any corpus."""

from upstream_elp.inference.loading import load
from upstream_elp.inference.model import TrainedModel

__all__ = ["TrainedModel", "load"]
