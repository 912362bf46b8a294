"""The description of the ER task."""

from downstream_heads.contract import ACCURACY, Metric, Task

TASK = Task(
    name="elp_er",
    title="ER",
    corpus="IEMOCAP",
    metrics={"acc": ACCURACY, "uacc": Metric("unweighted accuracy", higher_is_better=True)},
    variants=tuple(f"fold{number}" for number in range(1, 6)),
    of_corpus=("meta_data", "folds", "valid_ratio", "split_seed", "dev_session", "missing"),
    quick="er_quick.yaml",
    synthesised=True,
)
