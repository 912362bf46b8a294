"""Files of the toy corpora, and their survey."""

from pathlib import Path

from downstream_heads.common.survey import Survey
from tests.task_tools import packaged_config
from tests.toys import tiny_backbone
from upstream_elp.audio.headers import Options
from upstream_elp.launch.data import examine

DEEP = Options(jobs=2, decode=True, progress=False)
QUICK = Options(jobs=2, progress=False)
ASR = "LibriSpeech/train-clean-100/100/7/100-7-0000.flac"
ASR_TEXT = "LibriSpeech/train-clean-100/100/7/100-7.trans.txt"
SV = "VoxCeleb1/dev/wav/id10000/video0/00001.wav"
SV_TEST = "VoxCeleb1/test/wav/id10004/video0/00001.wav"
TRIALS = "VoxCeleb1/voxceleb1_test_v2.txt"
ER = "IEMOCAP/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav"
ER_LABELS = "IEMOCAP/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
IC_ROOT = "fluent_speech_commands_dataset"
IC = f"{IC_ROOT}/wavs/speakers/trainspk/train-001.wav"
IC_DEV = f"{IC_ROOT}/data/valid_data.csv"


def look(task: str, *, options: Options = DEEP, **changes) -> Survey:
    """The survey of a task with its packaged config, with some keys of ``datarc`` or ``modelrc`` changed."""
    config = packaged_config(task)
    for block, values in changes.items():
        config["downstream_expert"][block].update(values)
    return examine(task, config, options=options).survey


def flags(task: str, data: Path, folder: Path) -> list[str]:
    """The flags of a training run with a tiny backbone."""
    upstream = ["-u", "wavlm_local", "-k", str(tiny_backbone())]
    return ["-m", "train", "-d", task, "-p", str(folder), "--data", str(data), "--device", "cpu", *upstream]
