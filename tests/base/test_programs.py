"""The helper for programs: one that hangs is ended with all its processes, and reports where it was."""

import sys
import time

import psutil
import pytest

from tests.programs import call

HANGS = """
import os, subprocess, sys, time
asleep = "import time\\ndef asleep():\\n    time.sleep(1000)\\nasleep()"
child = subprocess.Popen([sys.executable, "-c", asleep], start_new_session=True)
print(child.pid, flush=True)
if sys.argv[1] == "orphan":
    os._exit(0)
time.sleep(1000)
"""


@pytest.mark.parametrize("child", ["orphan", "child"])
def test_a_program_that_hangs_is_ended_with_its_children(child):
    """The child has the pipes open too, so waiting for their end would take as long as the child."""
    began = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match=r"did not end within 3 s") as failure:
        call([sys.executable, "-c", HANGS, child], seconds=3)
    assert time.monotonic() - began < 60
    message = str(failure.value)
    assert "in asleep" in message, message
    number = int(next(line for line in message.splitlines() if line.isdigit()))
    assert not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE


def test_the_limit_of_every_test_is_on(pytestconfig):
    assert float(pytestconfig.getini("timeout")) > 0
    assert pytestconfig.pluginmanager.hasplugin("timeout")
