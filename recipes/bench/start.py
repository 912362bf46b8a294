"""How long the data part of a start takes on a large corpus: checking the data and building the task's data sets.

A corpus of short files is made in the layout of the real one (with hard links to a few files, so it takes almost no
space). Separate processes check and load it, the first with an empty cache, and it is removed at the end. The file
system's own cache is warm in all of them.

    python recipes/bench/start.py                              # 150,000 files in both layouts: about 5 minutes
    python recipes/bench/start.py --files 3000 --corpora voxceleb1
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
import yaml

LINKS = 20_000  # hard links to one file; ext4 allows 65,000
SAMPLES = 4800  # per file: 0.3 s, part of which remains after trimming silence
TASKS = {"librispeech": "elp_asr", "voxceleb1": "elp_sv"}
OPTIONS = {
    "elp_asr": {"modelrc": {"head": "linear"}},
    "elp_sv": {"datarc": {"min_samples": 400, "held_out": 0.05}, "modelrc": {"head": "linear"}},
}
"""Mean pooling and characters without recurrence, as the files are too short for the other heads."""


class Links:
    """Make files that cost only a name each, as many of them are links to one file."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder, self.suffix, self.made, self.source = folder, suffix, 0, Path()
        folder.mkdir(parents=True)
        self.wav = 0.3 * np.sin(np.arange(SAMPLES) / 5).astype(np.float32)

    def make(self, path: Path) -> None:
        """Make one more file."""
        if self.made % LINKS == 0:
            self.source = self.folder / f"{self.made}{self.suffix}"
            soundfile.write(self.source, self.wav, 16_000)
        os.link(self.source, path)
        self.made += 1


def write_librispeech(data: Path, files: int) -> None:
    """One large training part and two small ones, with chapters of 50 utterances and two chapters per speaker."""
    links = Links(data / "sources", ".flac")
    sizes = {"train-clean-100": files - 100, "dev-clean": 50, "test-clean": 50}
    speaker = 1000
    for part, size in sizes.items():
        for start in range(0, size, 50):
            speaker += start % 100 == 0
            name = f"{speaker}-{start}"
            chapter = data / "LibriSpeech" / part / str(speaker) / str(start)
            chapter.mkdir(parents=True)
            utterances = [f"{name}-{number:04d}" for number in range(min(50, size - start))]
            for utterance in utterances:
                links.make(chapter / f"{utterance}.flac")
            (chapter / f"{name}.trans.txt").write_text("".join(f"{utterance} A\n" for utterance in utterances))


def write_voxceleb1(data: Path, files: int) -> None:
    """Speakers with 120 utterances in 20 videos, as in the real corpus with 148,642 files; 8 of them are for test."""
    links = Links(data / "sources", ".wav")
    test: list[str] = []
    for start in range(0, files, 120):
        speaker = f"id{10_000 + start // 120}"
        part = "test" if start < 8 * 120 else "dev"
        for number in range(min(120, files - start)):
            name = f"{speaker}/video{number // 6:02d}/{number % 6:05d}.wav"
            path = data / "VoxCeleb1" / part / "wav" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            links.make(path)
            test += [name] if part == "test" else []
    pairs = [(one, two) for one in test[::12] for two in test[::12] if one < two]
    lines = [f"{int(one.split('/')[0] == two.split('/')[0])} {one} {two}\n" for one, two in pairs]
    (data / "VoxCeleb1" / "voxceleb1_test_v2.txt").write_text("".join(lines))


WRITERS = {"librispeech": write_librispeech, "voxceleb1": write_voxceleb1}


def start(task: str, out: Path) -> dict[str, float]:
    """Do what ``elp run`` does with the data before the first step; return the seconds of each part."""
    import importlib

    import downstream_heads
    from upstream_elp.audio.headers import Options
    from upstream_elp.launch.data import examine

    config = yaml.safe_load((Path(downstream_heads.__file__).parent / task / "config.yaml").read_text())
    for block, values in OPTIONS[task].items():
        config["downstream_expert"][block].update(values)
    expert = importlib.import_module(f"downstream_heads.{task}.expert").DownstreamExpert
    begin = time.perf_counter()
    found = examine(task, config, splits=["train", *config["runner"]["eval_dataloaders"]], options=Options())
    middle = time.perf_counter()
    if found.survey.problems:
        raise click.ClickException(found.survey.problems[0].text)
    made = expert(upstream_dim=8, upstream_rate=320, **config, expdir=out, mode="train")
    made.get_dataloader("train")
    end = time.perf_counter()
    return {"look": middle - begin, "data sets": end - middle, "together": end - begin}


def timed(task: str, data: Path, cache: Path) -> dict[str, float]:
    """The same in a separate process."""
    env = {**os.environ, "ELP_DATA": str(data), "ELP_CACHE": str(cache)}
    command = [sys.executable, __file__, "--worker", task, "--folder", str(data)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException((done.stderr.strip() or "no message").splitlines()[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(corpus: str, data: Path, files: int) -> list[dict[str, Any]]:
    """Make a corpus and start three times: with an empty cache, with a full one, and after one file has changed."""
    data.mkdir(parents=True)
    WRITERS[corpus](data, files)
    task, rows = TASKS[corpus], []
    for name in ("first start", "second start", "one file changed"):
        if name == "one file changed":
            path = next((data / {"elp_asr": "LibriSpeech", "elp_sv": "VoxCeleb1"}[task]).rglob("*[0-9].[fw]*"))
            path.unlink()
            soundfile.write(path, np.zeros(SAMPLES * 2) + 0.1, 16_000)
        rows.append({"corpus": corpus, "files": files, "what": name, **timed(task, data, data / "cache")})
    return rows


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--files", default=150_000, show_default=True, type=click.IntRange(min=2000), help="Audio files.")
@click.option("--corpora", default=",".join(WRITERS), show_default=True, help="Layouts, separated by commas.")
@click.option("--folder", type=click.Path(path_type=Path), help="Folder for the corpora. [default: a temporary one]")
@click.option("--out", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
@click.option("--worker", hidden=True)
def main(files: int, corpora: str, folder: Path | None, out: Path | None, worker: str | None) -> None:
    """Measure the data part of a start: checking the data and building the data sets."""
    if worker is not None:
        click.echo(json.dumps(start(worker, folder / "exp")))
        return
    names = [name.strip() for name in corpora.split(",")]
    if unknown := [name for name in names if name not in WRITERS]:
        raise click.ClickException(f"unknown corpus {unknown[0]!r}; choose from {', '.join(WRITERS)}")
    top = Path(tempfile.mkdtemp(prefix="elp-start-", dir=folder))
    try:
        rows = [row for name in names for row in measure(name, top / name, files)]
    finally:
        shutil.rmtree(top, ignore_errors=True)
    click.echo(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}; seconds")
    from tabulate import tabulate

    click.echo(tabulate(rows, headers="keys", tablefmt="github", floatfmt=".1f"))
    if out is not None:
        out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
