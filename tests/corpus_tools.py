"""Small corpora, and what a task, ``elp check`` and ``elp prepare`` find in them."""

import os
from pathlib import Path

from downstream_heads.common.survey import Findings, Survey
from downstream_heads.elp_asr.characters import Characters
from downstream_heads.elp_asr.table import measure, read_split
from tests import toy_corpora
from tests.task_tools import make_expert, packaged_config
from upstream_elp.audio.headers import Options
from upstream_elp.corpora import fluent, iemocap, librispeech, voxceleb1
from upstream_elp.launch.data import examine

QUICK = Options(jobs=1, progress=False)
ROOTS = {
    "elp_asr": "LibriSpeech",
    "elp_er": "IEMOCAP",
    "elp_ic": "fluent_speech_commands_dataset",
    "elp_sv": "VoxCeleb1",
}
PREPARE = {"elp_asr": librispeech, "elp_er": iemocap, "elp_ic": fluent, "elp_sv": voxceleb1}
DATARC = {"elp_asr": {"batch_size": 1}, "elp_sv": {"min_samples": 8000}}
MODELRC = {"elp_sv": {"head": "linear", "linear": {"projector_dim": 8}}, "elp_asr": {"head": "linear"}}


def write_small(data: Path) -> Path:
    """All four corpora; the utterances of VoxCeleb1 are shorter than usual."""
    for make in (toy_corpora.librispeech, toy_corpora.iemocap, toy_corpora.fluent_speech_commands):
        make(data)
    toy_corpora.voxceleb1(data, seconds=0.7)
    return data


def config_of(task: str) -> dict:
    config = packaged_config(task)
    config["downstream_expert"]["datarc"].update(DATARC.get(task, {}))
    config["downstream_expert"]["modelrc"].update(MODELRC.get(task, {}))
    return config


def findings(task: str, *splits: str) -> Findings:
    return examine(task, config_of(task), splits=splits, options=QUICK)


def survey(task: str, *splits: str) -> Survey:
    return findings(task, *splits).survey


def expert(task: str, folder: Path):
    return make_expert(task, folder, datarc=DATARC.get(task), modelrc=MODELRC.get(task)).eval()


def lengths_of(root: Path, part: str, *, bucket_file: Path | None = None) -> dict[str, int]:
    """Samples of each utterance of one part of LibriSpeech."""
    found = read_split(root, part, [part], characters=Characters(), bucket_file=bucket_file)
    return {path: header.samples for path, header in measure(root, found, split=part)}


def items(task: str, folder: Path) -> dict[str, list[str]]:
    """The files in the task's data sets, relative to the corpus."""
    made, root = expert(task, folder), Path(os.environ["ELP_DATA"]) / ROOTS[task]
    splits = ("train", "dev", "test") if task != "elp_asr" else ("train", "dev-clean", "test-clean")
    return {split: sorted(os.path.relpath(file, root) for file in made.dataset(split).files()) for split in splits}
