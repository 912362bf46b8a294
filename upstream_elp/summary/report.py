"""Write the tables and pictures of a sweep into its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from upstream_elp.base.files import write_json, write_text
from upstream_elp.summary import tables
from upstream_elp.summary.outcomes import Outcome, outcomes
from upstream_elp.sweep.jobs import Job

TABLE = "table"
HOW_TO_READ = (
    "± is one standard error over the speakers of the test set. Bold: the best value of a task, and those that cannot "
    "be told apart from it (sign-flip test over speakers, p of at least 0.05 after Holm's correction)."
)


def write(
    out: Path, jobs: Sequence[Job], trainable: Mapping[str, int | None], *, notes: Sequence[str], baseline: str | None
) -> str:
    """Write ``table.{md,csv,json}``, ``sizes.png``, ``curves.{png,csv}`` and ``layer_weights.{png,csv}``.

    Args:
        out: the folder.
        jobs: the runs; those that have not ended are skipped.
        trainable: key of a run -> parameters trained in the upstream.
        notes: sentences above the table.
        baseline: the method with which the others are compared in the CSV and JSON files.

    Returns:
        The Markdown text; empty if no run has been tested.
    """
    from upstream_elp.summary import pictures

    found = outcomes(jobs, trainable, baseline=baseline)
    if not found:
        return ""
    text = "\n\n".join([*notes, tables.markdown(found), HOW_TO_READ, tables.facts(found)]) + "\n"
    rows = tables.rows(found)
    write_text(out / f"{TABLE}.md", text)
    write_text(out / f"{TABLE}.csv", pd.DataFrame(rows).to_csv(index=False))
    write_json(
        out / f"{TABLE}.json", {"notes": list(notes), "cells": json.loads(pd.DataFrame(rows).to_json(orient="records"))}
    )
    write_text(out / "curves.csv", _long(found, lambda each: each.curves()).to_csv(index=False))
    pictures.plot_sizes(found, out / "sizes.png")
    pictures.plot_curves(found, out / "curves.png")
    if pictures.plot_layer_weights(found, out / "layer_weights.png"):
        write_text(out / "layer_weights.csv", _long(found, lambda each: each.layer_weights).to_csv(index=False))
    return text


def _long(found: Sequence[Outcome], points: Any) -> pd.DataFrame:
    return pd.DataFrame(
        [{"task": each.first.task, "method": each.name, **point} for each in found for point in points(each)]
    )
