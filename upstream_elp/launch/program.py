"""Run another toolkit's program in a process in which S3PRL has our names: ``elp python``.

The program becomes the main module, as under ``python``. Processes that it spawns would import only the program,
without our names; they import :mod:`upstream_elp.python` instead, which registers and then imports the program too.
"""

import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

import click

from upstream_elp.base.errors import ElpError
from upstream_elp.launch.registry import register

PROGRAM = "ELP_PYTHON_PROGRAM"
"""Environment variable in which spawned processes find the program."""
USAGE = """\
Usage: elp python (FILE | -m MODULE) [ARGUMENT]...

Run a Python program in which S3PRL knows our upstreams, such as the training script of another toolkit.
FILE or MODULE and its arguments are what you would pass to python.

Example: elp python -m espnet2.bin.asr_train --config train.yaml"""


def run(argv: Sequence[str]) -> None:
    """Register our names and run a program in this process.

    Args:
        argv: a file and its arguments, or ``-m``, a module and its arguments.

    Raises:
        ElpError: the program is not named, or there is none at that place.
    """
    if argv and argv[0] in ("-h", "--help"):
        click.echo(USAGE)
        return
    kind, place, arguments = _read(argv)
    register()
    main = ModuleType("__main__")
    main.__spec__ = importlib.util.find_spec("upstream_elp.python")  # what spawned processes import
    sys.path[0] = str(Path.cwd()) if kind == "module" else str(Path(place).resolve().parent)
    code, about = _program(kind, place)
    os.environ[PROGRAM] = json.dumps([kind, place])
    sys.argv = [about["__file__"], *arguments]
    sys.modules["__main__"] = main
    vars(main).update(about)
    try:
        exec(code, vars(main))
    except ElpError:
        raise
    except Exception:  # the program's own, which `elp` would take for one of ours and explain
        traceback.print_exc()
        sys.exit(1)


def run_in_worker(namespace: dict) -> None:
    """Register our names in a spawned process, and define there what the program defines when it is imported."""
    register()
    code, about = _program(*json.loads(os.environ[PROGRAM]))
    namespace.update(about)
    exec(code, namespace)


def _read(argv: Sequence[str]) -> tuple[str, str, list[str]]:
    """Return the kind of program (``module`` or ``file``), its name or path, and its arguments."""
    if argv and argv[0] == "-m":
        if len(argv) == 1:
            raise ElpError("elp python -m needs the name of a module, as python does")
        return "module", argv[1], list(argv[2:])
    if not argv or argv[0].startswith("-"):
        given = f"but got {argv[0]}" if argv else "but got nothing"
        raise ElpError(f"elp python takes a FILE or -m MODULE and its arguments, {given}")
    path = Path(argv[0])
    if not path.is_file():
        raise ElpError(f"there is no program {path}; name a Python file, or a module with -m")
    return "file", str(path.resolve()), list(argv[1:])


def _program(kind: str, place: str) -> tuple[CodeType, dict[str, str]]:
    """Return a program's code, and the attributes that its module has in addition."""
    if kind == "file":
        return compile(Path(place).read_bytes(), place, "exec"), {"__file__": place}
    try:
        spec = importlib.util.find_spec(place)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{place}.__main__")
    except ModuleNotFoundError as error:
        if error.name is None or not place.startswith(error.name):  # an import inside the package
            raise
        spec = None
    code = None if spec is None else spec.loader.get_code(spec.name)
    if code is None:
        raise ElpError(f"there is no module {place} that can be run; check its name, and that its toolkit is installed")
    return code, {"__file__": spec.origin, "__package__": spec.parent}
