"""What the IC task is."""

from downstream_heads.contract import ACCURACY, Corpus, Metric, Task

TASK = Task(
    name="elp_ic",
    title="IC",
    corpus=Corpus(
        name="fluent_speech_commands_dataset",
        folder="fluent_speech_commands_dataset",
        source="https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research",
        layout="wavs/speakers/<speaker>/<file>.wav and data/{train,valid,test}_data.csv",
        signs=("data/train_data.csv",),
        keys=("root", "file_path"),
    ),
    metrics={
        "acc": ACCURACY,
        "action_acc": Metric("accuracy of the action", higher_is_better=True),
        "object_acc": Metric("accuracy of the object", higher_is_better=True),
        "location_acc": Metric("accuracy of the location", higher_is_better=True),
    },
    quick="ic_quick.yaml",
    synthesised=True,
)
