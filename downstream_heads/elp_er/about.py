"""What the ER task is."""

from downstream_heads.contract import ACCURACY, Corpus, Metric, Task

TASK = Task(
    name="elp_er",
    title="ER",
    corpus=Corpus(
        name="IEMOCAP",
        folder="IEMOCAP",
        source="https://sail.usc.edu/iemocap (on request, IEMOCAP_full_release)",
        layout="Session{1..5}/sentences/wav/<dialog>/<utterance>.wav and Session<n>/dialog/EmoEvaluation/<dialog>.txt",
        signs=("Session[1-5]",),
    ),
    metrics={"acc": ACCURACY, "uacc": Metric("unweighted accuracy", higher_is_better=True)},
    variants=tuple(f"fold{number}" for number in range(1, 6)),
    quick="er_quick.yaml",
    synthesised=True,
)
