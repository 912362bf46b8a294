"""Speak one shard of utterances in a fresh process: reads a JSON job, writes files and prints a line per utterance.

A separate process per shard and a fixed order inside it make the corpora reproducible, since eSpeak NG keeps state
between utterances.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from upstream_elp.base.errors import ElpError
from upstream_elp.mini.effects import SAMPLE_RATE, Conditions, draw_channel, record
from upstream_elp.mini.espeak import DrawnEspeak, Espeak
from upstream_elp.mini.voices import Voice


def speak_utterance(espeak: Espeak, utterance: dict[str, Any], *, conditions: Conditions) -> np.ndarray:
    """Synthesise and record one utterance of a plan: (samples,) int16 at 16 kHz."""
    parameters = {name: utterance[name] for name in ("rate", "pitch", "pitch_range")}
    voice = f"{utterance['accent']}+{utterance['voice']['name']}"
    speech = espeak.speak(utterance["text"], voice=voice, **parameters)
    return record(
        speech,
        espeak.rate * utterance["tract"],
        channel=draw_channel(conditions, rng=np.random.default_rng(utterance["channel_seed"])),
        rng=np.random.default_rng(utterance["seed"]),
        tilt=utterance["tilt"],
        max_samples=utterance["max_samples"],
    )


def run_shard(job: dict[str, Any]) -> None:
    """Write every utterance of the shard under `job["folder"]` and print its number of samples."""
    voices = {utterance["voice"]["name"]: Voice(**utterance["voice"]) for utterance in job["utterances"]}
    espeak = DrawnEspeak(voices.values())
    conditions = Conditions(**job["conditions"])
    for utterance in job["utterances"]:
        path = Path(job["folder"]) / utterance["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = speak_utterance(espeak, utterance, conditions=conditions)
        soundfile.write(path, wave, SAMPLE_RATE, subtype="PCM_16")
        sys.stdout.write(f"{len(wave)}\n")
        sys.stdout.flush()


def main() -> int:
    try:
        run_shard(json.load(sys.stdin))
    except (ElpError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
