"""``elp check`` and the check of the data at the start of ``elp run`` report every planted fault in one list."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from downstream_heads import registry
from tests import toy_corpora
from tests.check_tools import (
    ASR,
    ASR_TEXT,
    ER,
    ER_LABELS,
    IC,
    IC_DEV,
    IC_ROOT,
    QUICK,
    SV,
    SV_TEST,
    TRIALS,
    flags,
    look,
)
from tests.task_tools import PACKAGE, packaged_config
from upstream_elp.audio import headers
from upstream_elp.base.errors import ElpError
from upstream_elp.commands.check import check
from upstream_elp.run import run

TASKS = registry.names()


@pytest.fixture(autouse=True)
def data(own_data, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(own_data))
    return own_data


def audio(samples: np.ndarray, rate: int = 16000):
    return lambda path: toy_corpora.write_wav(path, samples, rate)


def text(old: str, new: str):
    def change(path: Path) -> None:
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return change


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def latin(path: Path) -> None:
    path.write_bytes(path.read_text().replace("HELLO", "H\xc9LLO").encode("latin-1"))


def twice(path: Path) -> None:
    """The first utterance's line appears twice."""
    line = next(line for line in path.read_text().splitlines() if "0000 " in line or "-000.wav" in line)
    path.write_text(f"{path.read_text()}{line}\n")


def copied(path: Path) -> None:
    """A training speaker's folder is in the test part too."""
    target = path.parents[4] / "test" / Path(*path.parts[-4:])
    toy_corpora.write_wav(target, toy_corpora.tone(seconds=2.5))


SECOND = toy_corpora.tone(seconds=1.0)
NOT_FINITE = np.full(8000, np.nan, dtype=np.float32)


def float_nan(path: Path) -> None:
    toy_corpora.soundfile.write(path, NOT_FINITE, 16000, subtype="FLOAT")


