"""SUPERB's ER task: four emotions on IEMOCAP, one session held out.

The head (``downstream_heads.common.heads``) is projector 256 -> mean over frames -> linear layer to the classes. There
is no non-linearity, so ``superb`` and ``linear`` compute the same function. SUPERB and the L-E reference differ in
their protocols:

========== ==================================== =======================================================
.          SUPERB (the default)                 L-E reference (train.py)
========== ==================================== =======================================================
folds      one session held out, speakers new   random fifths, speakers seen (``datarc.folds: random``)
training   30,000 steps of 4 x 8 utterances     20 epochs of batch 32, learning rate x 0.1 after 10
audio      whole                                first 200,000 samples in training (``datarc.crop``)
choice     best dev accuracy                    last epoch (``datarc.valid_ratio: 0``)
========== ==================================== =======================================================
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from tqdm import tqdm

from downstream_heads.common import memory
from downstream_heads.common.metrics import accuracy, majority_accuracy, unweighted_accuracy
from downstream_heads.common.own import Own, Row, classes, read_own, usable
from downstream_heads.common.size import limited
from downstream_heads.common.utterance import LabelExpert
from downstream_heads.elp_er.about import TASK
from downstream_heads.elp_er.data import LABELS, Emotions, Fold, Utterance, divide, read_fold
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import choose, number, positive_int, wrong_value
from upstream_elp.corpora.iemocap import SESSIONS, people, speaker_of
from upstream_elp.corpora.registry import corpus_root, manifest_for

WHERE = "downstream_expert.datarc"
FOLDS = TASK.variants
KINDS = ("session", "random")
OF_SESSIONS = "every random fold contains all sessions"
OVERLAP = (
    "folds: random, as in the L-E reference: speakers of the test set are in training, so the results cannot be "
    "compared with those of folds by session"
)
DATA_DEFAULTS = {
    "root": None,
    "label": "label",
    "meta_data": None,
    "test_fold": None,
    "folds": "session",
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


def own_labels(rc: Mapping[str, Any], *, variant: str | None, needed: Sequence[str]) -> Own | None:
    """Read a manifest of own data; None if there is none.

    Raises:
        ElpError: a fold is chosen, which own data do not have, or the column's name is not a text.
    """
    source = manifest_for(rc, TASK.corpus)
    if source is None:
        return None
    if variant or rc["test_fold"]:
        raise ElpError(f"{source} has splits instead of folds; remove -v and {WHERE}.test_fold")
    if not isinstance(rc["label"], str) or not rc["label"]:
        raise wrong_value(rc["label"], "the name of a column", key=f"{WHERE}.label")
    return read_own(TASK, source, needed=needed, labels=[rc["label"]])


def session_of(fold: str) -> str:
    """Return the session that a fold tests on."""
    return fold.replace("fold", "Session")


def check_folds(options: Mapping[str, Any]) -> None:
    """Check the keys that decide on the folds and the dev set.

    Raises:
        ElpError: a wrong value, or metadata of folds by session for random folds.
    """
    choose(options["folds"], KINDS, key=f"{WHERE}.folds")
    choose(options["missing"], ("error", "skip"), key=f"{WHERE}.missing")
    number(options["valid_ratio"], key=f"{WHERE}.valid_ratio", least=0, below=1)
    positive_int(options["split_seed"], key=f"{WHERE}.split_seed", least=0)
    if options["dev_session"] is not None:
        choose(options["dev_session"], SESSIONS, key=f"{WHERE}.dev_session")
    for key, why in (("meta_data", "S3PRL's metadata describe folds by session"), ("dev_session", OF_SESSIONS)):
        if options["folds"] == "random" and options[key]:
            raise wrong_value(options[key], f"null with folds: random, as {why}; remove it", key=f"{WHERE}.{key}")


class DownstreamExpert(LabelExpert):
    """ER on IEMOCAP, following S3PRL's downstream contract.

    It writes two files into ``expdir`` for dev and test: ``<split>_<fold>_predict.txt`` and
    ``<split>_<fold>_truth.txt``, one ``<utterance> <label>`` per line. With random folds, they are called
    ``<split>_random-<fold>_…``, so that nobody takes them for a submission.
    """

    about = TASK

    def __init__(self, *, downstream_variant: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.read_data_options(DATA_DEFAULTS)
        rc = self.datarc
        check_folds(rc)
        if rc["crop"] is not None:
            positive_int(rc["crop"], key=f"{WHERE}.crop", least=400)
        self.own = own_labels(rc, variant=downstream_variant, needed=["train"])
        self.fold = "" if self.own else choose_fold(downstream_variant, rc["test_fold"])
        self.session = session_of(self.fold)
        self._parts: Fold | None = None
        if self.own:
            rows = usable(self.own, skips=bool(self.skips)).rows_of("train")
            self.labels = {label: index for index, label in enumerate(classes(rows))}
        else:
            # S3PRL's metadata may number the classes differently
            self.labels = self.parts().labels if rc["meta_data"] else dict(LABELS)
        self.build_labels(sorted(self.labels, key=self.labels.__getitem__))

    def get_extra_state(self) -> Tensor:
        """Return the label tables and the fold."""
        fold = {"fold": self.fold} if self.fold else {}  # own data have none
        return memory.encode({"labels": self.label_tables(), **fold, **self._kind()})

    def _kind(self) -> dict[str, str]:
        """Return the kind of folds if it is not the usual one."""
        return {"folds": self.datarc["folds"]} if self.datarc["folds"] != KINDS[0] and not self.own else {}

    def set_extra_state(self, state: Any) -> None:
        """Check the labels as the base class does, and the fold: with another one, it would test on training data.

        Raises:
            ElpError: the labels or the fold differ.
        """
        super().set_extra_state(state)
        found = memory.decode(state)
        fold, kind = found.get("fold", self.fold), found.get("folds", KINDS[0])
        if kind != self._kind().get("folds", KINDS[0]):
            raise ElpError(
                f"config key {WHERE}.folds must be {kind}, as for the checkpoint, but is {self.datarc['folds']}, which "
                "would test on training data; change it"
            )
        if fold != self.fold:
            raise ElpError(
                f"the checkpoint was trained on {fold}, which includes the test session of {self.fold}; use it with "
                f"its own fold (-v {fold}), and train {self.fold} separately"
            )

    def notes(self) -> dict[str, Any]:
        """Return the fold, for ``metrics.jsonl``; random folds are marked."""
        kind = self._kind()
        if self.own:
            return {}
        return {"fold": self._fold_name(), **kind, **({"speakers_overlap": True} if kind else {})}

    def _fold_name(self) -> str:
        """Return the name of the fold in results and files: ``fold1``, or ``random-fold1``."""
        return "-".join([*self._kind().values(), self.fold])

    def parts(self) -> Fold:
        """Return the fold's utterances, which are read once."""
        if self._parts is None:
            rc = self.datarc
            root = corpus_root(rc, TASK.corpus)
            options = {key: rc[key] for key in ("meta_data", "missing", "folds")}
            self._parts = read_fold(root, self.session, keep_absent=bool(self.skips), **options)
        return self._parts

    def rows(self, split: str) -> list[Utterance] | list[Row]:
        """Return the utterances of one split: the held-out session, a part of the others, or those of own data."""
        if self.own:
            rows = self.own.rows_of(split)
            return limited(self.own.root, rows, self.datarc) if split == "train" else rows
        if split == "test":
            return self.parts().test
        train, dev = divide(self.parts().train, self.datarc, session=self.session)
        if split == "dev" and not dev:
            raise ElpError(
                f"config key {WHERE}.valid_ratio must be above 0 for a dev set, but is 0; raise it, or evaluate test "
                "(runner.eval_dataloaders: [test])"
            )
        return dev if split == "dev" else limited(corpus_root(self.datarc, TASK.corpus), train, self.datarc)

    def make_dataset(self, split: str) -> Emotions:
        """Return the data set of one split."""
        if split == "train" and self._kind():
            tqdm.write(f"[{self.task}] {OVERLAP}")
        crop = self.datarc["crop"] if split == "train" else None
        root = self.own.root if self.own else corpus_root(self.datarc, TASK.corpus)
        return Emotions(root, self.rows(split), labels=self.labels, audio=self.audio, crop=crop)

    def item_speakers(self, split: str, names: Sequence[str]) -> list[str]:
        """Return the two actors of each session, not the dialogs that S3PRL's metadata call speakers.

        A corpus with more people in a session lists them in ``speakers.csv``; own data have a column for them.
        """
        if self.own:
            return self.own.speakers_of(split, names)
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
        return f"{split}_{self._fold_name()}_{kind}.txt" if kind and self.fold else f"{name}.txt"
