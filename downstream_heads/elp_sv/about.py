"""What the SV task is."""

from downstream_heads.contract import Corpus, Metric, Task

TASK = Task(
    name="elp_sv",
    title="SV",
    corpus=Corpus(
        name="VoxCeleb1",
        folder="VoxCeleb1",
        source="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html (dev and test wav parts, veri_test.txt)",
        layout="dev/wav/<id>/<video>/<nnnnn>.wav, test/wav/<id>/<video>/<nnnnn>.wav and voxceleb1_test_v2.txt",
        signs=("dev/wav", "test/wav"),
        keys=("root", "file_path"),
    ),
    metrics={
        "eer": Metric("EER", chance=50.0),
        "min_dcf": Metric("minDCF", unit="", chance=1.0),
        "eer_raw": Metric("EER without s-norm"),
    },
    compares=True,
    quick="sv_quick.yaml",
    synthesised=True,
)
