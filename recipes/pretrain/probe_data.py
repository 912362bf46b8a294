"""The four tasks of mini-SUPERB for a quick evaluation: items with labels, and frozen features computed once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from model import new_checkpoint
from torch import Tensor
from tqdm import tqdm
from trainer import save_backbone

from upstream_elp.audio.reading import load_audio
from upstream_elp.base.errors import ElpError
from upstream_elp.corpora.iemocap import CLASSES, SESSIONS, read_session
from upstream_elp.mini import fluent, iemocap, librispeech, voxceleb
from upstream_elp.mini.superb import MANIFEST, plan_corpora
from upstream_elp.mini.utterances import Utterance

TASKS = {"ic": fluent.NAME, "er": iemocap.NAME, "sv": voxceleb.NAME, "asr": librispeech.NAME}
#: which part of a corpus serves what; SV's dev speakers are the last quarter of the training speakers
PARTS = {
    "ic": {"train": "train", "valid": "dev", "test": "test"},
    "er": {"Session1": "test", "Session2": "train", "Session3": "train", "Session4": "train", "Session5": "dev"},
    "sv": {"dev": "train", "test": "test"},
    "asr": {"train-clean-100": "train", "dev-clean": "dev", "test-clean": "test"},
}
FeatureOf = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Item:
    """An utterance: its file, split, label (a class name or a text), speaker, and recording (SV's video)."""

    path: Path
    split: str
    label: str
    speaker: str
    recording: str


def read_items(root: Path, task: str, splits: Sequence[str]) -> list[Item]:
    """Return the items of a task in the wanted splits.

    Args:
        root: what ``elp mini-superb`` wrote.
        task: one of :data:`TASKS`.
        splits: ``train``, ``dev``, ``test``.

    Raises:
        ElpError: there is no mini-SUPERB.
    """
    if not (root / MANIFEST).is_file():
        raise ElpError(f"{root} must be a mini-SUPERB; run elp mini-superb {root} --size small first")
    settings = json.loads((root / MANIFEST).read_text(encoding="utf-8"))["settings"]
    (plan,) = plan_corpora(settings, [TASKS[task]])
    labels = _labels(root, task, plan.utterances)
    speakers = sorted({utterance.speaker for utterance in plan.utterances if utterance.split == "dev"})
    held_out = set(speakers[-(len(speakers) // 4) :])
    items = []
    for utterance in plan.utterances:
        split = PARTS[task][utterance.split]
        if task == "sv" and split == "train" and utterance.speaker in held_out:
            split = "dev"
        if split in splits and utterance.path in labels:
            recording, _, _ = utterance.path.rpartition("/")
            # in IEMOCAP's sessions, another person speaks in every dialog
            speaker = f"{recording}{utterance.speaker}" if task == "er" else utterance.speaker
            items.append(Item(root / plan.name / utterance.path, split, labels[utterance.path], speaker, recording))
    return items


def _labels(root: Path, task: str, utterances: Sequence[Utterance]) -> dict[str, str]:
    """Return labels by path; utterances without one are not part of the task."""
    if task == "er":
        names = {number: name for name, number in CLASSES.items()}
        rows = [row for session in SESSIONS for row in read_session(root / iemocap.NAME, session).present]
        return {row.path: names.get(row.label, row.label) for row in rows}
    return {utterance.path: utterance.label or utterance.text for utterance in utterances}


def feature_of(row: str, *, family: str, size: str, seed: int) -> FeatureOf:
    """Return a function from a wave to the states of a row, (states, frames, dim).

    Args:
        row: ``fbank`` (S3PRL's log-mel with slopes; two frames of 10 ms become one, and they are not normalised per
            utterance, since their mean would then be 0), ``random``, or a checkpoint in S3PRL's format.
        family: of the random model and of the checkpoint.
        size: of the random model.
        seed: of the random model.
    """
    from s3prl import hub

    if row == "fbank":
        model = hub.fbank_no_cmvn().eval()
    elif row == "random":
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "random.pt"
            save_backbone(new_checkpoint(size, family, seed=seed), file)
            model = getattr(hub, f"{family}_local")(ckpt=str(file)).eval()
    else:
        model = getattr(hub, f"{family}_local")(ckpt=row).eval()

    def features(wave: Tensor) -> Tensor:
        states = torch.stack([state[0] for state in model([wave])["hidden_states"]])
        if row == "fbank":
            states = states[:, : states.shape[1] // 2 * 2].reshape(1, states.shape[1] // 2, -1)
        return states

    return features


@torch.inference_mode()
def all_features(items: Sequence[Item], features: FeatureOf, *, pooled: bool, name: str) -> list[Tensor]:
    """Return the features of each utterance by itself: (states, dim) if pooled, else (states, frames, dim)."""
    found = []
    for item in tqdm(items, desc=name, unit="utt", disable=None):
        states = features(load_audio(item.path))
        found.append(states.mean(dim=1) if pooled else states.half())
    return found


def settings_of(root: Path) -> dict[str, Any]:
    """Return the settings of a mini-SUPERB, which identify its audio."""
    return json.loads((root / MANIFEST).read_text(encoding="utf-8"))["settings"]
