"""The installed packages: torchaudio without its extension, packages that cannot be imported, and the lock."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import scipy.signal
import torch
from packaging.markers import default_environment
from packaging.requirements import Requirement

import upstream_elp
from upstream_elp.base import installed
from upstream_elp.host import extension

ROOT = Path(__file__).parents[2]
FAILURES = (
    "OSError('libc10_cuda.so: cannot open shared object file')",
    "ImportError('undefined symbol: torch_exception_get_what_without_backtrace')",
    "RuntimeError('PyTorch has CUDA version 13.0 whereas TorchAudio has CUDA version 12.8')",
    "AttributeError('_OpNamespace has no attribute is_align_available')",
)


def python(code: str, *folders: Path) -> subprocess.CompletedProcess:
    """Run code in a new process that finds packages in ``folders`` before the installed ones."""
    path = os.pathsep.join([*map(str, folders), str(ROOT)])
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})


def toy_torchaudio(folder: Path, *, extension: str, functional: str = "") -> Path:
    """Make a torchaudio with the given code as its extension and its Python part."""
    (folder / "torchaudio" / "_extension").mkdir(parents=True)
    (folder / "torchaudio" / "__init__.py").write_text("from . import _extension, functional\n")
    (folder / "torchaudio" / "_extension" / "__init__.py").write_text(extension)
    (folder / "torchaudio" / "functional.py").write_text(functional)
    return folder


TRY = "from upstream_elp.host import extension\n"
REPLACE = TRY + "print(extension.does_not_load(), extension.reason()); extension.stand_in()\n"


@pytest.mark.parametrize("failure", FAILURES)
def test_an_extension_that_fails_is_replaced(tmp_path, failure):
    uses = "from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE as there, fail_if_no_align as needs\n"
    folder = toy_torchaudio(tmp_path, extension=f"raise {failure}\n", functional=uses + "align = needs(len)\n")
    done = python(REPLACE + "import torchaudio\nprint(torchaudio.functional.there)\n", folder)
    kind, text = failure.rstrip(")'").split("('")
    assert done.stdout.splitlines() == [f"True {kind}: {text}", "False"], done.stderr
    done = python(REPLACE + "import torchaudio\ntorchaudio.functional.align([])\n", folder)
    assert "torchaudio's len needs its compiled extension, which does not load here" in done.stderr


def test_an_extension_that_loads_is_left_as_it_is(tmp_path):
    folder = toy_torchaudio(tmp_path, extension="mine = True\n")
    done = python(TRY + "import torchaudio\nprint(extension.does_not_load(), torchaudio._extension.mine)\n", folder)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_a_torchaudio_that_is_broken_elsewhere_is_one_sentence(tmp_path):
    folder = toy_torchaudio(tmp_path, extension="raise OSError('no library')\n", functional="import not_there\n")
    last = python(REPLACE, folder).stderr.splitlines()[-1]
    assert last.startswith("upstream_elp.base.errors.ElpError: torchaudio ")
    assert "OSError: no library, and without its compiled extension ModuleNotFoundError: No module" in last


def test_an_import_that_came_too_early_is_one_sentence(tmp_path):
    """Import it in a module that torchaudio's own import runs, or with a stub instead."""
    code = "import sys, types\nsys.modules['torchaudio'] = types.ModuleType('torchaudio')\n"
    last = python(code + REPLACE).stderr.splitlines()[-1]
    assert "torchaudio was imported before upstream_elp.register() and is incomplete; call" in last


def test_registering_after_an_import_that_failed(tmp_path):
    code = "try:\n    import torchaudio\nexcept Exception as error:\n    print(error)\n"
    code += "import upstream_elp\nupstream_elp.register()\nimport torchaudio, s3prl.hub\nprint(torchaudio.functional)\n"
    done = python(code)
    assert "<module 'torchaudio.functional'" in done.stdout, done.stderr


