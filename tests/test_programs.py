"""What tests rely on: programs that hang are ended with all their processes, and tell where they were."""

import sys
import time

import psutil
import pytest

from tests.programs import call

HANGS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time\\ndef asleep():\\n    time.sleep(1000)\\nasleep()"])
print(child.pid, flush=True)
time.sleep(1000)
"""


def test_a_program_that_hangs_is_ended_with_its_children():
    """The child holds the pipes too, so that waiting for their end would take as long as the child."""
    began = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match=r"did not end within 3 s") as failure:
        call([sys.executable, "-c", HANGS], seconds=3)
    assert time.monotonic() - began < 60
    told = str(failure.value)
    assert "in asleep" in told, told
    assert not psutil.pid_exists(int(told.splitlines()[1]))


def test_the_limit_of_every_test_is_on(pytestconfig):
    assert float(pytestconfig.getini("timeout")) > 0
    assert pytestconfig.pluginmanager.hasplugin("timeout")
