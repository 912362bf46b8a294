"""The head of tasks with one answer per utterance: projector, mean over frames, linear layer."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from downstream_heads.common.heads import UTTERANCE_HEADS, pad_features
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import choose, positive_int, read_options

HEAD_DEFAULTS = {"head": "superb", "projector_dim": 256, "select": "UtteranceLevel", "UtteranceLevel": None}


def head_options(modelrc: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked block ``modelrc`` with defaults filled in.

    Raises:
        ElpError: an unknown key or value.
    """
    where = "downstream_expert.modelrc"
    # S3PRL's config also contains the options of heads that are not selected
    options = read_options(modelrc, HEAD_DEFAULTS, where=where, ignored=("DeepModel",))
    choose(options["select"], ("UtteranceLevel",), key=f"{where}.select")
    level = read_options(options["UtteranceLevel"], {"pooling": "MeanPooling"}, where=f"{where}.UtteranceLevel")
    choose(level["pooling"], ("MeanPooling",), key=f"{where}.UtteranceLevel.pooling")
    choose(options["head"], UTTERANCE_HEADS, key=f"{where}.head")
    positive_int(options["projector_dim"], key=f"{where}.projector_dim")
    return options


class UtteranceScorer:
    """Mixin for a head of projector -> mean over frames -> linear layer, of which ``modelrc.head`` chooses a variant.

    Attributes:
        projector: ``Linear(upstream_dim, projector_dim)``, under S3PRL's name.
        model: ``SuperbMeanHead`` or ``LinearMeanHead``.
    """

    task: str
    upstream_dim: int
    modelrc: Mapping[str, Any]
    projector: nn.Module
    model: nn.Module
    pools_features = True  # nothing before the mean is anything but linear

    def build_head(self, classes: int) -> None:
        """Build ``projector`` and ``model`` in S3PRL's order, so that the same seed gives the same initial weights."""
        self.modelrc = head_options(self.modelrc)
        self.projector = nn.Linear(self.upstream_dim, self.modelrc["projector_dim"])
        self.model = UTTERANCE_HEADS[self.modelrc["head"]](self.modelrc["projector_dim"], classes)

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """Map a list of ``(frames_i, dim)`` features to logits ``(batch, classes)``."""
        if not features:
            raise ElpError(f"{self.task} was given an empty batch")
        padded, frames_len = pad_features(features)
        return self.model(self.projector(padded), frames_len)
