"""What the tasks with one answer per utterance share: projector, mean pooling, linear layer, loaders."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from downstream_heads.common.base import TaskExpert
from downstream_heads.common.heads import UTTERANCE_HEADS, pad_features
from downstream_heads.common.loaders import AudioReader, split_loader
from downstream_heads.common.options import boolean, check_paths, choose, positive_int, read_options
from upstream_elp.audio import CHANNEL_RULES
from upstream_elp.errors import ElpError

LOADER_DEFAULTS = {
    "num_workers": 0,
    "train_batch_size": 32,
    "eval_batch_size": 32,
    "pre_load": False,
    "resample": False,
    "channels": "error",
}
HEAD_DEFAULTS = {"head": "superb", "projector_dim": 256, "select": "UtteranceLevel", "UtteranceLevel": None}


def data_options(
    block: Mapping[str, Any], defaults: Mapping[str, Any], *, ignored: Sequence[str] = ()
) -> dict[str, Any]:
    """``datarc``, checked against the keys that these tasks share and the task's own ``defaults``.

    Raises:
        ElpError: an unknown key or a wrong value.
    """
    where = "downstream_expert.datarc"
    rc = read_options(block, {**LOADER_DEFAULTS, **defaults}, where=where, ignored=ignored)
    for key, least in (("num_workers", 0), ("train_batch_size", 1), ("eval_batch_size", 1)):
        positive_int(rc[key], key=f"{where}.{key}", least=least)
    for key in ("pre_load", "resample"):
        boolean(rc[key], key=f"{where}.{key}")
    check_paths(rc, [key for key in ("root", "file_path", "meta_data") if key in rc], where=where)
    choose(rc["channels"], CHANNEL_RULES, key=f"{where}.channels")
    return rc


class UtteranceExpert(TaskExpert):
    """A task expert whose head is projector -> mean over frames -> linear layer, in two writings (``modelrc.head``).

    Attributes:
        projector: ``Linear(upstream_dim, projector_dim)``, under S3PRL's name.
        model: ``SuperbMeanHead`` or ``LinearMeanHead``.
    """

    def read_data_options(self, defaults: Mapping[str, Any], *, ignored: Sequence[str] = ()) -> None:
        """Check ``datarc`` against the task's keys and set up the audio reader."""
        self.datarc = data_options(self.datarc, defaults, ignored=ignored)
        self.audio = AudioReader(
            resample=self.datarc["resample"],
            channels=self.datarc["channels"],
            pre_load=self.datarc["pre_load"],
        )

    def build_head(self, classes: int) -> None:
        """Make ``projector`` and ``model``, in S3PRL's order, so that the same seed gives the same initial weights."""
        where = "downstream_expert.modelrc"
        # S3PRL's config also carries the options of heads that are not selected
        self.modelrc = read_options(self.modelrc, HEAD_DEFAULTS, where=where, ignored=("DeepModel",))
        choose(self.modelrc["select"], ("UtteranceLevel",), key=f"{where}.select")
        level = read_options(
            self.modelrc["UtteranceLevel"], {"pooling": "MeanPooling"}, where=f"{where}.UtteranceLevel"
        )
        choose(level["pooling"], ("MeanPooling",), key=f"{where}.UtteranceLevel.pooling")
        head = UTTERANCE_HEADS[choose(self.modelrc["head"], UTTERANCE_HEADS, key=f"{where}.head")]
        dim = positive_int(self.modelrc["projector_dim"], key=f"{where}.projector_dim")
        self.projector = nn.Linear(self.upstream_dim, dim)
        self.model = head(dim, classes)

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """A list of ``(frames_i, dim)`` -> ``(batch, classes)``."""
        if not features:
            raise ElpError(f"{self.task} was given an empty batch")
        padded, frames_len = pad_features(features)
        return self.model(self.projector(padded), frames_len)

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """A loader of ``(wavs, labels, filenames)``."""
        split = self.split_name(split)
        data, skip = self.dataset(split), self.skip(split)
        return split_loader(data, self.datarc, train=split == "train", epoch=epoch, seed=self.seed, skip=skip)
