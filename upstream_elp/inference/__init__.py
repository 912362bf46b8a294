"""Use trained models: transcripts, emotions, intents and speaker similarity from files, without a corpus."""

from upstream_elp.inference.loading import load
from upstream_elp.inference.model import TrainedModel

__all__ = ["TrainedModel", "load"]
