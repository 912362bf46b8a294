"""``elp python``: another toolkit's program runs as under python, with our names, also in processes that it spawns."""

import json
import sys

import pytest

from tests.programs import call

ELP = [sys.executable, "-m", "upstream_elp.cli", "python"]
#: prints what a program can see of itself; a spawned process unpickles a class of the main module
BODY = """
import json, multiprocessing, sys

class Mine:
    value = 3

def known(mine):
    from s3prl.nn import S3PRLUpstream
    return [mine.value, "elp_custom" in S3PRLUpstream.available_names()]

def main():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spawned = pool.apply(known, (Mine(),))
    here = known(Mine())
    print(json.dumps([spawned, here, sys.argv, __name__, __file__, sys.path[0]]))

if __name__ == "__main__":
    main()
"""


def _printed(done):
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("command", [ELP, [sys.executable, "-m", "upstream_elp.python"]], ids=["elp", "module"])
def test_a_file_runs_as_the_main_module(command, tmp_path):
    path = tmp_path / "train.py"
    path.write_text(BODY)
    spawned, here, argv, name, file, first = _printed(call([*command, str(path), "-m", "--flag", "a b"]))
    assert spawned == here == [3, True]
    assert (argv, name, file) == ([str(path), "-m", "--flag", "a b"], "__main__", str(path))
    assert first == str(tmp_path)


def test_a_module_runs_as_the_main_module(tmp_path, monkeypatch):
    package = tmp_path / "toolkit"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "other.py").write_text("VALUE = 3\n")
    (package / "train.py").write_text(BODY.replace("value = 3", "from .other import VALUE as value"))
    (package / "__main__.py").write_text("from .train import main\nif __name__ == '__main__':\n    main()\n")
    monkeypatch.chdir(tmp_path)
    spawned, here, argv, name, file, first = _printed(call([*ELP, "-m", "toolkit.train", "x"]))
    assert spawned == here == [3, True]
    assert (argv, name, file) == ([str(package / "train.py"), "x"], "__main__", str(package / "train.py"))
    assert first == str(tmp_path)
    assert _printed(call([*ELP, "-m", "toolkit"]))[:2] == [[3, True], [3, True]]


def test_the_programs_exit_status_is_ours(tmp_path):
    (tmp_path / "stop.py").write_text("import sys\nsys.exit(7)\n")
    assert call([*ELP, str(tmp_path / "stop.py")]).returncode == 7
    (tmp_path / "fail.py").write_text("import no_such_package\n")
    failed = call([*ELP, str(tmp_path / "fail.py")])
    assert failed.returncode == 1 and "ModuleNotFoundError" in failed.stderr


WRONG = {
    "nothing": ([], "takes a FILE or -m MODULE and its arguments, but got nothing"),
    "an option": (["-u", "x.py"], "but got -u"),
    "no file": (["no.py"], "there is no program no.py"),
    "no module name": (["-m"], "needs the name of a module"),
    "no module": (["-m", "no_such_toolkit.bin.train"], "there is no module no_such_toolkit.bin.train that can be run"),
    "a package": (["-m", "xml"], "there is no module xml that can be run"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_program_is_one_sentence(mistake, monkeypatch, capsys, tmp_path):
    from tests.programs import elp

    argv, message = WRONG[mistake]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert elp("python", *argv, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_help_is_printed(monkeypatch, capsys):
    from tests.programs import elp

    assert elp("python", "--help", monkeypatch=monkeypatch) == 0
    assert "Usage: elp python" in capsys.readouterr().out
