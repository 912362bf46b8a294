"""Programs started by tests; neither they nor processes that they started can block a test."""

import contextlib
import os
import signal
import subprocess
import sys
import uuid

import psutil
import pytest

from upstream_elp import cli

RUN = [sys.executable, "-m", "upstream_elp.run"]
MARK = "ELP_TEST_PROGRAM"
"""An environment variable by which a program's processes are found, also those that have lost their parent."""


def launch(command: list[str], **env: str) -> subprocess.Popen:
    """Start a program with one thread per process; :func:`ended` reads what it prints."""
    # PYTHONFAULTHANDLER: every Python process among them prints its stack when `ended` aborts it
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", MARK: uuid.uuid4().hex, **env}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    process.mark = variables[MARK]
    return process


def ended(process: subprocess.Popen, seconds: float = 300) -> subprocess.CompletedProcess:
    """Wait for the end of a program; if it does not end, abort it with all its processes and fail the test.

    It would not be enough to kill only the program: its remaining processes keep the pipes open that are read here.
    """
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        for number in (signal.SIGABRT, signal.SIGKILL):
            members = _members(process.mark)
            for member in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.send_signal(number)
            psutil.wait_procs(members, timeout=10)
        out, err = process.communicate(timeout=60)
        pytest.fail(f"{process.args} did not end within {seconds} s:\n{out[-5000:]}\n{err[-20000:]}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def call(command: list[str], *, seconds: float = 300, **env: str) -> subprocess.CompletedProcess:
    """Run a program to its end; see :func:`launch` and :func:`ended`."""
    return ended(launch(command, **env), seconds)


def elp(*words, monkeypatch):
    """Call ``elp`` as the console does; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["elp", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


def _members(mark: str) -> list[psutil.Process]:
    return [member for member in psutil.process_iter(["environ"]) if (member.info["environ"] or {}).get(MARK) == mark]
