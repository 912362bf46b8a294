"""The part of S3PRL's downstream contract that all tasks share (S3PRL downstream/example/expert.py)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from downstream_heads.common import memory
from downstream_heads.common.batches import Batches
from downstream_heads.common.files import append_line
from downstream_heads.common.loaders import AudioReader
from downstream_heads.common.results import Items, intervals
from downstream_heads.contract import ACCURACY, LOSS, Task
from upstream_elp.audio.reading import MIN_SAMPLES
from upstream_elp.audio.skips import Skips, SplitSkips, wanted
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.values import mapping, wrong_value
from upstream_elp.statistics import Interval, items_path, save_items

ABOUT = ("task", "split", "step", "checkpoint", "checkpoint_step")
"""Keys of a line in ``metrics.jsonl`` that say what was evaluated; ``items-<split>.csv`` repeats them."""


class TaskExpert(Batches, nn.Module):
    """Base class of the task experts.

    A task sets ``about``, fills ``self.audio``, builds its head and implements ``make_dataset(split)``,
    ``get_dataloader(split, epoch)``, ``forward(split, features, *others, records)``, ``log_records(...)`` and
    ``inference(features, filenames)``.

    Args:
        upstream_dim: features per frame.
        upstream_rate: samples per frame.
        downstream_expert: the config block with ``datarc`` and ``modelrc``.
        expdir: where results are written.
        seed: S3PRL's ``--seed``.
        min_samples: shortest wave that the upstream accepts; None if the runner does not pass it.
        kwargs: all other ``run_downstream`` arguments and config blocks; available as ``self.run_args``.
    """

    about: ClassVar[Task]
    pools_features: bool = False
    """Whether the head's answer is the same for an utterance's features and for their mean over time."""

    def __init__(
        self,
        *,
        upstream_dim: int,
        upstream_rate: int,
        downstream_expert: Mapping[str, Any],
        expdir: str | Path,
        seed: int = 1337,
        min_samples: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if not isinstance(downstream_expert, Mapping):
            must = "a mapping with the blocks datarc and modelrc"
            raise wrong_value(downstream_expert, must, key="downstream_expert")
        self.upstream_dim = int(upstream_dim)
        self.upstream_rate = int(upstream_rate)
        self.min_samples = MIN_SAMPLES if min_samples is None else min_samples
        self.datarc, self.modelrc = (
            mapping(downstream_expert.get(block), key=f"downstream_expert.{block}") for block in ("datarc", "modelrc")
        )
        self.expdir = Path(expdir)
        self.seed = int(seed)
        self.run_args = kwargs
        self.check_ratio()
        self.audio = AudioReader(min_samples=self.min_samples)
        self.skips = Skips(self.expdir) if wanted() else None
        self._datasets: dict[str, Dataset] = {}
        self.evaluated_step: int | None = None
        """Step of the checkpoint that ``-m evaluate`` loaded."""
        # infinitely bad, so that the first evaluation always writes a checkpoint (S3PRL's tasks start at 100 or 0 and
        # may never write one)
        self.register_buffer("best_score", torch.empty(1))
        self.forget_best()
        self.register_load_state_dict_post_hook(_without_memory)

    @property
    def task(self) -> str:
        """The task's name."""
        return self.about.name

    def label_tables(self) -> Any:
        """Return the names of the head's outputs as plain lists and dicts; None if they have no names."""
        return None

    def get_extra_state(self) -> Tensor:
        """Return the label tables for the checkpoint, as inference has no corpus to read them from."""
        return memory.encode({"labels": self.label_tables()})

    def set_extra_state(self, state: Any) -> None:
        """Compare a checkpoint's label tables with those of the corpus: in another order all answers would be wrong.

        Raises:
            ElpError: they differ.
        """
        if memory.decode(state).get("labels") != self.label_tables():
            raise ElpError(
                f"the checkpoint numbers the labels of {self.task} differently from this corpus and config; use "
                "the corpus, dictionary or metadata that it was trained with"
            )

    def split_name(self, split: str) -> str:
        """Return the full name of a split (``test`` may mean ``test-clean``); an error lists the valid names."""
        return self.about.split(split)

    def make_dataset(self, split: str) -> Dataset:
        """Build the data set of one split, given by its full name; implemented by each task."""
        raise NotImplementedError

    def dataset(self, split: str) -> Dataset:
        """Return the data set of one split, which is built once.

        With ``train`` the splits of ``runner.eval_dataloaders`` are built too, so that their problems are reported
        before the first step, not at the first evaluation.
        """
        name = self.split_name(split)
        wanted = [name]
        if name == "train":
            wanted += [self.split_name(other) for other in self.eval_splits()]
        for each in wanted:
            if each not in self._datasets:
                self._datasets[each] = self.make_dataset(each)
        return self._datasets[name]

    @property
    def cuts_features(self) -> bool:
        """Whether training cuts the features of whole utterances, as :class:`Excerpt` describes them."""
        return False

    def fixed_waves(self, split: str) -> bool:
        """Return whether a split's waves are the same in every epoch, so that their features can be cached."""
        return True

    def files(self) -> dict[str, list[Path]]:
        """Return the audio files of every split that was built."""
        return {split: dataset.files() for split, dataset in self._datasets.items()}

    def eval_splits(self) -> list[str]:
        """Return the splits that ``runner.eval_dataloaders`` names, as they are written there."""
        splits = mapping(self.run_args.get("runner"), key="runner").get("eval_dataloaders") or []
        if isinstance(splits, str) or not all(isinstance(split, str) for split in splits):
            raise wrong_value(splits, "a list of splits", key="runner.eval_dataloaders")
        return list(splits)

    def skip(self, split: str) -> SplitSkips | None:
        """Return the list of a split's skipped files; None if unusable files stop the run."""
        return None if self.skips is None else self.skips.of(split)

    def item_speakers(self, split: str, names: Sequence[str]) -> list[str]:
        """Return the speaker of each item, over which intervals are computed; empty if unknown.

        Args:
            split: the split's full name.
            names: the names of its items, as the data set gives them.
        """
        return [""] * len(names)

    def load_audio(self, path: str | Path) -> Tensor:
        """Read a file for S3PRL's ``-m inference``, with the task's own audio rules."""
        return self.audio(path)

    def keep_best(self, split: str, value: float) -> list[str]:
        """Store the best value; return ``[<split>-best.ckpt]`` if ``value`` is strictly better, else an empty list."""
        higher = self.about.higher_is_better
        best = float(self.best_score)
        if math.isinf(best):
            best = -math.inf if higher else math.inf
        if math.isnan(value) or not (value > best if higher else value < best):
            return []
        self.best_score.fill_(value)
        return [f"{split}-best.ckpt"]

    def forget_best(self) -> None:
        """Let the next evaluation write a checkpoint, as this run has none of its own yet."""
        self.best_score.fill_(-math.inf if self.about.higher_is_better else math.inf)

    def report(
        self,
        split: str,
        step: int,
        values: dict[str, float],
        *,
        logger: Any,
        items: int,
        loss: float | None = None,
        chance: dict[str, float] | None = None,
        notes: Mapping[str, Any] | None = None,
        results: Items | None = None,
    ) -> None:
        """Report the values of one split: on the terminal, to TensorBoard and in ``metrics.jsonl``.

        Args:
            split: the split's name.
            step: S3PRL's global step (0 in an evaluation from the command line, where the line in
                ``metrics.jsonl`` names the ``checkpoint``).
            values: metric name -> value; rates in per cent.
            logger: S3PRL's summary writer, or None.
            items: how many utterances (or trials) were evaluated.
            loss: mean loss, if there is one.
            chance: metric name -> value of a trivial answer, in the same unit; for metrics whose chance level depends
                on the corpus.
            notes: additional keys for the line in ``metrics.jsonl``, such as the protocol.
            results: the results of every item, which are kept in ``items-<split>.csv``; ``-m evaluate`` also reports
                intervals of the values that they have.
        """
        shown = {**values} if loss is None else {**values, "loss": loss}
        chance = {**{name: level for name, level in self.about.chance.items() if name in values}, **(chance or {})}
        evaluates = results is not None and self.run_args.get("mode") == "evaluate"
        certain = intervals(results, values) if evaluates else {}
        if logger is not None:
            for name, value in shown.items():
                logger.add_scalar(f"{self.task}/{split}-{name}", value, global_step=step)
        checkpoint = self.evaluated_checkpoint()
        at = f"{checkpoint} (step {self.evaluated_step})" if checkpoint else f"step {step}"
        tqdm.write(f"[{self.task}] {split}, {at}: {', '.join(self._shown_values(split, shown, chance, certain))}")
        record = {
            "task": self.task,
            "split": split,
            "step": int(step),
            "items": int(items),
            "metrics": _finite(shown),
            "chance": _finite(chance),
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **(notes or {}),
        }
        if self.skips:
            record["skipped"] = self.skips.count(split)
        if certain:
            record["intervals"] = {name: one.to_dict() for name, one in certain.items()}
        if checkpoint:
            record |= {"checkpoint": checkpoint, "checkpoint_step": self.evaluated_step}
        self.expdir.mkdir(parents=True, exist_ok=True)
        if results is not None:
            about = {key: record[key] for key in (*ABOUT, *(notes or {})) if key in record}
            save_items(items_path(self.expdir, split), replace(results, about={**about, "seed": self.seed}))
        append_line(self.expdir / "metrics.jsonl", json.dumps(record))

    def _shown_values(
        self, split: str, values: Mapping[str, float], chance: Mapping[str, float], certain: Mapping[str, Interval]
    ) -> list[str]:
        """Return the values with unit, interval and chance level, and how many files were skipped."""
        parts = []
        for name, value in values.items():
            # a label column of own data has an accuracy that no description names
            unit = (LOSS if name == "loss" else self.about.metrics.get(name, ACCURACY)).unit
            unit = f" {unit}" if unit else ""
            margin = f" {certain[name].margin}" if name in certain else ""
            trivial = f" (chance {chance[name]:.4g})" if name in chance else ""
            parts.append(f"{name} {value:.4g}{unit}{margin}{trivial}")
        if skipped := self.skips.count(split) if self.skips else 0:
            parts.append(f"WITHOUT {counted(skipped, 'file')} that cannot be used ({self.skips.path})")
        return parts

    def evaluated_checkpoint(self) -> str | None:
        """Return the file name of the checkpoint loaded by ``-m evaluate`` or ``-m inference``; None in training."""
        path = self.run_args.get("init_ckpt") or self.run_args.get("past_exp")
        return Path(path).name if path and self.run_args.get("mode") != "train" else None


def _without_memory(_: nn.Module, incompatible: Any) -> None:
    """Accept checkpoints without label tables, as S3PRL writes them."""
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if key != memory.KEY]


def mean_loss(records: Mapping[str, list]) -> float:
    """Return the mean of the batch losses in S3PRL's records; nan if there are none."""
    losses = records["loss"]
    return sum(losses) / len(losses) if losses else math.nan


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Replace nan, which JSON does not have, by null."""
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
