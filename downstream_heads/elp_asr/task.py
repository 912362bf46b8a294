"""SUPERB's ASR task: CTC over characters, greedy decoding, UER and WER."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from tqdm import tqdm

from downstream_heads.common.base import TaskExpert, mean_loss
from downstream_heads.common.files import write_text
from downstream_heads.common.loaders import AudioReader, eval_loader, train_loader
from downstream_heads.common.metrics import edit_errors, rate
from downstream_heads.common.own import usable
from downstream_heads.common.results import Items
from downstream_heads.common.size import limited
from downstream_heads.elp_asr.about import TASK
from downstream_heads.elp_asr.characters import Characters, frames_needed, words
from downstream_heads.elp_asr.data import LibriSpeech, Utterances, only
from downstream_heads.elp_asr.decoding import Transcriber
from downstream_heads.elp_asr.model import build_head
from downstream_heads.elp_asr.options import data_options, folders_of
from downstream_heads.elp_asr.own import UNSEEN, dictionary, own_texts, text_problems
from downstream_heads.elp_asr.table import Split, read_split
from upstream_elp.corpora import checks
from upstream_elp.corpora.chapters import speaker_of
from upstream_elp.corpora.registry import corpus_root


class DownstreamExpert(Transcriber, TaskExpert):
    """ASR on LibriSpeech, following S3PRL's downstream contract.

    It writes two files into ``expdir`` for every dev and test split: ``<split>-noLM-hyp.ark`` and
    ``<split>-noLM-ref.ark``, one ``<utterance> <words>`` per line.
    """

    about = TASK

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        rc = self.datarc = data_options(self.datarc)
        options = {key: rc[key] for key in ("resample", "channels", "pre_load", "normalize")}
        self.audio = AudioReader(**options, min_samples=self.min_samples)
        self.own = own_texts(rc, needed=["train"])
        self.characters = dictionary(rc, self.own)
        if self.own:
            self.own.problems += text_problems(self.own, self.characters)
            usable(self.own, skips=bool(self.skips), passed=frozenset({UNSEEN}))
        self.projector, self.model, self.head = build_head(
            self.modelrc, self.upstream_dim, self.upstream_rate, len(self.characters)
        )
        self.objective = nn.CTCLoss(blank=Characters.blank, zero_infinity=rc["zero_infinity"])

    def label_tables(self) -> list[str]:
        """Return the symbols, the four special ones first."""
        return list(self.characters.symbols)

    def make_dataset(self, split: str) -> LibriSpeech:
        """Return the data set of one split, as batches."""
        rc, training = self.datarc, split == "train"
        root, found, folders = self._find(split)
        return LibriSpeech(
            root,
            split,
            found,
            folders,
            batch_size=rc["batch_size" if training else "eval_batch_size"],
            characters=self.characters,
            audio=self.audio,
            superb=self.head == "superb",
            superb_batches=rc["protocol"] == "superb",
            training=training,
            skip=self.skip(split),
        )

    def _find(self, split: str) -> tuple[Path, Split, list[str]]:
        """Return the root of the audio, the utterances of a split, and what the split consists of."""
        rc = self.datarc
        if self.own:
            rows = self.own.rows_of(split)
            if split == "train":
                rows = limited(self.own.root, rows, rc)
            return self.own.root, Split(rows=rows, gone=self.own.gone & {row.path for row in rows}), [split]
        root, folders = corpus_root(rc, TASK.corpus), folders_of(rc, split)
        found = read_split(root, split, folders, characters=self.characters, bucket_file=rc["bucket_file"])
        if split == "train":
            found.limit(root, rc)
        found.problems += checks.duplicate_problems(dict.fromkeys(row.path for row in found.present))
        return root, found, folders

    def item_speakers(self, split: str, names: Sequence[str]) -> list[str]:
        """Return the readers, with which the names of utterances begin; own data have a column for them."""
        if self.own:
            return self.own.speakers_of(split, names)
        return [speaker_of(name) for name in names]

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Make a loader of ``(wavs, labels, names)``."""
        split, workers = self.split_name(split), self.datarc["num_workers"]
        dataset = self.dataset(split)
        if self.limits(split, size="batch_size"):
            return self.batch_loader(split, Utterances(dataset), epoch=epoch, size="batch_size")
        if split == "train":
            return train_loader(
                dataset,
                batch_size=1,
                num_workers=workers,
                collate_fn=only,
                epoch=epoch,
                seed=self.seed,
                skip=self.skip(split),
            )
        return eval_loader(dataset, batch_size=1, num_workers=workers, collate_fn=only, skip=self.skip(split))

    def forward(
        self,
        split: str,
        features: Sequence[Tensor],
        labels: Sequence[Any],
        filenames: Sequence[str],
        records: defaultdict,
        **_: Any,
    ) -> Tensor:
        """Return the CTC loss of a batch; decoded and true symbols go into ``records``."""
        log_probs, frames_len = self.log_probs(features)
        rows = [torch.as_tensor(label, dtype=torch.long) for label in labels]
        targets = pad_sequence(rows, batch_first=True, padding_value=Characters.pad).to(log_probs.device)
        target_len = torch.tensor([len(row) for row in rows])
        loss = self.objective(log_probs.transpose(0, 1), targets, frames_len, target_len)  # (frames, batch, symbols)
        lists = [row.tolist() for row in rows]
        short = [frames_needed(row) > frames for row, frames in zip(lists, frames_len.tolist(), strict=True)]
        records["loss"] += self.losses(split, loss, len(rows))
        records["too_short"] += short
        records["pred_tokens"] += self.decode(log_probs.detach(), frames_len)
        records["target_tokens"] += [self.characters.tokens(row) for row in lists]
        records["filenames"] += list(filenames)
        return loss

    def log_records(
        self, split: str, records: Mapping[str, list], logger: Any, global_step: int, **_: Any
    ) -> list[str]:
        """Report UER and WER, write the ark files, and name the checkpoint if dev-clean is the best so far."""
        split = self.split_name(split)
        names, guessed, true = self.data_order(
            split, records["filenames"], records["pred_tokens"], records["target_tokens"]
        )
        guessed_words, true_words = [words(row) for row in guessed], [words(row) for row in true]
        values, results = self.score(split, names, (guessed_words, guessed), (true_words, true))
        self.report(
            split,
            global_step,
            values,
            logger=logger,
            items=len(true),
            loss=mean_loss(records),
            results=None if split == "train" else results,
        )
        if short := sum(records["too_short"]):
            effect = "their loss counts as zero" if self.datarc["zero_infinity"] else "their loss is infinite"
            tqdm.write(
                f"[{self.task}] {split}: {short} of {len(true)} utterances have fewer frames than labels; {effect}"
            )
        if split == "train":
            return []
        for kind, rows in (("hyp", guessed_words), ("ref", true_words)):
            text = "".join(f"{n} {' '.join(row)}\n" for n, row in zip(names, rows, strict=True))
            write_text(self.expdir / f"{split}-noLM-{kind}.ark", text)
        return self.keep_best(split, values[self.datarc["best_by"]]) if split == "dev-clean" else []

    def score(
        self, split: str, names: Sequence[str], guessed: Sequence[list], true: Sequence[list]
    ) -> tuple[dict[str, float], Items | None]:
        """Return the error rates, and the errors of every utterance; None without utterances.

        Args:
            split: the split's full name.
            names: its utterances.
            guessed: their words, and their symbols.
            true: the same of the references.
        """
        values, columns = {}, {}
        for name, hypotheses, references in zip(("wer", "uer"), guessed, true, strict=True):
            errors, totals = edit_errors(hypotheses, references), [len(row) for row in references]
            values[name] = rate(errors, totals)
            columns |= {f"{name}_errors": errors, f"{name}_total": totals}
        return values, Items(names, self.item_speakers(split, names), columns) if names else None

    def inference(self, features: Sequence[Tensor], filenames: Sequence[str]) -> list[str]:
        """Transcribe, and write ``inference.ark`` if the utterances have names (S3PRL's ``-m inference``)."""
        with torch.no_grad():
            texts = self.transcribe(features)
        if filenames:
            lines = [f"{name} {text}" for name, text in zip(filenames, texts, strict=True)]
            write_text(self.expdir / "inference.ark", "".join(f"{line}\n" for line in lines))
            tqdm.write("\n".join(lines))
        return texts
