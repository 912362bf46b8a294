"""A sweep on a cluster: one SLURM array job over a list of jobs, as a script that can be read and submitted by hand."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import write_text
from upstream_elp.sweep.jobs import Job

OURS = ("array", "job-name", "requeue", "no-requeue", "open-mode", "signal", "output", "error")
"""Options of sbatch that the script sets itself."""
SCRIPT = """\
#!/bin/bash
# {name}: {count} jobs, one array element each. Submit it with: sbatch {script}
# Without SLURM, run element N with: SLURM_ARRAY_TASK_ID=N bash {script}
#SBATCH --job-name={name}
#SBATCH --array=1-{count}{limit}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
#SBATCH --output={logs}/slurm-%A_%a.txt
{options}
cd {folder} || exit 1
{settings}
# a job is a folder; its number is its line in this list
job=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {list})
start=()
if [ -n "${{SLURM_JOB_ID:-}}" ]; then
  trap : TERM  # the run saves and ends; this shell waits for it and then decides what follows
  start=(srun --ntasks=1)
fi
"${{start[@]}}" {python} -m upstream_elp.sweep.job "$job/job.json" {device} >> "$job/log.txt" 2>&1
code=$?
# 143: stopped by a signal with everything saved, shortly before the time limit or by scancel --signal; the job goes
# back into the queue and resumes there. A cancelled job is not in the state RUNNING any more, and stays away.
if [ $code -eq 143 ] && [ -n "${{SLURM_JOB_ID:-}}" ] \\
    && [ "$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T)" = RUNNING ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
"""


def parse_options(text: str) -> dict[str, str]:
    """Read ``partition=gpu,time=08:00:00``; a part without ``=`` belongs to the value before it.

    Raises:
        ElpError: it does not begin with an option, or sets one that the script sets itself.
    """
    options: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.strip().lstrip("-").partition("=")
        if not equals and options:
            last = next(reversed(options))
            options[last] += f",{part.strip()}"
            continue
        if not equals or not key.replace("-", "").isalnum() or "\n" in value:
            raise ElpError(f"--slurm must be options of sbatch, such as partition=gpu,time=08:00:00, but is {text!r}")
        if key in OURS:
            hint = "use --array-limit" if key == "array" else "remove it"
            raise ElpError(f"--slurm must not set {key}, which the script sets itself; {hint}")
        options[key] = value
    return options


def write_script(
    out: Path, jobs: Sequence[Job], *, name: str, options: str, limit: int | None, device: str | None
) -> Path:
    """Write the list of jobs and the script.

    Args:
        out: folder of the sweep.
        jobs: the jobs that have not ended.
        name: the plan's name.
        options: options of sbatch, as :func:`parse_options` reads them.
        limit: how many array elements run at a time; None for no limit.
        device: torch device; None for CUDA if there is any.

    Returns:
        The script.
    """
    chosen, folder = parse_options(options), out.absolute() / "slurm"
    script, listed = folder / "array.sbatch", folder / "jobs.txt"
    for job in jobs:
        job.write()
    write_text(listed, "".join(f"{job.folder}\n" for job in jobs))
    exports = settings.exported(settings.current())
    text = SCRIPT.format(
        name=name,
        count=len(jobs),
        limit=f"%{limit}" if limit else "",
        script=shlex.quote(str(script)),
        logs=folder,
        options="".join(
            f"#SBATCH --{key}={value}\n" if value else f"#SBATCH --{key}\n" for key, value in chosen.items()
        ),
        folder=shlex.quote(str(Path.cwd())),
        settings="".join(f"export {key}={shlex.quote(value)}\n" for key, value in exports.items()),
        list=shlex.quote(str(listed)),
        python=shlex.quote(sys.executable),
        device=shlex.quote(device) if device else "",
    )
    return write_text(script, text)


def submit(script: Path) -> str | None:
    """Submit a script; returns what sbatch printed, or None if there is no sbatch on this machine.

    Raises:
        ElpError: sbatch refused it.
    """
    if shutil.which("sbatch") is None:
        return None
    done = subprocess.run(["sbatch", str(script)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise ElpError(f"sbatch refused {script}: {said}; correct --slurm, or edit the script and submit it by hand")
    return done.stdout.strip()
