"""The description of the IC task."""

from downstream_heads.contract import ACCURACY, Metric, Task

TASK = Task(
    name="elp_ic",
    title="IC",
    corpus="fluent_speech_commands_dataset",
    metrics={
        "acc": ACCURACY,
        "action_acc": Metric("accuracy of the action", higher_is_better=True),
        "object_acc": Metric("accuracy of the object", higher_is_better=True),
        "location_acc": Metric("accuracy of the location", higher_is_better=True),
    },
    quick="ic_quick.yaml",
    synthesised=True,
)
