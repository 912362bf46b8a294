"""``elp prepare``, ``elp check`` and a task's data set report the same problems of a corpus in the same words."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.corpus_accidents import deeds, do, fresh_copy, listed, place
from tests.corpus_tools import PREPARE, QUICK, ROOTS, items, survey
from upstream_elp.base.errors import ElpError
from upstream_elp.corpora import registry
from upstream_elp.corpora.description import Corpus

ELSEWHERE = {"classes", "ctc", "head", "config", "overlap"}
"""Kinds of problems with a fold, a head or a config, none of which ``elp prepare`` knows."""
EDITS = ("drop", "twice", "shorten", "garble", "coding", "empty")
edits = st.tuples(st.sampled_from(EDITS), place, place)
shares = st.tuples(st.just("share"), place, place)


def edit(root: Path, kind: str, file: int, line: int) -> None:
    """Damage a line of a table, or a table."""
    paths = listed(root, endings=(".txt", ".csv"))
    if not paths:
        return
    path = paths[file % len(paths)]
    lines = path.read_bytes().splitlines(keepends=True)
    number = line % len(lines) if lines else 0
    if kind == "empty":
        lines = []
    elif kind == "coding":
        lines.append(b"[\xe9\n")
    elif lines and kind == "drop":
        del lines[number]
    elif lines and kind == "twice":
        lines.append(lines[number])
    elif lines and kind == "shorten":
        words = lines[number].replace(b",", b" ").replace(b"\t", b" ").split()
        lines[number] = lines[number].replace(words[-1], b"") if words else b""
    elif lines:
        lines[number] = lines[number].rstrip() + b" 9%\n"
    path.write_bytes(b"".join(lines))


def share(root: Path, file: int, folder: int) -> None:
    """Copy an utterance from one part of the corpus to the same place in another part."""
    audio = listed(root, endings=(".wav", ".flac"))
    parts = sorted(path.name for path in root.iterdir() if path.is_dir())
    if audio:
        source = audio[file % len(audio)]
        target = root / parts[folder % len(parts)] / Path(*source.relative_to(root).parts[1:])
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def sentences(problems) -> set[str]:
    """Return the problems with tables and folders; the number of held-out speakers concerns only the task."""
    return {one.text for one in problems if one.kind not in ELSEWHERE and "speakers from 2 up" not in one.text}


@pytest.mark.parametrize("task", ROOTS)
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(done=st.lists(st.one_of(edits, edits, shares, deeds), min_size=1, max_size=3))
@example(done=[("delete", 0)])
@example(done=[("share", 0, 0), ("share", 0, 1)])
@example(done=[("drop", 0, 1)])
@example(done=[("twice", 0, 1)])
@example(done=[("shorten", 0, 1)])
@example(done=[("coding", 0, 0)])
@example(done=[("empty", 1, 0)])
def test_prepare_check_and_the_data_set_agree(task, done, whole, tmp_path, monkeypatch):
    root = fresh_copy(whole, ROOTS[task], tmp_path, monkeypatch)
    for deed in done:
        if deed[0] in EDITS:
            edit(root, *deed)
        elif deed[0] == "share":
            share(root, *deed[1:])
        else:
            do(root, deed)
    report = PREPARE[task].prepare(root, tmp_path / "out", options=QUICK)
    try:
        found = survey(task)
    except ElpError:  # it no longer looks like the corpus
        assert report.problems, "tables are written of what is not the corpus"
        return
    found_texts = sentences(found.problems)
    held_out = {text for text in found_texts if "held_out" in text or "at least 2 are needed" in text}
    assert found_texts - held_out == sentences(report.problems)
    refused = ""
    try:
        items(task, tmp_path / "exp")
    except ElpError as error:
        refused = str(error)
    blocking = [one for one in found.blocking() if one.kind not in {"ctc", "head", "overlap"}]
    across = {"duplicate", "speakers"}  # parts can only be compared where more than one is read
    if refused:
        assert any(one.text.rstrip(".") in refused or (one.cause and one.cause in refused) for one in blocking)
    else:
        assert {one.kind for one in blocking} <= across


def test_every_corpus_is_one_module():
    modules = registry.modules()
    prepared = ["LibriSpeech", "Libri-light", "VoxCeleb1", "IEMOCAP", "fluent_speech_commands_dataset"]
    assert list(modules) == [*prepared, "Speech Commands"]
    for name, module in modules.items():
        assert registry.corpus(name) == module.CORPUS and module.CORPUS.signs
        assert callable(getattr(module, "prepare", None)) == (module.CORPUS.command is not None) == (name in prepared)


def test_a_new_corpus_is_one_module(tmp_path, monkeypatch):
    """It is found by its file, and has a command of ``elp prepare`` if it describes one."""
    (tmp_path / "timit.py").write_text(
        "from upstream_elp.corpora.description import Corpus\n"
        "CORPUS = Corpus(name='TIMIT', folder='TIMIT', source='https://x', layout='y', signs=('TRAIN',),\n"
        "                holds=('TRAIN',))\n"
    )
    monkeypatch.setattr(registry.corpora, "__path__", [*registry.corpora.__path__, str(tmp_path)])
    registry.modules.cache_clear()
    try:
        assert list(registry.modules())[-1] == "TIMIT" and isinstance(registry.corpus("TIMIT"), Corpus)
        (tmp_path / "TIMIT" / "TRAIN").mkdir(parents=True)
        monkeypatch.setenv("ELP_DATA", str(tmp_path))
        assert registry.corpus_root({}, "TIMIT") == tmp_path / "TIMIT"
    finally:
        registry.modules.cache_clear()
