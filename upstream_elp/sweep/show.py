"""What ``elp sweep`` prints before and while jobs run: the jobs with their states, sizes and times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from downstream_heads import registry
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.experiment.report import duration
from upstream_elp.sweep.estimate import Times, time_left
from upstream_elp.sweep.jobs import DONE, FAILED, RUNNING, STATES, Job, failure, share, state_of
from upstream_elp.sweep.work import Work, read_manifest

UNKNOWN = "unknown"


def plan(work: Work) -> str:
    """All jobs of a plan, whose own folders need not exist yet."""
    lines = [_table(work.jobs, work.trainable), "", _counts(work.jobs)]
    if work.waiting:
        lines.append(
            f"{counted(work.waiting, 'more run')} will follow, with settings that depend on the search's results on dev"
        )
    return "\n".join(lines)


def status(out: Path, *, name: str) -> str:
    """How far a sweep is, from its folder only.

    Raises:
        ElpError: there is no sweep in the folder, or that of another plan.
    """
    found = read_manifest(out)
    if found["name"] != name:
        raise ElpError(f"--out {out} must belong to the plan {name}, but belongs to {found['name']}; choose its folder")
    jobs: Sequence[Job] = found["jobs"]
    failed = [job for job in jobs if state_of(job) == FAILED]
    lines = [_table([job for job in jobs if state_of(job) != DONE], found["trainable"]), "", _counts(jobs)]
    if found["waiting"]:
        lines.append(f"{counted(found['waiting'], 'more run')} will follow the search; call elp sweep again then")
    lines += [f"{job.title}: failed ({failure(job)}); see {job.log}" for job in failed]
    return "\n".join(lines).strip()


def _table(jobs: Sequence[Job], trainable: Mapping[str, int | None]) -> str:
    if not jobs:
        return ""
    times, stages = Times(jobs), {job.stage for job in jobs}
    rows = []
    for job in jobs:
        count, seconds, state = trainable.get(job.key), times.of(job), state_of(job)
        row = {"task": registry.described(job.task).short}
        row |= {"stage": job.stage} if len(stages) > 1 else {}
        done = f" {int(100 * share(job) + 1e-9)} %" if state not in (DONE, FAILED) and share(job) else ""
        row |= {
            "job": job.path.name,
            "state": state + done,
            "trainable": UNKNOWN if count is None else f"{count:,}",
            "time": UNKNOWN if seconds is None else duration(seconds),
        }
        rows.append(row)
    return tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True)


def _counts(jobs: Sequence[Job]) -> str:
    """``12 jobs: 3 done, 9 new; about 4 min of computing left``."""
    states = {job.key: state_of(job) for job in jobs}
    counts = Counter(states.values())
    listed = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    rest = [job for job in jobs if states[job.key] != DONE]
    shares = {job.key: share(job) for job in rest if states[job.key] in (RUNNING, "partial")}
    text = f"{counted(len(jobs), 'job')}: {listed}"
    return f"{text}; {time_left(*Times(jobs).left(rest, shares, 1), what=' of computing')}" if rest else text