#: task, file, what is done to it, kind of the problem, part of its sentence
FAULTS = {
    "asr-missing": ("elp_asr", ASR, Path.unlink, "missing-audio", "has a transcript of 100-7-0000, but"),
    "asr-cut": ("elp_asr", ASR, cut, "unreadable", "cannot be read"),
    "asr-rate": ("elp_asr", ASR, audio(SECOND, 8000), "rate", "8000 samples a second instead of 16000"),
    "asr-stereo": ("elp_asr", ASR, audio(np.zeros((9000, 2))), "channels", "2 channels instead of one"),
    "asr-short": ("elp_asr", ASR, audio(SECOND[:399]), "short", "399 samples, fewer than the 400"),
    "asr-ctc": ("elp_asr", ASR, audio(SECOND[:3000]), "ctc", "that CTC needs for its 13 labels"),
    "asr-no-transcript": ("elp_asr", ASR_TEXT, text("100-7-0000 HELLO WORLD\n", ""), "missing-transcript", "has no tr"),
    "asr-empty-transcript": ("elp_asr", ASR_TEXT, text(" HELLO WORLD", ""), "empty-transcript", "an empty transcript"),
    "asr-character": ("elp_asr", ASR_TEXT, text("HELLO", "HELL0"), "characters", "'0'"),
    "asr-encoding": ("elp_asr", ASR_TEXT, latin, "encoding", "line 1 is not UTF-8 text (byte 0xc9)"),
    "asr-duplicate": ("elp_asr", ASR_TEXT, twice, "duplicate", "more than one line for 100-7-0000"),
    "sv-unreadable": ("elp_sv", SV, lambda path: path.write_text("x" * 99), "unreadable", "cannot be read"),
    "sv-empty-file": ("elp_sv", SV, lambda path: path.write_bytes(b""), "unreadable", "no bytes"),
    "sv-cut": ("elp_sv", SV, cut, "unreadable", "it is cut off"),
    "sv-nan": ("elp_sv", SV, float_nan, "unreadable", "not finite"),
    "sv-trial-audio": ("elp_sv", SV_TEST, Path.unlink, "missing-audio", "of voxceleb1_test_v2.txt"),
    "sv-trial-label": ("elp_sv", TRIALS, text("1 id", "0 id"), "trial-label", "label contradicts the speakers"),
    "sv-trial-line": ("elp_sv", TRIALS, text("1 id", "same id"), "trial-line", "line 1 is not a trial"),
    "sv-speakers": ("elp_sv", SV, copied, "speakers", "share 1 speaker (such as id10000)"),
    "sv-frames": ("elp_sv", SV_TEST, audio(SECOND[:5199]), "head", "fewer than the 5200 that backbone and head need"),
    "sv-silent": ("elp_sv", SV_TEST, audio(np.zeros(30000)), "head", "0 samples after trimming silence"),
    "er-missing": ("elp_er", ER, Path.unlink, "missing-audio", "has no Ses01F_impro01_F001.wav"),
    "er-empty": ("elp_er", ER, audio(SECOND[:0]), "empty", "has 0 samples"),
    "er-stereo": ("elp_er", ER, audio(np.zeros((9000, 2))), "channels", "2 channels"),
    "er-label": ("elp_er", ER_LABELS, text("\tfru\t", "\tbored\t"), "label", "unknown label 'bored'"),
    "er-no-label": (
        "elp_er",
        ER_LABELS,
        text("Ses01F_impro01_F001", "Ses01F_impro01_F099"),
        "missing-label",
        "F001.wav has no label",
    ),
    "ic-missing": ("elp_ic", IC, Path.unlink, "missing-audio", "is missing, but data/train_data.csv lists it"),
    "ic-cut": ("elp_ic", IC, cut, "unreadable", "it is cut off"),
    "ic-duplicate": ("elp_ic", IC_DEV, twice, "duplicate", "appears in data/valid_data.csv and again"),
    "ic-class": ("elp_ic", IC_DEV, text("music", "radio"), "slot-value", "object 'radio'"),
    "ic-speaker": ("elp_ic", IC_DEV, text("validspk,", "trainspk,"), "speakers", "shares 1 speaker with"),
    "ic-no-label": ("elp_ic", IC_DEV, text("lights,kitchen", "lights,"), "missing-value", "has no location"),
    "ic-encoding": ("elp_ic", IC_DEV, lambda path: path.write_bytes(path.read_bytes() + b"\xe9"), "encoding", "UTF-8"),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_whole_corpus_has_no_problem(task):
    assert look(task).problems == []


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_reported(name, data):
    task, path, damage, kind, sentence = FAULTS[name]
    damage(data / path)
    problems = look(task).problems
    found = [problem for problem in problems if problem.kind == kind]
    assert found and sentence in found[0].text, problems
    parts = [Path(path).stem.removesuffix(".trans"), *Path(path).parts[2:]]
    assert any(part in found[0].text for part in parts), "the sentence names the file"
    assert found[0].text.endswith(".")


def test_all_faults_of_a_corpus_stand_in_one_list(data, tmp_path):
    """Faults of different files are all found in one run, printed in groups, and written."""
    names = ["ic-missing", "ic-class", "ic-no-label"]
    for name in names:
        FAULTS[name][2](data / FAULTS[name][1])
    cut(data / IC_ROOT / "wavs" / "speakers" / "testspk" / "test-000.wav")
    report = tmp_path / "report.json"
    result = CliRunner().invoke(check, ["-d", "elp_ic", "--data", str(data), "--json", str(report), "--jobs", "1"])
    assert result.exit_code == 1, result.output
    written = json.loads(report.read_text())
    kinds = Counter(problem["kind"] for problem in written["problems"])
    assert kinds == {"missing-audio": 1, "slot-value": 1, "missing-value": 1, "unreadable": 1}
    assert all(problem["text"] in result.output for problem in written["problems"]) and "4 problems" in result.output
    assert {row["split"]: row["utterances"] for row in written["splits"]} == {"train": 8, "dev": 3, "test": 4}
    assert not written["ok"]


def test_counts_and_exit_status_of_a_whole_corpus(data):
    result = CliRunner().invoke(check, ["-d", "elp_er", "--data", str(data), "-v", "fold2", "--quick"])
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines() if "." in line}
    assert [rows[split][0] for split in ("train", "dev", "test")] == ["19", "5", "6"]  # toy: 24 + 6, a fifth is dev
    assert rows["test"][2:] == ["1", "4"] and "no problems" in result.output


