"""How a process that trains together with others ends."""

import os
import subprocess
import sys

import pytest

ENDING = """
import atexit
from upstream_elp.base.ranks import end_rank
atexit.register(print, "handlers run")
print("work", end=" ")
end_rank()
print("goes on")
"""
GROUP = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.mark.parametrize(("group", "printed"), [({}, "work goes on\nhandlers run\n"), (GROUP, "work handlers run\n")])
def test_only_a_rank_of_several_ends_at_once_and_its_exit_handlers_run(group, printed):
    clean = {name: value for name, value in os.environ.items() if name not in GROUP}
    done = subprocess.run(
        [sys.executable, "-c", ENDING], env={**clean, **group}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
