"""One page about a mini-SUPERB: sizes, speakers, balance of the classes, and spectrograms and sound of each class."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from matplotlib.figure import Figure

from upstream_elp.base.files import write_text
from upstream_elp.mini import fluent, iemocap, librispeech, voxceleb
from upstream_elp.mini.effects import SAMPLE_RATE
from upstream_elp.mini.utterances import Plan, Utterance

PAGE = "page.html"
TEXTS = {
    librispeech.NAME: "Speech recognition: random sequences of 2 to 5 of {words} words.",
    voxceleb.NAME: "Speaker verification: whether two recordings, made in different places, are of one speaker.",
    iemocap.NAME: "Emotion recognition: neutral, happy (with excited), angry and sad, which differ in prosody only. "
    "The other labels are in the corpus, but not in the task. Each session is the test set of one fold.",
    fluent.NAME: "Intent classification: action, object and location of a command. Other words surround commands in "
    "each split.",
}
MOST_SHOWN = 12
"""Most examples of a corpus; IC has as many intents."""
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { border: 1px solid #ccc; padding: .2rem .6rem }
td.number { text-align: right } figure { display: inline-block; width: 20rem; margin: .5rem } img, audio { width: 100% }
figcaption { font-size: .85rem }
"""


def write_page(folder: Path, plans: Sequence[Plan], manifest: Mapping[str, Any]) -> Path:
    """Write ``page.html``, which needs no other file, into the folder of a mini-SUPERB, and return its path.

    Args:
        folder: what :func:`upstream_elp.mini.superb.write_mini_superb` wrote.
        plans: the plans of its corpora.
        manifest: its manifest.
    """
    settings = ", ".join(f"{name} {_plain(value)}" for name, value in manifest["settings"].items())
    sections = "".join(_section(folder / plan.name, plan, manifest["corpora"][plan.name]) for plan in plans)
    text = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>mini-SUPERB</title><style>{STYLE}</style>"
        "<h1>mini-SUPERB</h1><p>Speech synthesised with eSpeak NG in the layouts of four corpora; it is not SUPERB. "
        "Every speaker has a drawn voice, accent, pitch, pace and length of the vocal tract, and every recording a "
        "drawn microphone, room and noise. No speaker and no sentence is in two splits of a corpus.</p>"
        f"<p>Settings: {html.escape(settings)}</p>{sections}</html>\n"
    )
    write_text(folder / PAGE, text)
    return folder / PAGE


def _plain(value: Any) -> str:
    return " to ".join(f"{one:g}" for one in value) if isinstance(value, list) else str(value)


def _section(root: Path, plan: Plan, record: Mapping[str, Any]) -> str:
    rows = [
        (split, facts["utterances"], len(facts["voices"]), f"{facts['hours']:.2f}")
        for split, facts in record["splits"].items()
    ]
    parts = [
        f"<h2>{html.escape(plan.name)}</h2><p>{TEXTS[plan.name].format(words=len(librispeech.WORDS))}</p>",
        _table(("split", "utterances", "speakers", "hours"), rows),
        _balance(plan),
        *(_example(root, utterance) for utterance in _chosen(plan)),
    ]
    return "".join(parts)


def _balance(plan: Plan) -> str:
    """How often each class occurs in each split; empty where there are no classes, or as many as speakers."""
    if plan.name not in (iemocap.NAME, fluent.NAME):
        return ""
    splits = list(plan.voices())
    counts = Counter((utterance.label, utterance.split) for utterance in plan.utterances)
    labels = sorted({label for label, _ in counts})
    return _table(("class", *splits), [(label, *(counts[label, split] for split in splits)) for label in labels])


def _chosen(plan: Plan) -> list[Utterance]:
    """The first utterance of each class; two of each of the first speakers (SV); the first ones of others (ASR)."""
    each = 2 if plan.name == voxceleb.NAME else 1
    found: list[Utterance] = []
    for utterance in plan.utterances:
        label = utterance.label or utterance.split
        same = [other for other in found if (other.label or other.split) == label]
        if len(same) < each and Path(utterance.path).parent not in [Path(other.path).parent for other in same]:
            found.append(utterance)
        if len(found) == MOST_SHOWN:
            break
    return found


def _example(root: Path, utterance: Utterance) -> str:
    wave, _ = soundfile.read(root / utterance.path, dtype="float32")
    about = " · ".join(part for part in (utterance.label, utterance.split, utterance.accent) if part)
    return (
        f"<figure><img alt='spectrogram' src='data:image/png;base64,{_encoded(_spectrogram(wave))}'>"
        f"<audio controls src='data:audio/mpeg;base64,{_encoded(_mp3(wave))}'></audio>"
        f"<figcaption>{html.escape(about)}<br>“{html.escape(utterance.text)}”</figcaption></figure>"
    )


def _spectrogram(wave: np.ndarray) -> bytes:
    """Return a PNG with Hz over seconds."""
    figure = Figure(figsize=(3.6, 1.8), layout="constrained")
    axis = figure.subplots()
    axis.specgram(wave + 1e-6, NFFT=400, Fs=SAMPLE_RATE, noverlap=240, cmap="magma", vmin=-140, vmax=-40)
    axis.set_xlabel("s")
    axis.set_ylabel("Hz")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=60)
    return file.getvalue()


def _mp3(wave: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, SAMPLE_RATE, format="MP3")
    return file.getvalue()


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    cells = "".join(f"<th>{html.escape(str(name))}</th>" for name in head)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=number' if n else ''}>{html.escape(str(v))}</td>" for n, v in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{cells}</tr>{body}</table>"
