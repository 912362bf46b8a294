"""SUPERB's KS task: recognise ten words, anything else, and silence.

S3PRL draws dev again for each evaluation, with equally likely classes. Here dev is drawn once (``datarc.draw_seed``),
so that evaluations of different checkpoints and runs can be compared. As in S3PRL, an epoch of training draws as many
utterances as there are, and the test set is used as it is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from downstream_heads.common.utterance import LabelExpert, data_options
from downstream_heads.elp_ks.about import TASK
from downstream_heads.elp_ks.data import Keywords, Reader, limited
from upstream_elp.base.errors import AudioError, ElpError
from upstream_elp.base.values import check_paths, positive_int, problem_list
from upstream_elp.corpora.registry import corpus_root
from upstream_elp.corpora.speech_commands import CLASSES, Splits, read_corpus

WHERE = "downstream_expert.datarc"
DATA_DEFAULTS = {
    "root": None,
    "speech_commands_root": None,
    "test_root": None,
    "speech_commands_test_root": None,
    "draw_seed": 0,
}


def read_options(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked data block; it may use S3PRL's names for the two folders.

    Raises:
        ElpError: an unknown key or a wrong value.
    """
    rc = data_options(block, DATA_DEFAULTS)
    check_paths(rc, DATA_DEFAULTS.keys() - {"draw_seed"}, where=WHERE)
    positive_int(rc["draw_seed"], key=f"{WHERE}.draw_seed", least=0)
    return rc


def folder_of_test(rc: Mapping[str, Any]) -> Path | None:
    """Return the folder of the test set from the config, or None."""
    place = rc["test_root"] or rc["speech_commands_test_root"]
    return Path(place).expanduser() if place else None


class DownstreamExpert(LabelExpert):
    """KS on Speech Commands, following S3PRL's downstream contract.

    It writes two files into ``expdir`` for dev and test: ``<split>_predict.txt`` and ``<split>_truth.txt``, one
    ``<utterance> <class>`` per line.
    """

    about = TASK

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        rc = self.datarc = read_options(self.datarc)
        audio = {key: rc[key] for key in ("resample", "channels", "pre_load")}
        self.audio = Reader(**audio, min_samples=self.min_samples)
        self.root = corpus_root(rc, TASK.corpus)
        self.build_labels(CLASSES)

    def fixed_waves(self, split: str) -> bool:
        """Return whether a split's waves are the same in every epoch: training draws other seconds of noise."""
        return self.split_name(split) != "train"

    def make_dataset(self, split: str) -> Keywords:
        """Return the data set of one split.

        Raises:
            ElpError: the corpus is incomplete.
        """
        found = read_corpus(self.root, folder_of_test(self.datarc), [split])
        self._refuse(found, split)
        rows = found.of[split]
        if split == "train":
            rows = limited(self.root, rows, self.datarc)
        data = Keywords(self.root, rows, audio=self.audio)
        return data.drawn(seed=self.datarc["draw_seed"]) if split == "dev" else data

    def item_speakers(self, split: str, names: Sequence[str]) -> list[str]:
        """Return the speakers, from the names of the files; noise has none."""
        of = {row.name: row.speaker for row in self.dataset(split).rows}
        return [of[name] for name in names]

    def _refuse(self, found: Splits, split: str) -> None:
        """Raise an error for problems, but skip missing audio if bad files are skipped."""
        passed = {"missing-audio"} if self.skips else set()
        problems = [problem.text.rstrip(".") for problem in found.problems if problem.kind not in passed]
        if problems:
            raise ElpError(f"{self.root} is incomplete: {problem_list(problems)}")
        for name in sorted(found.gone):
            file = self.root / name
            self.skip(split).note(AudioError(f"{file} is missing, but is in a list", file), lasting=True)

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Make a loader of ``(wavs, labels, names)``; training draws new utterances in each epoch."""
        split = self.split_name(split)
        data, train = self.dataset(split), split == "train"
        if train:
            data = data.drawn(seed=self.datarc["draw_seed"] + epoch)
        return self.batch_loader(split, data, epoch=epoch)
