"""Compute what pretraining predicts: clusters of MFCC and log-mel, classes of F0 and energy; later, clusters of states.

    python recipes/pretrain/targets.py SPEECH TARGETS
    python recipes/pretrain/targets.py SPEECH TARGETS2 --states RUN/backbone-005000.pt

The second form clusters the model's own hidden states. Both are the same for the same seed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from acoustics import ENERGY_CLASSES, F0_BINS, Acoustics, frames_of
from model import STRIDE, build_backbone, hidden_states
from sklearn.cluster import MiniBatchKMeans
from speech import Speech, Utterance
from torch import Tensor
from tqdm import tqdm

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of, whole_file, write_json

TABLE = "targets.json"
CLUSTERED = {"mfcc": 128, "mel": 128}
CLASSES = {"f0": F0_BINS + 1, "energy": ENERGY_CLASSES}
STATE_CLUSTERS = 200
MOST_CLASSES = 256  # a label is one byte
Measure = Callable[[Tensor], Tensor]


class Clusters:
    """k-means on the frames of some utterances.

    Args:
        frames: (frames, dim).
        count: number of clusters.
        seed: seed of the initial centres and the batches.
    """

    def __init__(self, frames: np.ndarray, count: int, *, seed: int) -> None:
        if len(frames) < count:
            raise ElpError(
                f"the frames for k-means must be at least {count}, but are {len(frames)}; synthesise more speech"
            )
        self._means = MiniBatchKMeans(count, batch_size=4096, n_init=2, max_iter=40, random_state=seed).fit(frames)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return self._means.predict(frames)


def state_measure(checkpoint: Path, layer: int) -> Measure:
    """Return a function from a wave to the states of one layer, without the utterance's mean: (frames, dim)."""
    backbone = build_backbone(torch.load(checkpoint, weights_only=True)).eval()
    if not 1 <= layer <= len(backbone.encoder.layers):
        raise ElpError(f"--layer must be between 1 and {len(backbone.encoder.layers)}, but is {layer}")

    def measure(wave: Tensor) -> Tensor:
        states = hidden_states(backbone, torch.nn.functional.layer_norm(wave, wave.shape).unsqueeze(0))[layer - 1][0]
        return states - states.mean(dim=0)

    return measure


def sampled_frames(speech: Speech, measure: Measure, limit: int, *, seed: int) -> np.ndarray:
    """Return at most ``limit`` frames of utterances in a drawn order, (frames, dim) float32."""
    found, total = [], 0
    order = np.random.default_rng((seed, 4)).permutation(len(speech.utterances))
    for index in order:
        frames = measure(torch.from_numpy(speech.wave(speech.utterances[index]))).numpy()
        found.append(frames)
        total += len(frames)
        if total >= limit:
            break
    return np.concatenate(found)[:limit].astype(np.float32)


def write_targets(
    speech: Speech, out: Path, name: str, label: Callable[[Utterance], np.ndarray], classes: int
) -> dict[str, Any]:
    """Write one target for all shards, (samples / 320,) uint8 each, and return its statistics."""
    counts = np.zeros(classes, dtype=np.int64)
    bar = tqdm(total=len(speech.utterances), desc=name, unit="utt", disable=None)
    for shard, wave in enumerate(speech.waves):
        labels = np.zeros(len(wave) // STRIDE, dtype=np.uint8)
        for item in (item for item in speech.utterances if item.shard == shard):
            start = item.start // STRIDE
            found = label(item)
            labels[start : start + len(found)] = found
            counts += np.bincount(found, minlength=classes)
            bar.update()
        with whole_file(out / f"{name}-{shard:04d}.npy", "wb") as file:
            np.save(file, labels)
    bar.close()
    shares = counts[counts > 0] / counts.sum()
    perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
    return {"classes": classes, "majority": round(float(shares.max()), 4), "perplexity": round(perplexity, 1)}


def _labels_of(speech: Speech, measure: Measure, clusters: Clusters | None) -> Callable[[Utterance], np.ndarray]:
    def label(item: Utterance) -> np.ndarray:
        frames = measure(torch.from_numpy(speech.wave(item))).numpy()
        assert len(frames) == frames_of(item.samples)
        return frames if clusters is None else clusters(frames.astype(np.float32))

    return label


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--states", type=click.Path(path_type=Path, exists=True), help="Cluster the states of this checkpoint.")
@click.option("--layer", default=3, help="Layer whose states are clustered, from 1.")
@click.option("--frames", default=120_000, type=click.IntRange(min=1), help="Frames that k-means sees.")
@click.option("--clusters", type=click.IntRange(2, MOST_CLASSES), help="Clusters; by default 128, or 200 for states.")
@click.option("--seed", default=0, help="Seed of k-means.")
@click.option("--threads", default=1, type=click.IntRange(min=1))
def main(
    speech: Path, out: Path, states: Path | None, layer: int, frames: int, clusters: int | None, seed: int, threads: int
) -> None:
    """Write targets for the folder SPEECH into the folder OUT."""
    torch.set_num_threads(threads)
    source, acoustics = Speech(speech), Acoustics()
    out.mkdir(parents=True, exist_ok=True)
    counts = (
        {"states": clusters or STATE_CLUSTERS}
        if states
        else {name: clusters or count for name, count in CLUSTERED.items()}
    )
    table: dict[str, Any] = {}
    with torch.inference_mode():
        for name in counts if states else (*counts, *CLASSES):
            measure = state_measure(states, layer) if states else getattr(acoustics, name)
            means = None
            if name in counts:
                means = Clusters(sampled_frames(source, measure, frames, seed=seed), counts[name], seed=seed)
            table[name] = write_targets(
                source, out, name, _labels_of(source, measure, means), {**counts, **CLASSES}[name]
            )
            click.echo(f"{name}: {table[name]}")
    origin = {"checkpoint": sha256_of(states), "layer": layer} if states else None
    write_json(out / TABLE, {"shards": source.manifest["shards"], "seed": seed, "states": origin, "targets": table})


def read_targets(folders: tuple[Path, ...], speech: Speech) -> tuple[dict[str, int], dict[str, list[np.ndarray]]]:
    """Return the number of classes of each target, and its labels by shard.

    Raises:
        ElpError: a folder is unfinished or belongs to other speech.
    """
    classes, labels = {}, {}
    for folder in folders:
        if not (folder / TABLE).is_file():
            raise ElpError(f"--targets {folder} must be a finished folder of targets; run targets.py first")
        table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        if table["shards"] != speech.manifest["shards"]:
            raise ElpError(f"--targets {folder} must belong to {speech.folder}, but was made for other speech")
        for name, target in table["targets"].items():
            classes[name] = target["classes"]
            labels[name] = [
                np.load(folder / f"{name}-{shard:04d}.npy", mmap_mode="r") for shard in range(speech.shards)
            ]
    return classes, labels


if __name__ == "__main__":
    try:
        main()
    except ElpError as error:
        sys.exit(f"error: {error}")
