"""The description of the SV task."""

from downstream_heads.contract import Metric, Task

TASK = Task(
    name="elp_sv",
    title="SV",
    corpus="VoxCeleb1",
    metrics={
        "eer": Metric("EER", chance=50.0),
        "min_dcf": Metric("minDCF", unit="", chance=1.0),
        "eer_raw": Metric("EER without s-norm"),
    },
    compares=True,
    of_corpus=("held_out",),
    quick="sv_quick.yaml",
    synthesised=True,
)