def test_what_s3prl_needs_of_torchaudio_works():
    upstream_elp.register()
    import torchaudio

    wav = torch.linspace(-1, 1, 1600).sin()[None]
    a, b = torch.tensor([1.0, -0.5]), torch.tensor([0.25, 0.25])
    filtered = torchaudio.functional.lfilter(wav, a, b, clamp=False)
    assert torch.allclose(filtered, torch.from_numpy(scipy.signal.lfilter(b, a, wav)).float(), atol=1e-6)
    assert torchaudio.compliance.kaldi.fbank(wav).shape == (8, 23)
    assert torchaudio.transforms.MFCC()(wav).isfinite().all()
    assert torchaudio.transforms.MelSpectrogram()(wav).shape == (1, 128, 9)


def test_doctor_says_what_torchaudios_import_ended_with(monkeypatch):
    from upstream_elp.host import compat

    monkeypatch.setattr(extension, "_found", ["OSError: no library"])
    found = {row["name"]: row["found"] for row in compat.report() if row["found"]}
    assert found == {"torchaudio's compiled extension": "OSError: no library"}


COMMANDS = (
    ["doctor", "--check"],
    ["quickstart", "--out", "OUT"],
    ["run", "-m", "train", "-u", "elp_local", "-k", "x", "-d", "elp_er", "-p", "OUT"],
    ["merge", "x", "OUT"],
)


@pytest.mark.parametrize("package", ["torch", "torchaudio", "s3prl"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_packages_that_do_not_import_are_reported_once(tmp_path, command, package):
    """This holds whatever is broken and wherever it is imported first; nothing is written before."""
    (tmp_path / f"{package}.py").write_text("raise OSError('libsomething.so: cannot open shared object file')\n")
    out = tmp_path / "out"
    arguments = [str(out) if argument == "OUT" else argument for argument in command]
    if arguments[0] == "merge":
        (tmp_path / "x").mkdir()
        arguments[1] = str(tmp_path / "x")
    done = python(
        f"import sys; sys.argv = {['elp', *arguments]!r}; from upstream_elp.cli import main; main()", tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def pinned() -> dict[str, list[Requirement]]:
    """Return the lines of the lock by package; a package may have several, for different Pythons."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "recipes" / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            found.setdefault(Requirement(line).name, []).append(Requirement(line))
    return found


@pytest.mark.parametrize("minor", range(10, 15))
def test_the_lock_has_one_version_of_everything_for_every_python(minor):
    """Update the lock with recipes/lock.sh when this fails."""
    text = (ROOT / "pyproject.toml").read_text().split("[project.scripts]")[0]
    wanted = [Requirement(line) for line in re.findall(r'"([a-zA-Z][\w.-]*[<>=]=[^"]+)"', text)]
    assert {"torch", "s3prl", "pytest", "hatchling"} < {one.name for one in wanted}
    python = {**default_environment(), "python_version": f"3.{minor}", "python_full_version": f"3.{minor}.0"}
    lock = pinned()
    for one in wanted:
        lines = lock[re.sub("[-_.]+", "-", one.name).lower()]
        (line,) = [line for line in lines if line.marker is None or line.marker.evaluate(python)]
        (only,) = line.specifier
        assert only.operator == "==", line
        assert only.version in one.specifier, f"{line} is outside {one}"


def test_versions_in_words_name_what_is_missing(monkeypatch):
    assert f"torch {version('torch')}" in installed.in_words()
    monkeypatch.setattr(installed, "PACKAGES", ("torch", "not-there"))
    assert installed.in_words().endswith("not-there missing")


@pytest.mark.parametrize(
    ("free", "code", "message"),
    [
        (1, 1, "error: .* has 1 GB of free disk space, but the installation needs 3 GB"),
        (5, 0, "warning: .*12 GB"),
        (50, 0, ""),
    ],
)
def test_the_installation_looks_at_the_free_disk_first(tmp_path, free, code, message):
    fake = tmp_path / "df"
    fake.write_text(f"#!/bin/sh\necho header\necho disk 0 0 {free * 1024 * 1024 + 1} 0% /\n")
    fake.chmod(0o755)
    command = ["bash", "-c", f"source {ROOT}/recipes/setup.sh; check_disk"]
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "VENV": str(tmp_path / "new" / ".venv")}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == code
    assert re.match(f"^{message}", done.stderr)
    assert bool(done.stderr) == bool(message)