def test_a_config_is_read_as_elp_run_reads_it(data):
    flags = ["-d", "elp_asr", "--data", str(data), "-o"]
    result = CliRunner().invoke(check, [*flags, "config.downstream_expert.datarc.bach_size=3"])
    assert isinstance(result.exception, ElpError) and "did you mean batch_size" in str(result.exception)
    result = CliRunner().invoke(check, [*flags, "config.downstream_expert.datarc.train=[train-clean-360]"])
    assert result.exit_code == 1 and "train-clean-360 is missing, but the split train needs it" in result.output
    assert "\n1 problem; --json FILE writes the full list\n" in result.output
    result = CliRunner().invoke(
        check, ["-d", "elp_ic", "--data", str(data), "--json", str(data / "no" / "report.json")]
    )
    assert "does not exist; create it first" in str(result.exception)
    quick = str(PACKAGE.parent / "recipes" / "tasks" / "asr_quick.yaml")
    assert CliRunner().invoke(check, ["-d", "elp_asr", "--data", str(data), "-c", quick]).exit_code == 0
    with pytest.raises(ElpError, match=r"-d elp_asrr cannot be checked; choose one of elp_asr, "):
        CliRunner().invoke(check, ["-d", "elp_asrr"], catch_exceptions=False)
    with pytest.raises(ElpError, match="has no split 'devel'; choose one of: train"):
        CliRunner().invoke(check, ["-d", "elp_ic", "--data", str(data), "-t", "devel"], catch_exceptions=False)


def test_rules_of_the_config_are_obeyed(data):
    """What the task converts is not a problem."""
    audio(SECOND, 8000)(data / ASR)
    audio(np.zeros((9000, 2)))(data / ASR.replace("0000", "0001"))
    assert {problem.kind for problem in look("elp_asr").problems} == {"rate", "channels"}
    assert look("elp_asr", datarc={"resample": True, "channels": "mean"}).problems == []
    audio(np.zeros((40000, 2)))(data / SV)
    assert look("elp_sv").problems == []  # SUPERB's effects mix
    audio(SECOND[:5199])(data / SV_TEST)
    assert look("elp_sv", modelrc={"head": "linear"}).problems == []  # mean pooling takes one frame
    (data / ER).unlink()
    assert look("elp_er", datarc={"missing": "skip"}).problems == []


@pytest.mark.parametrize(("rate", "factor"), [([1, 1], 1), ([2, 2], 4)])
def test_ctc_counts_the_frames_that_reach_the_head(data, rate, factor):
    """HELLO WORLD is 13 labels with word end and </s>, and one more frame for LL: 14 frames of 320 samples."""
    samples = 400 + (14 * factor - 1) * 320
    for path in (data / "LibriSpeech").rglob("*.flac"):
        audio(toy_corpora.tone(seconds=4.0))(path)
    rnn = {"RNNs": {**packaged_config("elp_asr")["downstream_expert"]["modelrc"]["RNNs"], "sample_rate": rate}}
    for length, count in ((samples, 0), (samples - 1, 1)):
        audio(toy_corpora.tone(seconds=4.0)[:length])(data / ASR)
        assert len(look("elp_asr", modelrc=rnn).problems) == count


def test_a_ten_minute_file_is_a_remark(data):
    toy_corpora.write_wav(data / IC, np.zeros(600 * 16000, dtype=np.float32))
    found = look("elp_ic", options=QUICK)
    assert found.problems == [] and "1 file is longer than 60 s" in found.remarks[0]


def test_a_second_look_reads_only_what_changed(data, monkeypatch):
    read = []
    honest = headers.read_header

    def counting(path, *, decode=False):
        read.append(path.name)
        return honest(path, decode=decode)

    monkeypatch.setattr(headers, "read_header", counting)
    cut(data / IC)
    first = look("elp_ic")
    assert len(read) == 16
    again = look("elp_ic", options=QUICK)  # what a decoding look found stays known to a start of elp run
    assert len(read) == 16 and again.problems == first.problems != []
    audio(SECOND)(data / IC)
    assert look("elp_ic").problems == [] and read[16:] == [Path(IC).name]


def test_a_run_tells_all_problems_before_it_loads_anything(data, tmp_path, monkeypatch):
    monkeypatch.setattr("upstream_elp.launch.start.load_main", lambda script: pytest.fail("S3PRL was loaded"))
    (data / IC).unlink()
    text("music", "radio")(data / IC_DEV)
    with pytest.raises(ElpError, match=r"-d elp_ic: 2 problems in .*train-001\.wav is missing.*'radio'") as caught:
        run(flags("elp_ic", data, tmp_path / "exp"))
    assert "elp check -d elp_ic" in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_prints_one_line_per_split(data, tmp_path, monkeypatch, capsys):
    class Main:
        __file__ = "run_downstream.py"
        main = staticmethod(lambda: None)

    monkeypatch.setattr("upstream_elp.launch.start.load_main", lambda script: Main)
    run(flags("elp_ic", data, tmp_path / "exp"))
    printed = capsys.readouterr().err
    assert "elp: elp_ic train: 8 utterances, 0.00 h, 1 speaker, 4 classes\n" in printed
    assert "elp: elp_ic dev: 4 utterances" in printed and "test:" not in printed  # not used in training
