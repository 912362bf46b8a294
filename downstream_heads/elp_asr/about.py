"""What the ASR task is."""

from downstream_heads.contract import Corpus, Metric, Task

TASK = Task(
    name="elp_asr",
    title="ASR",
    corpus=Corpus(
        name="LibriSpeech",
        folder="LibriSpeech",
        source="https://www.openslr.org/12 (train-clean-100, dev-clean, test-clean)",
        layout="<split>/<speaker>/<chapter>/<speaker>-<chapter>-<nnnn>.flac and <speaker>-<chapter>.trans.txt",
        signs=("*/*/*/*.trans.txt",),
        keys=("root", "libri_root"),
    ),
    # an empty answer to everything has only deletions
    metrics={"wer": Metric("WER", chance=100.0), "uer": Metric("character error rate", chance=100.0)},
    splits=("train", "dev-clean", "dev-other", "test-clean", "test-other"),
    aliases={"dev": "dev-clean", "test": "test-clean"},
    also="uer",
    quick="asr_quick.yaml",
    synthesised=True,
)
