"""Mini-SUPERB: small synthetic corpora in the layouts of LibriSpeech, VoxCeleb1, IEMOCAP and Fluent Speech Commands.

They are reproducible: the same settings give the same bytes with any number of jobs, on the same machine and with the
same library versions. Making them can be interrupted and repeated: a corpus only gets its name when it is complete.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import write_json
from upstream_elp.mini import fluent, iemocap, librispeech, voxceleb
from upstream_elp.mini.effects import SAMPLE_RATE, Conditions
from upstream_elp.mini.espeak import require_loader
from upstream_elp.mini.shards import ShardPool
from upstream_elp.mini.utterances import SIZES, Plan, Seeds

FORMAT = 4  # increase it when the same settings no longer give the same bytes
MANIFEST = "manifest.json"
RECORD = "mini_superb.json"  # in each finished corpus
_PLANNERS: dict[str, Callable[..., Plan]] = {
    librispeech.NAME: librispeech.plan_librispeech,
    voxceleb.NAME: voxceleb.plan_voxceleb,
    iemocap.NAME: iemocap.plan_iemocap,
    fluent.NAME: fluent.plan_fluent,
}
CORPORA = tuple(_PLANNERS)


def write_mini_superb(
    out: str | os.PathLike[str],
    *,
    corpora: Collection[str] = CORPORA,
    size: str = "small",
    seed: int = 0,
    voices: int | None = None,
    jobs: int | None = None,
    snr: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Synthesise corpora in the folder `out`, as `ELP_DATA` or `elp run --data` expect it.

    Args:
        out: the folder, created if needed; only one process may write to it at a time.
        corpora: which of `CORPORA`; others that are already there are kept. A corpus does not depend on the others.
        size: `tiny` (for tests, about 50 utterances per task), `small` (about 2,500) or `full` (about 11,000).
        seed: seed of everything random.
        voices: seed of the speakers, to let others say the same sentences; by default `seed`.
        jobs: number of processes at a time, which does not change the result; by default the CPUs of this process.
        snr: range of signal-to-noise ratios in dB; by default that of each corpus.

    Returns:
        The manifest of all corpora that are there, which is also written to `out/manifest.json`.

    Raises:
        ElpError: wrong settings, an unknown corpus, `out` contains something else, or `espeakng-loader` is missing.
    """
    folder = Path(out)
    settings = _settings(size=size, seed=seed, voices=voices, snr=snr)
    jobs = _cpus() if jobs is None else jobs
    if jobs < 1:
        raise ElpError(f"--jobs must be at least 1, but is {jobs}")
    if unknown := sorted({*corpora} - {*CORPORA}):
        raise ElpError(f"mini-SUPERB does not include the corpus {unknown[0]}; it has {', '.join(CORPORA)}")
    _claim(folder, settings)
    absent = [name for name in CORPORA if not _is_finished(folder / name, settings)]
    if missing := [name for name in absent if name in corpora]:
        require_loader()
        _speak(folder, plan_corpora(settings, missing), settings=settings, jobs=jobs)
    there = [name for name in CORPORA if (folder / name).exists()]
    manifest = {"settings": settings, "corpora": {name: _read_json(folder / name / RECORD) for name in there}}
    write_json(folder / MANIFEST, manifest)
    return manifest


def plan_corpora(settings: dict[str, Any], names: Collection[str] = CORPORA) -> list[Plan]:
    """Plan corpora from the settings of a manifest, in the order of `CORPORA`, without synthesising anything."""
    return [
        planner(settings["size"], seeds=Seeds(settings["seed"], number, voices=settings["voices"]))
        for number, (name, planner) in enumerate(_PLANNERS.items())
        if name in names
    ]


