"""SUPERB's speaker verification on VoxCeleb1, with a development set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from downstream_heads.common import memory
from downstream_heads.common.base import TaskExpert, mean_loss
from downstream_heads.common.files import write_text
from downstream_heads.common.loaders import process
from downstream_heads.common.results import Items
from downstream_heads.elp_sv.about import TASK
from downstream_heads.elp_sv.cohort import LastEpoch, cohort_names
from downstream_heads.elp_sv.corpus import VoxCeleb
from downstream_heads.elp_sv.data import read_utterance
from downstream_heads.elp_sv.embedding import Embedder, cosines
from downstream_heads.elp_sv.metrics import eer_threshold, equal_error_rate, min_dcf, symmetric_norm
from downstream_heads.elp_sv.objectives import AamSoftmax, AmSoftmax, Softmax
from downstream_heads.elp_sv.options import DATA, data_options, head_options, objective_options
from downstream_heads.elp_sv.own import OwnVoices
from downstream_heads.elp_sv.trials import Trial, utterances
from upstream_elp.base.errors import ElpError
from upstream_elp.corpora.registry import corpus_root, manifest_for

OBJECTIVES = {"softmax": Softmax, "am_softmax": AmSoftmax, "aam_softmax": AamSoftmax}


class DownstreamExpert(Embedder, TaskExpert):
    """SV on VoxCeleb1, following S3PRL's downstream contract.

    `datarc.protocol` is `dev` or `superb`. With `dev`, some training speakers are held out, trials are made from their
    utterances, and the best checkpoint is chosen on these. With `superb`, training uses all training speakers and the
    best checkpoint is chosen on test, as in SUPERB; `dev` in `runner.eval_dataloaders` then means test. Every line of
    `metrics.jsonl` records both choices, as `protocol` and `selected_on`.

    It writes two files into `expdir` for dev and test: `<split>_predict.txt` with `id-vid-utt_id-vid-utt score` per
    line, and `<split>_truth.txt` with the label instead of the score; for dev also `dev_trials.txt`.

    Attributes:
        corpus: VoxCeleb1 under the protocol; `corpus.speakers` are the classes.
        threshold: the cosine at which misses equal false alarms, from the last evaluation of the split that chooses the
            best checkpoint; it is stored in the checkpoint, for the decisions of inference.
        objective: the loss.
        cohort: embeddings that training leaves for s-norm, if `datarc.snorm_cohort` is `last_epoch`.
    """

    about = TASK

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.datarc = data_options(self.datarc)
        source = manifest_for(self.datarc, TASK.corpus)
        root = source or corpus_root(self.datarc, TASK.corpus)
        head, options = head_options(self.modelrc)
        self.set_lengths(head)
        self._check_sizes(head)
        corpus = OwnVoices if source else VoxCeleb
        self.corpus = corpus(root, self.datarc, least=self.least, skips=self.skips)
        self.selected_on = "dev" if self.corpus.held_out else "test"
        # the runner block is S3PRL's: it names splits, regardless of the protocol
        self.test_for_dev = self.selected_on == "test" and self.run_args.get("mode") == "train"
        self.trials: dict[str, list[Trial]] = {}
        self.threshold: dict[str, Any] | None = None
        self._build_head(head, options)
        self.cohort = self._cohort()

    def fixed_waves(self, split: str) -> bool:
        """Return whether a split's waves are the same in every epoch: not if training crops samples at random."""
        whole = self.datarc["max_timestep"] is None or self.cuts_features or self.datarc["crop_at"] == "start"
        return whole or self.split_name(split) != "train"

    @property
    def cuts_features(self) -> bool:
        """Whether training cuts the features of whole utterances."""
        return self.datarc["crop_from"] == "features"

    def _check_sizes(self, head: str) -> None:
        """Check that training utterances and crops are long enough for the head."""
        sizes = {"max_timestep": self.datarc["max_timestep"], "min_samples": self.datarc["min_samples"] + 1}
        for key, samples in sizes.items():
            if samples is not None and samples < self.least:
                raise ElpError(
                    f"config key {DATA}.{key} allows training utterances of {samples} samples, but backbone and "
                    f"{head} head need {self.least}; raise it"
                )

    def _build_head(self, head: str, options: dict[str, Any]) -> None:
        """Build the head in S3PRL's order, so that the same seed gives the same initial weights."""
        speakers = len(self.corpus.speakers)
        self.embedding_dim = self.build_embedder(head, options)
        name, chosen = objective_options(self.modelrc)
        self.objective: nn.Module = OBJECTIVES[name](self.embedding_dim, speakers, **chosen)

    def _cohort(self) -> LastEpoch | None:
        """Return the place for the embeddings that training leaves for s-norm."""
        if self.datarc["snorm_cohort"] != "last_epoch":
            return None
        if process()[1] > 1:
            raise ElpError(
                f"config key {DATA}.snorm_cohort must be drawn if several processes train, but is last_epoch, as each "
                "process only sees its own share of the utterances; train in one process, or change it"
            )
        return LastEpoch(self.datarc["snorm"], self.embedding_dim)

    def get_extra_state(self) -> Tensor:
        """Return the threshold; comparing two voices does not need the speakers' names."""
        return memory.encode({"labels": self.label_tables(), "threshold": self.threshold})

    def set_extra_state(self, state: Any) -> None:
        """Take over the threshold from a checkpoint, so that the next one contains it too."""
        super().set_extra_state(state)
        self.threshold = memory.decode(state).get("threshold")

    def split_name(self, split: str) -> str:
        """Return the split's full name; in training with the protocol `superb`, which has no dev set, `dev` is test."""
        name = super().split_name(split)
        return "test" if name == "dev" and self.test_for_dev else name

    def make_dataset(self, split: str) -> Dataset:
        """Return the data set of one split; dev and test also fill `self.trials`."""
        if split == "train":
            data = self.corpus.train()
            if self.cohort is not None:
                self.cohort.draw(data.item_names(), seed=self.datarc["split_seed"])
            tqdm.write(
                f"[{self.task}] protocol {self.datarc['protocol']}: {len(data)} utterances of "
                f"{len(self.corpus.speakers)} speakers to train on, {len(self.corpus.held_out)} speakers held out; "
                f"the best checkpoint is chosen on {self.selected_on}"
            )
            if self.test_for_dev and "dev" in self.eval_splits():
                tqdm.write(
                    f"[{self.task}] protocol superb has no dev set; test is evaluated instead of dev "
                    "(runner.eval_dataloaders)"
                )
            return data
        self.trials[split] = self.corpus.trials(split)
        return self.corpus.evaluation(split, self.trials[split])

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Make a loader of `(wavs, names, speaker indices)` for train and `(wavs, names)` for dev and test."""
        split = self.split_name(split)
        return self.batch_loader(split, self.dataset(split), epoch=epoch)

    def load_audio(self, path: str | Path) -> Tensor:
        """Read a file and apply the recipe's effects, for S3PRL's `-m inference`."""
        untrimmed, effects = self.datarc["too_short"] == "untrimmed", self.datarc["effects"]
        return torch.from_numpy(read_utterance(Path(path), effects=effects, least=self.least, untrimmed=untrimmed))

    def forward(
        self,
        split: str,
        features: Sequence[Tensor],
        names: Sequence[str],
        labels: Sequence[int] | None = None,
        records: defaultdict | None = None,
        **_: Any,
    ) -> Tensor:
        """Return the loss for train; for dev and test, put embeddings into `records` by utterance name."""
        records = defaultdict(list) if records is None else records
        if self.split_name(split) == "train":
            hidden, frames_len = self.hidden(features, names)
            target = torch.as_tensor(labels, dtype=torch.long, device=hidden.device)
            embedding = self.model.embed(hidden, frames_len)  # (batch, dim)
            loss = self.objective(self.model.to_loss(embedding), target)
            if self.cohort is not None and self.training:
                self.cohort.note(names, F.normalize(embedding.detach(), dim=-1))
            records["loss"].append(loss.item())
            records["items"].append(len(target))
            return loss
        for name, vector in zip(names, self.embed(features, names), strict=True):
            records[name] = vector
        return torch.zeros(())

    def inference(self, features: Sequence[Tensor], filenames: Sequence[str]) -> Tensor:
        """Return embeddings of length 1, and write named ones as `name value value …` to `inference.txt`."""
        names = list(filenames) or [f"utterance {place}" for place in range(len(features))]
        with torch.no_grad():
            vectors = self.embed(features, names)
        if filenames:
            rows = zip(names, vectors.numpy(), strict=True)
            lines = [" ".join([name, *(str(value) for value in row)]) for name, row in rows]
            write_text(self.expdir / "inference.txt", "".join(f"{line}\n" for line in lines))
            tqdm.write("\n".join(lines))
        return vectors

    def log_records(self, split: str, records: Mapping[str, Any], logger: Any, global_step: int, **_: Any) -> list[str]:
        """Report the loss or error rates, write the score files, and name the checkpoint if it is the best so far."""
        split = self.split_name(split)
        notes = {"protocol": self.datarc["protocol"], "selected_on": self.selected_on}
        if split == "train":
            loss = mean_loss(records)
            self.report(split, global_step, {}, logger=logger, items=sum(records["items"]), loss=loss, notes=notes)
            return []
        self.dataset(split)  # fills self.trials
        trials = [trial for trial in self.trials[split] if trial.first in records and trial.second in records]
        if {trial.label for trial in trials} != {0, 1}:  # S3PRL's runner.evaluate_ratio can leave too few
            tqdm.write(f"[{self.task}] {split}: too few utterances were evaluated for an error rate")
            return []
        values, scores, cosine = self.score(trials, records)
        if self.datarc["snorm"]:
            notes["cohort"] = len(self._against(records))
        if split == self.selected_on:
            value = eer_threshold(np.asarray([trial.label for trial in trials]), cosine)
            self.threshold = None if value is None else {"value": value, "split": split, "step": int(global_step)}
            notes["threshold"] = value
        results = self.results(split, trials, scores)
        self.report(split, global_step, values, logger=logger, items=len(trials), notes=notes, results=results)
        self._write_scores(split, trials, scores)
        return self.keep_best(split, values["eer"]) if split == self.selected_on else []

    def item_speakers(self, split: str, names: Sequence[str]) -> list[str]:
        """Return the speakers of utterances."""
        return [self.corpus.speaker_of(name) for name in names]

    def results(self, split: str, trials: Sequence[Trial], scores: np.ndarray) -> Items:
        """Return the scores of the trials with both speakers."""
        first, second = ([trial[place] for trial in trials] for place in (1, 2))
        columns = {"score": scores, "same": [trial.label for trial in trials]}
        names = [trial.name for trial in trials]
        return Items(names, self.item_speakers(split, first), columns, self.item_speakers(split, second))

    def score(
        self, trials: Sequence[Trial], records: Mapping[str, Tensor]
    ) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
        """Return error rates, scores and cosines of the trials.

        With `snorm`, scores differ from cosines, and the EER of the cosines is included.
        """
        names = utterances(trials)
        place = {name: row for row, name in enumerate(names)}
        matrix = torch.stack([records[name] for name in names])  # (utterances, dim)
        first = torch.tensor([place[trial.first] for trial in trials])
        second = torch.tensor([place[trial.second] for trial in trials])
        scores = cosine = cosines(matrix[first], matrix[second]).numpy()  # (trials,)
        labels = np.asarray([trial.label for trial in trials])
        raw = {}
        cohort = self._against(records)
        if len(cohort) > 1:
            raw = {"eer_raw": equal_error_rate(labels, cosine)}
            against = (matrix @ cohort.t()).numpy()  # (utterances, cohort)
            scores = symmetric_norm(cosine, against, first.numpy(), second.numpy(), top=self.datarc["snorm_top"])
        elif self.datarc["snorm"]:
            tqdm.write(f"[{self.task}] no s-norm yet, as its cohort has fewer than 2 embeddings ({DATA}.snorm_cohort)")
        cost = min_dcf(labels, scores, p_target=self.datarc["p_target"])
        return {"eer": equal_error_rate(labels, scores), "min_dcf": cost, **raw}, scores, cosine

    def _against(self, records: Mapping[str, Tensor]) -> Tensor:
        """Return the cohort's embeddings, `(cohort, dim)`: those of training, or those among the records."""
        if self.cohort is not None:
            return self.cohort.known()
        found = [records[name] for name in cohort_names(records)]
        return torch.stack(found) if found else torch.empty(0, self.embedding_dim)

    def _write_scores(self, split: str, trials: Sequence[Trial], scores: np.ndarray) -> None:
        rows = list(zip(trials, scores, strict=True))
        write_text(self.expdir / f"{split}_predict.txt", "".join(f"{trial.name} {score}\n" for trial, score in rows))
        write_text(self.expdir / f"{split}_truth.txt", "".join(f"{trial.name} {trial.label}\n" for trial in trials))
        if split == "dev":
            write_text(self.expdir / "dev_trials.txt", "".join(f"{trial}\n" for trial in trials))
