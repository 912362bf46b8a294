"""Every block of code in README and docs runs, in order, in a folder with what a reader would have.

A block that needs the network, a real corpus, SLURM or GPUs says so in its page (see :mod:`tests.docs.blocks`). It must
still be in a known language, compile, and call commands and flags that exist.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests import toy_corpora
from tests.docs.blocks import PROGRAMS, REASONS, RUNNABLE, SHOWN, Block, blocks_of
from tests.programs import call
from upstream_elp.cli import group

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
PAGES = {str(page.relative_to(ROOT)): page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
BLOCKS = {name: blocks_of(page, ROOT) for name, page in PAGES.items()}
ALL = [block for blocks in BLOCKS.values() for block in blocks]
PROGRAM_BLOCKS = [block for block in ALL if block.language in PROGRAMS and block.file is None]
#: pages whose blocks take more than a few seconds; `-m slow` runs them
SLOW = {
    "docs/caching.md", "docs/own-data.md", "docs/submissions.md", "docs/sweeps.md", "docs/training.md",
    "docs/tutorial.md", "docs/using.md",
}  # fmt: skip
#: pages that make what they use
SELF_SUFFICIENT = {"README.md", "docs/tutorial.md"}
RUN_PAGES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name, blocks in BLOCKS.items()
    if any(block.runs for block in blocks)
]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The folder that a reader works in: here with the repository's scripts only."""
    for name in ("recipes", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _furnish(desk: Path, data: Path) -> None:
    """Add what a reader of the later pages has: corpora, a backbone, trained adapters and a few recordings."""
    shutil.copytree(data, desk / "DATA")
    shutil.copy(GOLDEN / "backbone.pt", desk / "wavlm_base_plus.pt")
    for task in ("asr", "sv", "er", "ic"):
        shutil.copytree(GOLDEN / "folders" / f"elp_{task}", desk / "adapters" / task)
    for number, name in enumerate("abcd"):
        toy_corpora.write_wav(desk / f"{name}.wav", toy_corpora.tone(seconds=1.5, pitch=150 + 50 * number))


@pytest.mark.parametrize("page", RUN_PAGES)
def test_the_blocks_of_a_page_run_in_order(page, desk, data):
    if page not in SELF_SUFFICIENT:
        _furnish(desk, data)
    names: dict = {"__name__": "__main__"}
    for block in BLOCKS[page]:
        if block.file is not None:
            (desk / block.file).write_text(block.text, encoding="utf-8")
        elif block.runs:
            _run(block, desk, names)


def _run(block: Block, desk: Path, names: dict) -> None:
    if block.language == "bash":
        (desk / "block.sh").write_text("set -euo pipefail\n" + block.text, encoding="utf-8")
        done = call(["bash", "block.sh"], seconds=600)
        assert done.returncode == 0, f"{block.where}\n{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-5000:]}"
    else:  # line numbers in an error are those of the page
        with torch.random.fork_rng():
            exec(compile("\n" * block.line + block.text, block.page, "exec"), names)


def test_every_block_is_run_or_says_why_not(record_property):
    """No block is overlooked: each has a language that is known here, and without a reason it is run."""
    unknown = [f"{block.where}: {block.language!r}" for block in ALL if block.language not in RUNNABLE | SHOWN]
    assert not unknown, f"blocks in no language of {sorted(RUNNABLE | SHOWN)}; blocks that are indented have none"
    run = [block for block in PROGRAM_BLOCKS if block.runs]
    pages = {param if isinstance(param, str) else param.values[0] for param in RUN_PAGES}
    assert {block.page for block in run} == pages
    assert [block.where for block in PROGRAM_BLOCKS if block.reason is None] == [block.where for block in run]
    assert len(run) > 20
    slow = sum(block.page in SLOW for block in run)
    skipped = len(PROGRAM_BLOCKS) - len(run)
    record_property("docs", f"{len(run) - slow} blocks run by default, {slow} slow, {skipped} with a reason not to run")


@pytest.mark.parametrize("block", [block for block in ALL if block.reason], ids=lambda block: block.where)
def test_a_reason_not_to_run_is_a_reviewed_one(block):
    if block.reason not in REASONS | {"the tutorial runs it"}:
        path, runs = block.reason.split(" ", 1)
        assert runs == "runs it", block.reason
        assert (ROOT / path).is_file(), block.reason


@pytest.mark.parametrize("block", [block for block in PROGRAM_BLOCKS if not block.runs], ids=lambda block: block.where)
def test_a_block_that_is_not_run_is_correct_as_far_as_can_be_seen(block, tmp_path):
    if block.language == "python":
        ast.parse(block.text)
        return
    (tmp_path / "block.sh").write_text(block.text)
    done = call(["bash", "-n", str(tmp_path / "block.sh")])
    assert done.returncode == 0, done.stderr
    for words in _calls(block.text):
        _check_flags(words)


def _calls(script: str) -> list[list[str]]:
    """The words of every call of ``elp`` and of ``python -m upstream_elp.run`` in a script."""
    lines = script.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    starts = {"elp": 1, "upstream_elp.run": 0}
    found = []
    for line in words:
        for start, skip in starts.items():
            if start in line:
                rest = line[line.index(start) + skip :]
                found.append(rest if start == "elp" else ["run", *rest[1:]])
    return found


def _check_flags(words: list[str]) -> None:
    name, *rest = words
    assert name in group.list_commands(None), name
    if name == "python":  # the flags are those of another program
        return
    given = {word for word in rest if word.startswith("-") and not word.lstrip("-")[:1].isdigit()}
    if name == "run":
        known = _flags_of_run()
    else:
        command = group.get_command(None, name)
        if rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest[0]]
        known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    assert given <= known | {"--help"}, f"{name} has no {sorted(given - known)}"


@functools.cache
def _flags_of_run() -> set[str]:
    text = call([sys.executable, "-m", "upstream_elp.run", "--help"]).stdout
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", text))


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "yaml"], ids=lambda block: block.where)
def test_yaml_is_yaml(block):
    assert list(yaml.safe_load_all(block.text))
