"""The YAML of ``-g`` and the flags are read only once on the way to an adapter."""

from pathlib import Path

import pytest
import yaml

import upstream_elp
from tests import toy_corpora
from tests.toys import tiny_backbone
from upstream_elp.base import texts
from upstream_elp.host import flags
from upstream_elp.run import run

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_corpora.write_all(tmp_path_factory.mktemp("data"))


@pytest.fixture
def built(monkeypatch):
    """The upstreams of runs, which end as soon as their models are built."""
    upstream_elp.register()
    upstreams = []
    monkeypatch.setattr("s3prl.run_downstream.Runner.train", lambda self: upstreams.append(self.upstream.model))
    return upstreams


@pytest.fixture
def reads(monkeypatch):
    """Every text file that is read, in order."""
    paths, read = [], texts.read

    def noted(path):
        paths.append(Path(path))
        return read(path)

    monkeypatch.setattr(texts, "read", noted)
    return paths


@pytest.fixture
def parses(monkeypatch):
    """Every list of words that one of our parsers reads."""
    words, parse = [], flags.Parser.parse_known_args

    def noted(self, args=None, namespace=None):
        words.append(list(args))
        return parse(self, args, namespace)

    monkeypatch.setattr(flags.Parser, "parse_known_args", noted)
    return words


def start(folder, data, *words):
    own = ["--data", str(data), "--no-self-check"]
    theirs = ["-m", "train", "-u", "elp_local", "-k", str(tiny_backbone()), "-d", "elp_ic", "-p", str(folder), *words]
    theirs += ["--device", "cpu"]
    run([*own, *theirs])
    return theirs


@pytest.mark.parametrize("recipe", ["ic_quick", "ic_reference"])
def test_the_adapter_and_the_flags_are_read_once(recipe, data, tmp_path, built, reads, parses):
    """One recipe does not mention adapters; the other has learning rates per adapter and is written out for S3PRL."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({"base": "le", "description": "of my own"}))
    theirs = start(tmp_path / "exp", data, "-g", str(mine), "-c", recipe)
    assert built[0].config.description == "of my own"
    assert built[0].config.name == "mine"
    assert reads.count(mine) == 1
    assert [path.name for path in reads].count("le.yaml") == 1
    about_this_run = [words for words in parses if "elp_local" in words]
    assert [[*words][-len(theirs) :] for words in about_this_run] == [theirs, theirs]
    assert len(about_this_run[1]) == len(theirs), "the second parser sees only S3PRL's flags"


@pytest.mark.parametrize("named", [[], ["-g", "l_only"]])
def test_a_preset_is_read_once(named, data, tmp_path, built, reads):
    start(tmp_path / "exp", data, *named)
    name = named[-1] if named else "elp"
    assert built[0].config.name == name
    assert [path.stem for path in reads if path.parent.name == "adapters"].count(name) == 1


def test_another_adapter_by_override_is_the_one_that_is_built(data, tmp_path, built, reads):
    start(tmp_path / "exp", data, "-g", "le", "-o", "args.upstream_model_config=l_only")
    assert built[0].config.name == "l_only"
    assert [path.stem for path in reads if path.parent.name == "adapters"].count("l_only") == 1


def test_a_start_from_a_checkpoint_reads_no_adapter(data, tmp_path, reads, request):
    """The checkpoint contains the configuration, even if the file of ``-g`` is gone."""
    mine, folder = tmp_path / "mine.yaml", tmp_path / "exp"
    mine.write_text(yaml.safe_dump({"base": "le", "e_adapter": {"activation": "relu"}}))
    steps = "-o", ",,".join(f"config.runner.{key}=1" for key in ("total_steps", "save_step", "eval_step", "log_step"))
    start(folder, data, "-g", str(mine), *steps)
    built = request.getfixturevalue("built")
    mine.unlink()
    reads.clear()
    run(["-m", "train", "-e", str(folder), "--data", str(data), "--device", "cpu"])
    assert built[0].config.methods["e_adapter"].activation == "relu"
    assert not [path for path in reads if path.parent.name == "adapters" or path == mine]
