"""Synthesise speech for pretraining: drawn voices, accents, pitch, pace and vocal tracts, in several processes.

    python recipes/pretrain/data.py SPEECH --hours 6 --jobs 2

Shards that exist are kept, so the command can be interrupted and repeated; more hours only add shards. The same seed
gives the same bytes, with any number of jobs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import soxr
from sentences import Sentences
from speech import MANIFEST, SAMPLE_RATE, STRIDE, shard_path
from tqdm import tqdm
from unheard import unheard_sentences, unheard_voices
from voices import Talker, draw_talker, draw_voice

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import sha256_of, whole_file, write_json
from upstream_elp.mini.espeak import DrawnEspeak

SHARD_SECONDS = 600
SHORTEST, LONGEST = 2.7, 8.0  # seconds
TAKES = 2  # utterances of each talker


@dataclass(frozen=True, kw_only=True)
class Take:
    """One utterance of the plan."""

    talker: Talker
    text: str
    pitch: float
    rate: float
    margins: tuple[float, float]  # seconds of silence before and after


def plan_shard(shard: int, *, seed: int, voices: int, sentences: Sentences) -> list[Take]:
    """Draw more takes than a shard needs; they depend only on the seed, the number of voices and the shard."""
    rng = np.random.default_rng((seed, 2, shard))
    takes = []
    while len(takes) < 2 * SHARD_SECONDS / SHORTEST:
        talker = draw_talker(rng, count=voices)
        for _ in range(TAKES):
            text, pitch = sentences.draw(rng), talker.pitch + rng.normal(0, 4)
            margins = tuple(rng.uniform(0.02, 0.2, size=2))
            rate = talker.rate * rng.uniform(0.94, 1.06)
            takes.append(Take(talker=talker, text=text, pitch=pitch, rate=rate, margins=margins))
    return takes


def speak(espeak: DrawnEspeak, take: Take, *, name: str) -> np.ndarray:
    """Return a take, (samples,) int16 with a peak at half scale and a multiple of 320 samples."""
    talker = take.talker
    parameters = {
        "rate": int(np.clip(take.rate / talker.tract, 80, 400)),
        "pitch": int(np.clip(take.pitch, 0, 99)),
        "pitch_range": int(np.clip(talker.pitch_range, 0, 99)),
    }
    raw = espeak.speak(take.text, voice=f"{talker.accent}+{name}", **parameters).astype(np.float32) / 32768.0
    wave = soxr.resample(raw, espeak.rate * talker.tract, SAMPLE_RATE)
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    wave = np.pad(wave[loud[0] : loud[-1] + 1], [int(margin * SAMPLE_RATE) for margin in take.margins])
    wave = wave[: int(min(len(wave), LONGEST * SAMPLE_RATE)) // STRIDE * STRIDE]
    return np.round(wave * (0.5 * 32767 / (np.abs(wave).max() + 1e-6))).astype(np.int16)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process needs to speak a shard; `sentences` and `voices` are those that must not be heard."""

    folder: str
    shard: int
    settings: dict[str, Any]
    sentences: list[str]
    voices: list[str]


def make_shard(job: Job) -> None:
    """Speak one shard in this process, which must be fresh, and write its two files."""
    folder, shard, settings = Path(job.folder), job.shard, job.settings
    takes = plan_shard(shard, seed=settings["seed"], voices=settings["voices"], sentences=Sentences(job.sentences))
    voices = {take.talker.voice: draw_voice(settings["seed"], take.talker.voice) for take in takes}
    if heard := [voice.name for voice in voices.values() if voice.sound in set(job.voices)]:
        raise ElpError(f"the voices {sorted(heard)} must not be heard, but were drawn; choose another --seed")
    espeak = DrawnEspeak(voices.values())
    waves, rows, total = [], [], 0
    for take in takes:
        wave = speak(espeak, take, name=voices[take.talker.voice].name)
        if len(wave) < SHORTEST * SAMPLE_RATE:
            continue
        rows.append({"start": total, "samples": len(wave), "voice": take.talker.voice, "text": take.text})
        waves.append(wave)
        total += len(wave)
        if total >= settings["shard_seconds"] * SAMPLE_RATE:
            break
    with whole_file(shard_path(folder, shard, "npy"), "wb") as file:
        np.save(file, np.concatenate(waves))
    write_json(shard_path(folder, shard, "json"), {"settings": settings, "utterances": rows})