def verify_corpus(folder: Path, plan: Plan) -> None:
    """Compare a finished corpus with the hash in its record.

    Raises:
        ElpError: a file is missing or differs; added files are ignored.
    """
    record = _read_json(folder / RECORD)
    paths = {utterance.path for utterance in plan.utterances} | set(record["tables"])
    absent = sorted(path for path in paths if not (folder / path).is_file())
    if absent:
        raise ElpError(f"{folder / absent[0]} is missing from a finished corpus; delete {folder} to make it again")
    if _hash_files(folder, paths) != record["sha256"]:
        raise ElpError(f"{folder} has changed since it was made; delete it to make it again")


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _settings(*, size: str, seed: int, voices: int | None, snr: tuple[float, float] | None) -> dict[str, Any]:
    if size not in SIZES:
        raise ElpError(f"unknown size {size!r}; the sizes are: {', '.join(SIZES)}")
    voices = seed if voices is None else voices
    for flag, value in (("--seed", seed), ("--voices", voices)):
        if value < 0:
            raise ElpError(f"{flag} must not be negative, but is {value}")
    low, high = (0.0, 0.0) if snr is None else map(float, snr)
    if not -20.0 <= low <= high <= 100.0:
        raise ElpError(
            f"--snr must be two decibel values between -20 and 100, the lower one first, but is {low:g} {high:g}"
        )
    return {"format": FORMAT, "size": size, "seed": seed, "voices": voices, "snr": snr and [low, high]}


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Claim the folder, or refuse one with other corpora or other settings."""
    manifest = folder / MANIFEST
    if manifest.is_file():
        found = _read_json(manifest).get("settings")
        if found != settings:
            found = found if isinstance(found, dict) else {}
            differ = ", ".join(key for key in settings if found.get(key) != settings[key])
            raise ElpError(
                f"{folder} contains a mini-SUPERB with another {differ}; choose another folder or delete this one"
            )
        return
    taken = [name for name in CORPORA if (folder / name).exists()]
    if taken:
        raise ElpError(f"{folder / taken[0]} exists and was not made by mini-superb; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(manifest, {"settings": settings, "corpora": {}})
    except OSError as error:
        raise ElpError(f"cannot write to {folder}: {error.strerror}; choose a writable folder") from error


def _is_finished(folder: Path, settings: dict[str, Any]) -> bool:
    if not folder.exists():
        return False
    record = folder / RECORD
    if not record.is_file() or _read_json(record).get("settings") != settings:
        raise ElpError(f"{folder} was not made by mini-superb with these settings; delete it or choose another folder")
    return True


def _speak(folder: Path, plans: Sequence[Plan], *, settings: dict[str, Any], jobs: int) -> None:
    total = sum(len(plan.utterances) for plan in plans)
    partials = [folder / f".{plan.name}.partial" for plan in plans]
    bar = tqdm(total=total, desc="mini-SUPERB", unit="utt", disable=None)
    try:
        with bar, ShardPool(jobs, progress=bar.update) as pool:
            queued = []
            for plan, partial in zip(plans, partials, strict=True):
                shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
                partial.mkdir()
                queued.append(pool.submit(partial, plan.utterances, conditions=_conditions(plan, settings["snr"])))
            for plan, partial, futures in zip(plans, partials, queued, strict=True):
                _finish(plan, partial, futures, settings=settings)
                partial.replace(folder / plan.name)
    finally:
        for partial in partials:
            shutil.rmtree(partial, ignore_errors=True)


def _conditions(plan: Plan, snr: Sequence[float] | None) -> Conditions:
    """Return a corpus's own conditions, or the same ones with another noise."""
    return replace(plan.conditions, snr=tuple(snr)) if snr else plan.conditions


def _finish(plan: Plan, partial: Path, futures: Iterable[Future], *, settings: dict[str, Any]) -> None:
    """Add the tables and the record to a corpus, so that its folder only has to be renamed."""
    samples = [count for future in futures for count in future.result()]
    tables = plan.tables(samples)
    for path, text in tables.items():
        (partial / path).parent.mkdir(parents=True, exist_ok=True)
        (partial / path).write_text(text, encoding="utf-8")
    paths = {utterance.path for utterance in plan.utterances} | set(tables)
    record = {
        "settings": settings,
        "splits": _summarise(plan, samples),
        "tables": sorted(tables),
        "sha256": _hash_files(partial, paths),
    }
    write_json(partial / RECORD, record)


def _summarise(plan: Plan, samples: Sequence[int]) -> dict[str, dict[str, Any]]:
    splits: dict[str, dict[str, Any]] = {}
    for split, voices in plan.voices().items():
        chosen = [index for index, utterance in enumerate(plan.utterances) if utterance.split == split]
        splits[split] = {
            "utterances": len(chosen),
            "speakers": len({plan.utterances[index].speaker for index in chosen}),
            "hours": round(sum(samples[index] for index in chosen) / SAMPLE_RATE / 3600, 4),
            "voices": voices,
        }
    return splits


def _hash_files(folder: Path, paths: Iterable[str]) -> str:
    """Return the sha256 over names and contents, in the order of the names."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path}\0{hashlib.sha256((folder / path).read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ElpError(f"{path} cannot be read as JSON; delete the folder it is in and run again") from error
    if not isinstance(content, dict):
        raise ElpError(f"{path} is not a mini-SUPERB record; choose another folder")
    return content
