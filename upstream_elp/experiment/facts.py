"""The facts of a run that its logs do not contain, and how to find them again later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upstream_elp.adapters.config import load_config
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment.checkpoint import load_checkpoint
from upstream_elp.experiment.layer_weights import count_components
from upstream_elp.host.checkpoints import best, states
from upstream_elp.upstream.adapter_folder import CONFIG_FILE, read_adapter_folder

RESULTS = "results.json"
FORMAT = 1
FACTS = {
    "command": "what the user typed, as a list",
    "environment": "environment variables that affect results; PWD is the folder in which the run started",
    "versions": "package -> version",
    "config": "the task's configuration, with overrides applied",
    "args": "S3PRL's arguments",
    "adapter": "the adapter's configuration; None without an adapter",
    "backbone": "its hub name, if it has one, and the sha256 of its tensors; None without an adapter",
    "seed": "the seed",
    "parameters": "component (head, featurizer, each method) -> trained parameters, and frozen -> the others",
    "seconds": "wall time of the training",
    "energy_joules": "processors, gpus -> what their own counters say; None if none could be read",
    "peak_memory_bytes": "peak memory on the device",
    "device": "the name of the device",
    "data": "split -> fingerprint (upstream_elp.training.datafiles)",
    "skipped_steps": "number of optimizer steps that were skipped",
    "fp16_overflows": "steps of fp16 that were skipped while the scale of the loss was being found",
    "skipped_files": "number of files that could not be used (skipped_files.txt lists them)",
}
"""The facts that a run adds to its folder; unknown ones may be missing."""
REPRODUCE = ("command", "versions", "config", "args", "data")
"""Facts without which a run cannot be repeated; the report names those that are missing."""


def read_results(path: Path) -> dict[str, Any]:
    """The content of a ``results.json``.

    Raises:
        ElpError: if it is not ours.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ElpError(f"{path} cannot be read ({error}); remove it and run `elp report` again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ElpError(f"{path} is not a {RESULTS} of format {FORMAT}; remove it and run `elp report` again")
    return content


def known_facts(expdir: Path) -> dict[str, Any]:
    """The facts that a folder still contains: those in ``results.json``, or else those in a checkpoint.

    Raises:
        ElpError: a ``results.json`` that is not ours, or a checkpoint that cannot be read.
    """
    path = expdir / RESULTS
    if path.is_file():
        old = read_results(path)
        return {key: old.get(key) for key in FACTS}
    found = checkpoints(expdir)
    if not found:
        return {}
    checkpoint = load_checkpoint(found[0])
    args = vars(checkpoint.args)
    return {
        "args": args,
        "config": checkpoint.config,
        "adapter": (checkpoint.origin or {}).get("config") or _adapter(args),
        "seed": args.get("seed"),
        "parameters": count_components(checkpoint),
    }


def _adapter(args: Mapping[str, Any]) -> dict[str, Any] | None:
    """The adapter that the arguments name, if there is one and its file still exists."""
    if not str(args.get("upstream")).startswith("elp_"):
        return None
    trained = Path(str(args.get("upstream_ckpt")), CONFIG_FILE)
    try:
        if trained.is_file():
            return read_adapter_folder(trained.parent).config.to_dict()
        return load_config(args.get("upstream_model_config")).to_dict()
    except ElpError:
        return None  # the report says that it is missing


def checkpoints(expdir: Path) -> list[Path]:
    """The best checkpoints, then the others from the latest to the earliest."""
    return [*best(expdir), *states(expdir)[::-1]]
