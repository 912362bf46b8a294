"""SUPERB's ER task: four emotions on IEMOCAP, one session held out.

The head (``downstream_heads.common.heads``) is projector 256 -> mean over frames -> linear layer to the classes. There
is no non-linearity, so ``superb`` and ``linear`` compute the same function. SUPERB and the L-E reference differ in
their protocols:

========== ==================================== =======================================================
.          SUPERB (what this task does)         L-E reference (train.py)
========== ==================================== =======================================================
folds      one session held out, speakers new   random fifths of all utterances, speakers seen
training   30,000 steps of 4 x 8 utterances     20 epochs of batch 32, learning rate x 0.1 after 10
audio      whole                                first 200,000 samples in training (``datarc.crop``)
choice     best dev accuracy                    last epoch
========== ==================================== =======================================================
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from downstream_heads.common import memory
from downstream_heads.common.metrics import accuracy, majority_accuracy, unweighted_accuracy
from downstream_heads.common.utterance import LabelExpert
from downstream_heads.elp_er.about import TASK
from downstream_heads.elp_er.data import LABELS, Emotions, Fold, Utterance, divide, read_fold
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import choose, number, positive_int
from upstream_elp.corpora.iemocap import SESSIONS, people, speaker_of
from upstream_elp.corpora.registry import corpus_root

WHERE = "downstream_expert.datarc"
FOLDS = TASK.variants
DATA_DEFAULTS = {
    "root": None,
    "meta_data": None,
    "test_fold": None,
    "valid_ratio": 0.2,
    "split_seed": 0,
    "dev_session": None,
    "missing": "error",
    "crop": None,
    "train_batch_size": 4,
    "eval_batch_size": 4,
    "resample": True,
}


def choose_fold(variant: str | None, configured: str | None) -> str:
    """Return the fold from ``-v`` or the config; ``fold1`` without either.

    Raises:
        ElpError: the two differ (S3PRL would silently use the config's), or the fold is unknown.
    """
    if variant and configured and variant != configured:
        raise ElpError(f"-v is {variant}, but config key {WHERE}.test_fold is {configured}; set only one of them")
    if variant and variant not in FOLDS:
        raise ElpError(f"-v must be one of {', '.join(FOLDS)}, but is {variant}")
    return choose(variant or configured or FOLDS[0], FOLDS, key=f"{WHERE}.test_fold")


class DownstreamExpert(LabelExpert):
    """ER on IEMOCAP, following S3PRL's downstream contract.

    It writes two files into ``expdir`` for dev and test: ``<split>_<fold>_predict.txt`` and
    ``<split>_<fold>_truth.txt``, one ``<utterance> <label>`` per line.
    """

    about = TASK

    def __init__(self, *, downstream_variant: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.read_data_options(DATA_DEFAULTS)
        rc = self.datarc
        choose(rc["missing"], ("error", "skip"), key=f"{WHERE}.missing")
        number(rc["valid_ratio"], key=f"{WHERE}.valid_ratio", least=0, below=1)
        positive_int(rc["split_seed"], key=f"{WHERE}.split_seed", least=0)
        if rc["dev_session"] is not None:
            choose(rc["dev_session"], SESSIONS, key=f"{WHERE}.dev_session")
        if rc["crop"] is not None:
            positive_int(rc["crop"], key=f"{WHERE}.crop", least=400)
        self.fold = choose_fold(downstream_variant, rc["test_fold"])
        self._parts: Fold | None = None
        # S3PRL's metadata may number the classes differently
        self.labels = self.parts().labels if rc["meta_data"] else dict(LABELS)
        self.build_labels(sorted(self.labels, key=self.labels.__getitem__))

    def get_extra_state(self) -> Tensor:
        """Return the label tables and the fold."""
        return memory.encode({"labels": self.label_tables(), "fold": self.fold})

    def set_extra_state(self, state: Any) -> None:
        """Check the labels as the base class does, and the fold: with another one, it would test on training data.

        Raises:
            ElpError: the labels or the fold differ.
        """
        super().set_extra_state(state)
        fold = memory.decode(state).get("fold", self.fold)
        if fold != self.fold:
            raise ElpError(
                f"the checkpoint was trained on {fold}, which includes the test session of {self.fold}; use it with "
                f"its own fold (-v {fold}), and train {self.fold} separately"
            )

    def notes(self) -> dict[str, Any]:
        """Return the fold, for ``metrics.jsonl``."""
        return {"fold": self.fold}

    def parts(self) -> Fold:
        """Return the fold's utterances, which are read once."""
        if self._parts is None:
            session = self.fold.replace("fold", "Session")
            rc = self.datarc
            root = corpus_root(rc, TASK.corpus)
            self._parts = read_fold(
                root, session, meta_data=rc["meta_data"], missing=rc["missing"], keep_absent=bool(self.skips)
            )
        return self._parts

    def rows(self, split: str) -> list[Utterance]:
        """Return the utterances of one split: the held-out session, or a part of the others."""
        if split == "test":
            return self.parts().test
        train, dev = divide(self.parts().train, self.datarc, session=self.fold.replace("fold", "Session"))
        return train if split == "train" else dev

    def make_dataset(self, split: str) -> Emotions:
        """Return the data set of one split."""
        crop = self.datarc["crop"] if split == "train" else None
        root = corpus_root(self.datarc, TASK.corpus)
        return Emotions(root, self.rows(split), labels=self.labels, audio=self.audio, crop=crop)

    def item_speakers(self, split: str, names: Sequence[str]) -> list[str]:
        """Return the two actors of each session, not the dialogs that S3PRL's metadata call speakers.

        A corpus with more people in a session lists them in ``speakers.csv``.
        """
        known = people(corpus_root(self.datarc, TASK.corpus))
        return [known.get(name) or speaker_of(name) for name in names]

    def measures(self, predict: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
        """Return the accuracy and the unweighted accuracy."""
        return {"acc": accuracy(predict, truth), "uacc": unweighted_accuracy(predict, truth)}

    def chance(self, truth: Sequence[str]) -> dict[str, float]:
        """Return the values of always answering the most common training label, and of guessing uniformly.

        The unweighted accuracy of both is the same.
        """
        common = [row.label for row in self.rows("train")]
        return {
            "acc": majority_accuracy(common, truth),
            "uacc": 100.0 / max(1, len(set(truth))),
            "uniform": 100.0 / len(self.names),
        }

    def answer_file(self, name: str) -> str:
        """Return the file name, with the fold as in submissions; answers about a user's own files have none."""
        split, _, kind = name.partition("_")
        return f"{split}_{self.fold}_{kind}.txt" if kind else f"{name}.txt"
