"""Where the corpora lie, where to get them, and how they must look."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.base.folders import matches, refuse_closed


@dataclass(frozen=True)
class Corpus:
    """One corpus.

    Attributes:
        folder: its folder below ``$ELP_DATA``.
        source: where to get it.
        layout: what must be below the root.
        signs: glob patterns of which at least one must match, so that a wrong folder is noticed at once.
        keys: config keys that may hold the root; the first is ours, the others are S3PRL's.
    """

    folder: str
    source: str
    layout: str
    signs: tuple[str, ...]
    keys: tuple[str, ...]


CORPORA = {
    "LibriSpeech": Corpus(
        folder="LibriSpeech",
        source="https://www.openslr.org/12 (train-clean-100, dev-clean, test-clean)",
        layout="<split>/<speaker>/<chapter>/<speaker>-<chapter>-<nnnn>.flac and <speaker>-<chapter>.trans.txt",
        signs=("*/*/*/*.trans.txt",),
        keys=("root", "libri_root"),
    ),
    "VoxCeleb1": Corpus(
        folder="VoxCeleb1",
        source="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html (dev and test wav parts, veri_test.txt)",
        layout="dev/wav/<id>/<video>/<nnnnn>.wav, test/wav/<id>/<video>/<nnnnn>.wav and voxceleb1_test_v2.txt",
        signs=("dev/wav", "test/wav"),
        keys=("root", "file_path"),
    ),
    "IEMOCAP": Corpus(
        folder="IEMOCAP",
        source="https://sail.usc.edu/iemocap (on request, IEMOCAP_full_release)",
        layout="Session{1..5}/sentences/wav/<dialog>/<utterance>.wav and Session<n>/dialog/EmoEvaluation/<dialog>.txt",
        signs=("Session[1-5]",),
        keys=("root",),
    ),
    "fluent_speech_commands_dataset": Corpus(
        folder="fluent_speech_commands_dataset",
        source="https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research",
        layout="wavs/speakers/<speaker>/<file>.wav and data/{train,valid,test}_data.csv",
        signs=("data/train_data.csv",),
        keys=("root", "file_path"),
    ),
}


def corpus_root(datarc: Mapping[str, Any], name: str) -> Path:
    """Find a corpus: the config's ``datarc.root`` (or S3PRL's name for it), else ``$ELP_DATA/<folder>``.

    Args:
        datarc: the data block of the task's config.
        name: a key of ``CORPORA``.

    Raises:
        ElpError: no root is known, it is no folder, or it does not look like the corpus.
    """
    if name not in CORPORA:
        raise ElpError(f"unknown corpus {name!r}; known corpora: {', '.join(CORPORA)}")
    corpus = CORPORA[name]
    root, origin = _candidate(datarc, corpus)
    help_text = f"get {name} from {corpus.source}; below its folder there must be {corpus.layout}"
    if root is None:
        raise ElpError(
            f"no folder for the corpus {name}: pass --data DIR (DIR/{corpus.folder} is used), set ELP_DATA, "
            f"or set downstream_expert.datarc.root; {help_text}"
        )
    if not root.is_dir():
        raise ElpError(f"the corpus {name} is not at {root} (from {origin}): no such folder; {help_text}")
    closed: dict[str, str] = {}
    if not any(matches(root, sign, closed=closed) for sign in corpus.signs):
        refuse_closed(closed, root)
        expected = " or ".join(corpus.signs)
        raise ElpError(f"{root} (from {origin}) does not look like {name}: it has no {expected}; {help_text}")
    return root


def _candidate(datarc: Mapping[str, Any], corpus: Corpus) -> tuple[Path | None, str]:
    for key in corpus.keys:
        if datarc.get(key):
            return Path(str(datarc[key])).expanduser(), f"downstream_expert.datarc.{key}"
    if data := settings.current().data:
        return Path(data).expanduser() / corpus.folder, "ELP_DATA"
    return None, ""
