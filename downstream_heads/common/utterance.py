"""What the tasks with one answer per utterance share besides their head: options of the data, loaders."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader

from downstream_heads.common.base import TaskExpert
from downstream_heads.common.loaders import AudioReader, split_loader
from downstream_heads.common.options import boolean, check_paths, choose, positive_int, read_options
from downstream_heads.common.scorer import UtteranceScorer
from upstream_elp.audio import CHANNEL_RULES

LOADER_DEFAULTS = {
    "num_workers": 0,
    "train_batch_size": 32,
    "eval_batch_size": 32,
    "pre_load": False,
    "resample": False,
    "channels": "error",
}


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


class UtteranceExpert(UtteranceScorer, TaskExpert):
    """A task expert with one answer per utterance."""

    def read_data_options(self, defaults: Mapping[str, Any], *, ignored: Sequence[str] = ()) -> None:
        """Check ``datarc`` against the task's keys and set up the audio reader."""
        self.datarc = data_options(self.datarc, defaults, ignored=ignored)
        self.audio = AudioReader(
            resample=self.datarc["resample"],
            channels=self.datarc["channels"],
            pre_load=self.datarc["pre_load"],
        )

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """A loader of ``(wavs, labels, filenames)``."""
        split = self.split_name(split)
        data, skip = self.dataset(split), self.skip(split)
        return split_loader(data, self.datarc, train=split == "train", epoch=epoch, seed=self.seed, skip=skip)
