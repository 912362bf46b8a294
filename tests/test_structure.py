"""The structure of the packages: imports only go down, there are no import cycles, modules and functions stay small."""

import ast
import graphlib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("upstream_elp", "downstream_heads")
#: from the top down; a name may import what is below it, and never what is above it
ORDER = (
    "upstream_elp",
    "upstream_elp.api",
    "upstream_elp.cli",
    "upstream_elp.run",
    "upstream_elp.python",
    "upstream_elp.layers",
    "upstream_elp.commands",
    "upstream_elp.quickstart",
    "upstream_elp.summary",
    "upstream_elp.sweep",
    "upstream_elp.submission",
    "upstream_elp.inference",
    "upstream_elp.launch",
    "upstream_elp.training",
    "upstream_elp.caching",
    "upstream_elp.experiment",
    "upstream_elp.upstream",
    "downstream_heads",
    "upstream_elp.adapters",
    "upstream_elp.host",
    "upstream_elp.corpora",
    "upstream_elp.mini",
    "upstream_elp.backbones",
    "upstream_elp.audio",
    "upstream_elp.statistics",
    "upstream_elp.base",
)
#: strings that name a module above: a program that data-loading processes are to import
PROGRAMS = {("upstream_elp.launch.start", "upstream_elp.run"), ("upstream_elp.launch.program", "upstream_elp.python")}


@pytest.fixture(scope="module")
def imports():
    """Module to the modules of ours that it imports, also inside functions and for annotations."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def room(module):
    """The entry of ORDER that a module belongs to."""
    parts = module.split(".")
    return parts[0] if parts[0] == "downstream_heads" else ".".join(parts[:2])


def test_every_module_has_its_place(imports):
    assert {room(module) for module in imports} == set(ORDER)


def test_imports_only_go_down(imports):
    upwards = [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in others
        if ORDER.index(room(module)) > ORDER.index(room(other))
    ]
    assert not upwards


def test_no_imports_in_a_circle(imports):
    list(graphlib.TopologicalSorter(imports).static_order())  # raises CycleError, which names the modules


def sources():
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_import_is_hidden_in_a_string(imports):
    """What ``importlib`` or a new process loads by name obeys the same order."""
    upwards = []
    for path in sources():
        module = module_of(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = str(node.value).partition(":")[0] if isinstance(node, ast.Constant) else ""
            if "." in name and name in imports and ORDER.index(room(module)) > ORDER.index(room(name)):
                upwards.append((module, name))
    assert set(upwards) == PROGRAMS


def test_modules_are_at_most_300_lines_long():
    lengths = {module_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert not {module: length for module, length in lengths.items() if length > 300}


def test_functions_are_at_most_60_lines_long():
    functions = (
        (f"{module_of(path)}.{node.name}", node.end_lineno - node.lineno + 1)
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert not {name: length for name, length in functions if length > 60}


def test_few_files_are_outside_the_folders():
    assert len(list((ROOT / "upstream_elp").glob("*.py"))) <= 6
