"""The description of the KS task."""

from dataclasses import replace

from downstream_heads.contract import ACCURACY, Task

TASK = Task(
    name="elp_ks",
    title="KS",
    corpus="Speech Commands",
    # training draws the twelve classes equally often, so no class is the most common
    metrics={"acc": replace(ACCURACY, chance=100 / 12)},
    quick="ks_quick.yaml",
)
