"""Imports of a program are never searched for garbage; another program's garbage still is."""

import subprocess
import sys

CODE = """
import gc, sys, types
from upstream_elp.base import imports
{before}
with imports.uncollected():
    inside = gc.isenabled()
    sys.modules.setdefault("torch", types.ModuleType("torch"))
print(inside, gc.isenabled(), gc.get_freeze_count() > 1000)
"""


def reported(before):
    code = CODE.format(before=before)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_nothing_is_collected_during_the_imports_of_a_program():
    assert reported("") == ["False", "True", "True"]


def test_a_program_without_collections_stays_so():
    assert reported("gc.disable()") == ["False", "False", "True"]


def test_a_program_that_has_torch_keeps_its_collections():
    assert reported('sys.modules["torch"] = types.ModuleType("torch")') == ["True", "True", "False"]
