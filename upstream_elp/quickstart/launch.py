"""Run the jobs in parallel, each in its own process with its own log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from upstream_elp.base import settings
from upstream_elp.base.files import whole_file
from upstream_elp.quickstart.jobs import Job, finished


def run_jobs(jobs: Sequence[Job], *, workers: int, cache: Path) -> list[str]:
    """Run all jobs that are not finished yet.

    Args:
        jobs: all runs; finished ones are skipped.
        cache: folder for the frozen features that runs share, unless the user has chosen one.
        workers: number of processes at a time; if there are several, each uses one CPU thread.

    Returns:
        One sentence per failed run; the others have finished.
    """
    waiting = [job for job in jobs if not finished(job)]
    problems: list[str] = []
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(jobs), initial=len(jobs) - len(waiting), desc="runs", unit="run", dynamic_ncols=True) as bar,
    ):
        futures = {pool.submit(_run_one, job, workers, cache): job for job in waiting}
        for future in as_completed(futures):
            job, problem = futures[future], future.result()
            tqdm.write(f"{job.task} {job.method}: {problem or 'done'}")
            problems += [f"{job.task} {job.method}: {problem}"] if problem else []
            bar.update()
    return problems


def _run_one(job: Job, workers: int, cache: Path) -> str:
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(job.description, encoding="utf-8") as file:
        json.dump(asdict(job), file, indent=2)
    env = dict(os.environ, PYTHONWARNINGS="ignore")
    if settings.current().cache is None:
        env |= settings.exported(settings.Settings(cache=str(cache.absolute())))
    if workers > 1:
        env["OMP_NUM_THREADS"] = env["MKL_NUM_THREADS"] = "1"
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        command = [sys.executable, "-m", "upstream_elp.quickstart.job", str(job.description)]
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=env, check=False).returncode
    if code == 0:
        return ""
    lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"failed ({lines[-1].strip() if lines else f'exit code {code}'}); see {folder / 'log.txt'}"
