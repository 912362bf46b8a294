"""What the KS task is."""

from dataclasses import replace

from downstream_heads.contract import ACCURACY, Corpus, Task

TASK = Task(
    name="elp_ks",
    title="KS",
    corpus=Corpus(
        name="Speech Commands",
        folder="speech_commands_v0.01",
        source="https://arxiv.org/abs/1804.03209 (of http://download.tensorflow.org/data speech_commands_v0.01.tar.gz "
        "and speech_commands_test_set_v0.01.tar.gz)",
        layout="<word>/<speaker>_nohash_<n>.wav, _background_noise_/<name>.wav, validation_list.txt and "
        "testing_list.txt; next to it the test set speech_commands_test_set_v0.01/<class>/<name>.wav",
        signs=("_background_noise_", "validation_list.txt"),
        keys=("root", "speech_commands_root"),
    ),
    # training draws the twelve classes equally often, so there is no commonest answer
    metrics={"acc": replace(ACCURACY, chance=100 / 12)},
    quick="ks_quick.yaml",
)
