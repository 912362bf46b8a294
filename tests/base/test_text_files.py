"""A text file that was saved with a Windows editor reads like the original."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from downstream_heads.elp_asr.characters import Characters
from downstream_heads.elp_asr.table import read_length_table
from downstream_heads.elp_er.fold import read_meta
from downstream_heads.elp_ic.data import read_commands
from tests import toy_corpora
from tests.task_tools import packaged_config
from upstream_elp.adapters.config import load_config
from upstream_elp.audio.headers import Options
from upstream_elp.backbones.huggingface_files import read_json
from upstream_elp.base import texts
from upstream_elp.base.errors import ElpError
from upstream_elp.base.yaml_files import read_yaml
from upstream_elp.commands.check import check
from upstream_elp.commands.infer import _read_pairs
from upstream_elp.corpora import chapters, iemocap
from upstream_elp.corpora.trials import read_trials
from upstream_elp.launch.data import examine

TRIALS = "1 id10004/video0/00001.wav id10004/video0/00002.wav\n0 id10004/video0/00001.wav id10005/video0/00001.wav\n"
COMMANDS = ',path,speakerId,transcription,action,object,location\n0,a/b.wav,s,"Über, ja",on,lights,none\n'
LABELS = "% header\n\n[0.1 - 0.9]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\nC-E1:\tNeutral;\t()\n"
META = {"labels": {"neu": 0, "ang": 1}, "meta_data": [{"path": "a.wav", "label": "neu", "speaker": "x"}]}


def trials(path: Path) -> object:
    read = read_trials(path)
    return _unless(read.fault, path) or read.trials


def transcripts(path: Path) -> object:
    found, repeated, fault = chapters.read_transcripts(path)
    return _unless(fault, path) or (found, repeated)


def labels(path: Path) -> object:
    found, bad, fault = iemocap.read_labels(path)
    return _unless(fault, path) or (found, bad)


def commands(path: Path) -> object:
    target = path.parent / "data" / "train_data.csv"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(path.read_bytes())
    return read_commands(path.parent, "train")


def lengths(path: Path) -> object:
    return read_length_table(path)


def _unless(fault: str, path: Path) -> None:
    if fault:
        raise ElpError(f"{path} {fault}")


#: kind of file: what reads it, and a text
KINDS = {
    "trial list": (trials, TRIALS),
    "pairs": (lambda path: _read_pairs(path, None), "a b.wav\tc.wav\nd.wav\te.wav\n"),
    "length table": (lengths, "file_path,length,label\ndev-clean/1/2/1-2-0000.flac,8000,\n"),
    "transcripts": (transcripts, "19-198-0000 HELLO WORLD\n19-198-0001 GO ON\n"),
    "slots": (commands, COMMANDS),
    "labels": (labels, LABELS),
    "metadata": (read_meta, json.dumps(META, indent=1)),
    "dictionary": (lambda path: Characters(path).symbols, "| 1\nA 1\nB 1\n"),
    "recipe": (read_yaml, "runner:\n  total_steps: 5\nname: Zürich\n"),
    "adapters": (load_config, "base: le\n"),
    "model": (lambda path: read_json(str(path.parent), path.name, refresh=False), '{\n"model_type": "hubert"\n}'),
}
MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mark=st.booleans(), line_break=st.sampled_from(["\n", "\r\n"]), end=st.sampled_from(["", "\n", "\n\n"]))
def test_a_byte_order_mark_and_line_breaks_mean_nothing(kind, mark, line_break, end, tmp_path):
    read, text = KINDS[kind]
    path = tmp_path / "file.txt"
    path.write_text(text, encoding="utf-8")
    expected = read(path)
    content = (MARK if mark else "") + (text.rstrip("\n") + end).replace("\n", line_break)
    path.write_bytes(content.encode())
    assert read(path) == expected


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("kind", KINDS)
def test_utf_16_is_one_sentence(kind, coding, tmp_path):
    read, text = KINDS[kind]
    path = tmp_path / "file.txt"
    path.write_bytes(text.encode(coding))
    with pytest.raises(
        ElpError, match=r"(is UTF-(16|32) text|contains zero bytes.*); save the file as UTF-8"
    ) as caught:
        read(path)
    assert "file.txt" in str(caught.value) or path.parent.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"labels"}))
def test_bytes_that_are_not_utf_8_are_named(kind, tmp_path):
    read, text = KINDS[kind]
    path = tmp_path / "file.txt"
    first, rest = text.split("\n", 1) if "\n" in text else (text, "")
    path.write_bytes(f"{first}\n".encode() + "#é".encode("latin-1") + f"\n{rest}".encode())
    with pytest.raises(ElpError, match=r"line 2 is not UTF-8 text \(byte 0xe9\); save the file as UTF-8"):
        read(path)


def test_what_is_decoded():
    assert texts.decode(b"\xef\xbb\xbfa") == ("a", "") and texts.decode(b"") == ("", "")
    assert texts.lines("a\r\nb\rc\n\nd\u2028e") == ["a", "b", "c", "", "d\u2028e"]
    assert texts.lines("") == [] and texts.lines("a\n") == ["a"]
    text, fault = texts.decode(b"\xff\xfea\0")
    assert text == "a" and fault == "is UTF-16 text; save the file as UTF-8"


def test_remarks_of_evaluators_may_be_of_any_coding(tmp_path):
    """Only the lines in brackets are read."""
    path = tmp_path / "labels.txt"
    path.write_bytes(LABELS.replace("Neutral", "müde").encode("latin-1"))
    assert iemocap.read_labels(path) == ([("Ses01F_impro01_F000", "neu")], [], "")
    path.write_bytes(LABELS.replace("neu", "müd").encode("latin-1"))
    assert "line 3 is not UTF-8" in iemocap.read_labels(path)[2]


@pytest.mark.parametrize(
    "line",
    [
        "{}\tSEE THE SEA",
        "{}\tSEE  THE\tSEA",
        "{}  SEE THE SEA  ",
        "  {} SEE THE SEA\t",
        "{}\u00a0SEE THE SEA",
        "{} see the sea",
    ],
)
def test_any_blanks_part_a_transcript(line, tmp_path, monkeypatch):
    """The task trains on exactly the same labels, and `elp check` reports nothing."""
    monkeypatch.setenv("ELP_DATA", str(tmp_path))
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    root = toy_corpora.librispeech(tmp_path)
    table = root / "train-clean-100/100/7/100-7.trans.txt"
    assert "100-7-0001 SEE THE SEA\n" in table.read_text()
    before = chapters.scan_chapters(root, root / "train-clean-100").tables["train-clean-100/100/7"].texts
    text = table.read_text().replace("100-7-0001 SEE THE SEA\n", line.format("100-7-0001") + "\n\n   \n")
    table.write_text(text, encoding="utf-8")
    found = chapters.scan_chapters(root, root / "train-clean-100")
    after = found.tables["train-clean-100/100/7"].texts
    assert {name: words.upper() for name, words in after.items()} == before and found.problems == []
    config = packaged_config("elp_asr")
    assert examine("elp_asr", config, options=Options(progress=False)).survey.problems == []


@pytest.mark.parametrize("line", ["{}", "{} ", "{}\t"])
def test_an_empty_transcript_is_named_however_it_is_empty(line, tmp_path):
    root = toy_corpora.librispeech(tmp_path)
    table = root / "dev-clean/200/7/200-7.trans.txt"
    table.write_text(table.read_text().replace("200-7-0001 SEE THE SEA", line.format("200-7-0001")))
    (problem,) = chapters.scan_chapters(root, root / "dev-clean").problems
    assert problem.kind == "empty-transcript" and "200-7-0001.flac" in problem.text


def test_a_check_of_files_from_windows(tmp_path, monkeypatch):
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    data = toy_corpora.write_all(tmp_path / "data")
    for path in data.rglob("*"):
        if path.suffix in (".txt", ".csv"):
            path.write_bytes((MARK + path.read_text()).replace("\n", "\r\n").encode())
    for task in ("elp_asr", "elp_sv", "elp_er", "elp_ic"):
        result = CliRunner().invoke(check, ["-d", task, "--data", str(data), "--quick"])
        assert result.exit_code == 0, result.output