def finished(folder: Path, shard: int, settings: dict[str, Any]) -> bool:
    """Return whether a shard exists; one of other settings is an error."""
    index = shard_path(folder, shard, "json")  # written after the audio
    if not index.is_file():
        return False
    found = json.loads(index.read_text(encoding="utf-8"))["settings"]
    if found != settings:
        raise ElpError(f"{index} must have the settings {settings}, but has {found}; choose another folder")
    return True


def write_manifest(folder: Path, count: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Describe the folder: settings, voices with their definitions, hours, and a hash of each shard's audio."""
    indexes = (json.loads(shard_path(folder, shard, "json").read_text(encoding="utf-8")) for shard in range(count))
    rows = [row for index in indexes for row in index["utterances"]]
    numbers = sorted({row["voice"] for row in rows})
    manifest = {
        "settings": settings,
        "hours": round(sum(row["samples"] for row in rows) / SAMPLE_RATE / 3600, 3),
        "utterances": len(rows),
        "sentences": len({row["text"] for row in rows}),
        "voices": {number: asdict(draw_voice(settings["seed"], number)) for number in numbers},
        "shards": [sha256_of(shard_path(folder, shard, "npy")) for shard in range(count)],
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def run_job(job: Job) -> None:
    """Speak one shard in a new process."""
    command = [sys.executable, __file__, "--worker", job.folder]
    done = subprocess.run(command, input=json.dumps(asdict(job)), capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"the process ended with status {done.returncode}").splitlines()[-1]
        raise ElpError(f"shard {job.shard} failed: {last}")


def run_jobs(jobs: list[Job], processes: int) -> None:
    """Speak shards in several processes at a time."""
    with ThreadPoolExecutor(processes) as pool:
        futures = [pool.submit(run_job, job) for job in jobs]
        try:
            for future in tqdm(futures, desc="speech", unit="shard", disable=None):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@click.command(context_settings={"show_default": True})
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--hours", default=6.0, type=click.FloatRange(min=0, min_open=True), help="Hours of speech, at least.")
@click.option("--voices", default=400, type=click.IntRange(min=2), help="Number of drawn voices.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Seed of everything random.")
@click.option("--jobs", default=1, type=click.IntRange(min=1), help="Processes at a time; does not change the result.")
@click.option("--shard-seconds", default=SHARD_SECONDS, type=click.IntRange(1, SHARD_SECONDS), hidden=True)
@click.option("--worker", is_flag=True, hidden=True, help="Speak the shard that a job on standard input describes.")
def main(out: Path, hours: float, voices: int, seed: int, jobs: int, shard_seconds: int, worker: bool) -> None:
    """Synthesise speech in the folder OUT."""
    if worker:
        make_shard(Job(**json.load(sys.stdin)))
        return
    chosen = {"format": 1, "seed": seed, "voices": voices, "shard_seconds": shard_seconds}
    count = int(np.ceil(hours * 3600 / shard_seconds))
    out.mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(count) if not finished(out, number, chosen)]
    unheard = {"sentences": sorted(unheard_sentences()), "voices": sorted(unheard_voices())}
    run_jobs([Job(folder=str(out), shard=number, settings=chosen, **unheard) for number in missing], jobs)
    manifest = write_manifest(out, count, chosen)
    click.echo(f"{out}: {manifest['hours']} h, {manifest['utterances']} utterances, {len(manifest['voices'])} voices")


if __name__ == "__main__":
    try:
        main()
    except ElpError as error:
        sys.exit(f"error: {error}")
