"""Corpora with strays: tasks read exactly the files that ``elp check`` accepts, and it reports what they refuse."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests import toy_corpora
from tests.corpus_accidents import deeds, do, fresh_copy, listed
from tests.corpus_tools import PREPARE, QUICK, ROOTS, expert, findings, items, survey, write_small
from upstream_elp import cli
from upstream_elp.base.errors import ElpError
from upstream_elp.base.problems import Problem, by_cause, cause_lines, common_cause, in_one_line
from upstream_elp.commands.check import check
from upstream_elp.corpora.trials import place_trials, read_trials

AUDIO = {"elp_asr": ".flac", "elp_er": ".wav", "elp_ic": ".wav", "elp_sv": ".wav"}


@pytest.mark.parametrize("task", ROOTS)
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(done=st.lists(deeds, min_size=1, max_size=3))
@example(done=[("deeper", 0, "a")])
@example(done=[("table", 2, 0, "notes.trans.txt")])
@example(done=[("copy", 0, 2, "", "notes", ".flac")])
@example(done=[("copy", 0, 0, "a/b", "x y", ".wav")])
def test_what_check_passes_the_task_reads(task, done, whole, tmp_path, monkeypatch):
    """They agree on what a run would start with, and `elp prepare` refuses what `elp check` refuses."""
    root = fresh_copy(whole, ROOTS[task], tmp_path, monkeypatch)
    for deed in done:
        do(root, deed)
    refused = ""
    try:
        found = survey(task)
    except ElpError as error:  # it no longer looks like the corpus
        with pytest.raises(ElpError):
            items(task, tmp_path / "exp")
        assert str(root) in str(error)
        return
    try:
        read = items(task, tmp_path / "exp")
    except ElpError as error:
        refused = str(error)
    assert not refused or found.blocking(), f"refused after the start: {refused}"
    if not found.blocking():
        for part in found.parts:
            if (task, part.name) != ("elp_sv", "dev"):  # whose trials take some of the utterances
                assert sorted(part.files) == read[part.name], part.name
        if task == "elp_sv":
            classes = next(part.classes for part in found.parts if part.name == "train")
            assert set(classes) == set(expert(task, tmp_path / "exp").corpus.speakers)
    written = PREPARE[task].prepare(root, tmp_path / "out", options=QUICK)
    if not written.problems:
        assert not found.problems, "tables are written of a corpus that the task's check refuses"


@pytest.mark.parametrize("task", ROOTS)
@pytest.mark.parametrize("upper", [".WAV", ".FLAC", ".Flac"])
def test_endings_in_upper_case_are_taken(task, upper, tmp_path, monkeypatch):
    """The tables of IC and the trials of SV still name the files in lower case."""
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    root = write_small(tmp_path / "data") / ROOTS[task]
    if upper.lower() != AUDIO[task]:
        upper = AUDIO[task].upper()
    before = items(task, tmp_path / "a")
    for path in listed(root, endings=(AUDIO[task],)):
        path.rename(path.with_suffix(upper))
    after = items(task, tmp_path / "b")
    assert {
        split: sorted(Path(file).with_suffix(AUDIO[task]).as_posix() for file in files)
        for split, files in after.items()
    } == before
    assert all(file.endswith(upper) for files in after.values() for file in files)
    assert survey(task).problems == []
    assert PREPARE[task].prepare(root, tmp_path / "out", options=QUICK).problems == []


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "data"))
    return write_small(tmp_path / "data")


def to_m4a(*paths: Path) -> None:
    for path in paths:
        path.with_suffix(".m4a").write_bytes(b"\0\0\0\x1cftypM4A ")
        path.unlink()


@pytest.mark.parametrize("task", ROOTS)
def test_another_format_is_to_be_converted(task, corpora, tmp_path):
    """All audio is m4a: one cause is reported, with the command; no advice to remove anything."""
    root = corpora / ROOTS[task]
    audio = listed(root, endings=(AUDIO[task],))
    to_m4a(*audio)
    result = CliRunner().invoke(check, ["-d", task, "--data", str(corpora), "--quick"])
    used = len(audio) - (5 if task == "elp_er" else 0)  # one utterance of each session has an unused label
    first = result.output.splitlines()[0]
    assert result.exit_code == 1 and first.startswith(f"{used} .m4a files cannot be read here")
    assert f"ffmpeg -i IN.m4a -ar 16000 -ac 1 OUT{AUDIO[task]}" in first
    assert "remove" not in result.output and "missing" not in result.output and len(result.output.splitlines()) < 30
    report = PREPARE[task].prepare(root, tmp_path / "out", options=QUICK)
    assert report.to_text().splitlines()[0] == first and report.tables == []


def test_one_speaker_of_another_format_stops_the_run(corpora, tmp_path):
    root = corpora / "VoxCeleb1"
    to_m4a(*listed(root / "dev/wav/id10001", endings=(".wav",)), *listed(root / "test/wav/id10004", endings=(".wav",)))
    found = findings("elp_sv")
    blocking = [problem for problem in found.survey.blocking() if problem.kind != "speakers"]  # too few are left
    assert [problem.kind for problem in blocking] == ["format"] * 8
    line = in_one_line(blocking, audio=found.audio, shown=10)
    assert line.startswith("8 .m4a files cannot be read here") and "such as dev/wav/id10001/video0/00001.m4a" in line
    for path in listed(root, endings=(".m4a",)):  # converted, and the originals kept
        toy_corpora.write_wav(path.with_suffix(".wav"), toy_corpora.tone(seconds=0.7))
    assert survey("elp_sv").problems == []


CAUSES = {
    "rate": (
        "elp_ic",
        "all 16 audio files have 44100 samples a second instead of 16000; convert them (ffmpeg",
    ),
    "transcripts": ("elp_asr", "all 13 audio files have no transcript"),
    "copies": ("elp_asr", "7 of 20 audio files repeat the utterance of another one"),
    "cut": ("elp_sv", "16 of 24 audio files cannot be read: the file has no bytes"),
    "gone": ("elp_ic", "8 files that data/train_data.csv lists are missing"),
    "silent": ("elp_asr", "7 utterances have a transcript, but their folders lack the .flac file"),
    "speakers": ("elp_sv", "3 folders in dev/wav contain no <video>/<number>.wav"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_common_cause_is_reported_first(name, corpora, tmp_path, monkeypatch, capsys):
    task, cause = CAUSES[name]
    root = corpora / ROOTS[task]
    audio = listed(root, endings=(AUDIO[task],))
    if name == "rate":
        for path in audio:
            toy_corpora.write_wav(path, toy_corpora.tone(rate=44100), 44100)
    elif name == "transcripts":
        for path in listed(root, endings=(".txt",)):
            path.write_text("")
    elif name == "copies":
        shutil.copytree(root / "train-clean-100", root / "train copy")
        for speaker in (root / "train copy").iterdir():
            shutil.move(speaker, root / "dev-clean")
    elif name == "cut":
        for path in listed(root / "dev", endings=(".wav",)):
            path.write_bytes(b"")
    elif name in ("gone", "silent"):
        for path in audio:
            if "train" in str(path):
                path.unlink()
    else:
        for number in range(3):
            (root / f"dev/wav/id2000{number}").mkdir()
    arguments = ["-d", task, "--data", str(corpora), "--quick", "--shown", "2"]
    result = CliRunner().invoke(check, arguments)
    lines = result.output.splitlines()
    assert result.exit_code == 1 and lines[0].startswith(cause) and "" in lines[1:3]
    assert "and 1 more; --json FILE writes the full list" in result.output or "  ... and " in result.output
    monkeypatch.setattr("sys.argv", ["elp", "prepare", COMMANDS[task], str(root), str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().out.startswith(cause)


COMMANDS = {"elp_asr": "librispeech", "elp_er": "iemocap", "elp_ic": "fluent-speech-commands", "elp_sv": "voxceleb1"}


def test_what_counts_as_a_common_cause():
    some = [Problem("rate", f"{number}.wav", f"{number}.wav has 8.", cause="audio files have 8") for number in range(3)]
    other = Problem("rate", "x.wav", "x.wav has 9.", cause="audio files have 9")
    separate = [Problem("label", "a", "a is odd."), Problem("label", "b", "b is odd.")]
    assert [len(group) for group in by_cause([*some, other, *separate])] == [3, 1, 1, 1]
    assert common_cause(some, audio=3) == "all 3 audio files have 8"
    assert common_cause(some, audio=4) == "3 of 4 audio files have 8"
    assert common_cause(some[:2], audio=4) == common_cause(separate, audio=4) == ""
    assert (
        cause_lines([other, *separate], audio=4) == [] and cause_lines(some, audio=9)[0] == "3 of 9 audio files have 8."
    )
    line = in_one_line([*some, other, *separate], audio=3, shown=3)
    assert line == "all 3 audio files have 8, such as 0.wav; x.wav has 9; a is odd; and 1 more"


def test_trial_names_follow_the_disk(corpora):
    root = corpora / "VoxCeleb1"
    path = root / "test/wav/id10004/video0/00001.wav"
    path.rename(path.with_suffix(".WAV"))
    read = place_trials(root, read_trials(root / "voxceleb1_test_v2.txt"))
    assert "id10004/video0/00001.WAV" in read.utterances and "id10004/video0/00001.wav" not in read.utterances
