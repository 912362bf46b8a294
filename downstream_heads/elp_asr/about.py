"""The description of the ASR task."""

from downstream_heads.contract import Metric, Task

TASK = Task(
    name="elp_asr",
    title="ASR",
    corpus="LibriSpeech",
    # the chance level is that of empty transcripts, which have only deletions
    metrics={"wer": Metric("WER", chance=100.0), "uer": Metric("character error rate", chance=100.0)},
    splits=("train", "dev-clean", "dev-other", "test-clean", "test-other"),
    aliases={"dev": "dev-clean", "test": "test-clean"},
    also="uer",
    of_corpus=("train", "dev-clean", "dev-other", "test-clean", "test-other"),
    quick="asr_quick.yaml",
    synthesised=True,
)
