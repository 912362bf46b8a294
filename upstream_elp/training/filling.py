"""Fill the cache of a run's features without training: ``elp cache fill``."""

from __future__ import annotations

import sys
from typing import Any

import click
from tqdm import tqdm

from upstream_elp.backbones.structure import unwrapped
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.caching.features import FrozenFeatures
from upstream_elp.caching.store import ADVICE
from upstream_elp.training.batches import Epoch, check_split


def fill(runner: Any) -> None:
    """Compute the features of the splits that the run trains on and evaluates.

    What has been computed is written from time to time, so an interrupted call continues where it stopped.

    Args:
        runner: S3PRL's runner with its entries upstream, featurizer and downstream built.

    Raises:
        ElpError: the run does not cache anything, or the cache is full.
    """
    frozen, block, head = runner.frozen, runner.config["runner"], unwrapped(runner.downstream.model)
    if not isinstance(frozen, FrozenFeatures) or frozen.store is None:
        raise ElpError("this run does not cache anything; add -o config.runner.cache=auto, or another kind")
    for entry in runner.all_entries:
        entry.model.eval()
    try:
        for split in dict.fromkeys([block.get("train_dataloader", "train"), *block["eval_dataloaders"]]):
            check_split(head, split)
            if frozen.kept(split):
                _fill_split(runner, frozen, split)
            else:
                click.echo(f"elp: {split}: its waves differ from epoch to epoch, so they are not cached", err=True)
    finally:
        frozen.flush()


def _fill_split(runner: Any, frozen: FrozenFeatures, split: str) -> None:
    before = (frozen.found, frozen.computed)
    epoch = Epoch(runner.downstream.model, split, epoch=0, seed=runner.args.seed)
    with tqdm(epoch, total=epoch.total, desc=split, unit="batch", dynamic_ncols=True, file=sys.stderr) as batches:
        for wavs, *_ in batches:
            with runner.precision.autocast():
                frozen.parts(wavs, split)
            if frozen.store.full:
                raise ElpError(f"{split} does not fit: {frozen.store.full}; {ADVICE}")
    frozen.flush()
    found, computed = frozen.found - before[0], frozen.computed - before[1]
    click.echo(f"elp: {split}: {counted(computed, 'utterance')} computed, {found} found in the cache")
