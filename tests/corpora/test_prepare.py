"""``elp prepare``: tiny corpora in the official layouts, one per problem, and the tables as stock S3PRL reads them."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import upstream_elp
from upstream_elp import cli
from upstream_elp.audio import headers
from upstream_elp.audio.headers import Header, Options
from upstream_elp.base import files
from upstream_elp.base.errors import ElpError
from upstream_elp.base.problems import SHOWN_PER_KIND, Problem
from upstream_elp.corpora import checks, fluent, iemocap, librilight, librispeech, trials, voxceleb1
from upstream_elp.corpora.preparation import Report, default_out, write_length_table

QUIET = Options(jobs=2, progress=False)
SKIP = Options(jobs=2, progress=False, skip_broken=True)


def noise(path: Path, *, samples: int = 4000, rate: int = 16_000, channels: int = 1) -> Path:
    """Write a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (samples, channels) if channels > 1 else (samples,)
    soundfile.write(path, np.random.default_rng(samples).uniform(-0.1, 0.1, shape), rate)
    return path


def chapter(folder: Path, lengths: list[int], *, text: str = "IT'S A TEST") -> None:
    """Write a LibriSpeech chapter: flac files and their transcripts."""
    name = f"{folder.parent.name}-{folder.name}"
    for number, samples in enumerate(lengths):
        noise(folder / f"{name}-{number:04d}.flac", samples=samples)
    lines = [f"{name}-{number:04d} {text}\n" for number in range(len(lengths))]
    (folder / f"{name}.trans.txt").write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def libri(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    chapter(root / "train-clean-100" / "19" / "198", [4000, 8000, 6000])
    chapter(root / "train-clean-100" / "26" / "495", [5000])
    chapter(root / "dev-clean" / "84" / "121", [4800, 3200])
    return root


@pytest.fixture
def light(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    for number, part in enumerate(librilight.SUBSETS["10h"]):
        for kind in librilight.KINDS:
            speaker = str(100 + 10 * number + (kind == "other"))
            chapter(root / librilight.ARCHIVE / part / kind / speaker / "7", [4000 + number])
    return root


@pytest.fixture
def vox(tmp_path: Path) -> Path:
    root = tmp_path / "VoxCeleb1"
    for split, speakers in {"dev": ("id10001", "id10002"), "test": ("id10270", "id10271")}.items():
        for speaker in speakers:
            for number in (1, 2):
                noise(root / split / "wav" / speaker / "a-b_c" / f"{number:05d}.wav")
    one, two = "id10270/a-b_c/00001.wav", "id10270/a-b_c/00002.wav"
    (root / "voxceleb1_test_v2.txt").write_text(f"1 {one} {two}\n0 {one} id10271/a-b_c/00001.wav\n")
    return root


@pytest.fixture
def emotions(tmp_path: Path) -> Path:
    root = tmp_path / "IEMOCAP"
    for number in range(1, 6):
        dialog = f"Ses0{number}F_impro01"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for turn, label in enumerate(("sad", "neu", "exc", "ang", "hap", "xxx")):
            name = f"{dialog}_{'FM'[turn % 2]}{turn:03d}"
            noise(root / f"Session{number}" / "sentences" / "wav" / dialog / f"{name}.wav")
            lines.append(f"[{turn}.0000 - {turn + 1}.0000]\t{name}\t{label}\t[2.5, 2.5, 2.5]")
            lines.append(f"C-E1:\t{label};\t()")
        folder = root / f"Session{number}" / "dialog" / "EmoEvaluation"
        (folder / "Categorical").mkdir(parents=True)
        (folder / "Categorical" / "notes.txt").write_text("[not a label file]\n")
        (folder / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07[macOS]")
        (folder / f"{dialog}.txt").write_text("\n".join(lines) + "\n")
    return root


FLUENT_ROWS = {
    "train": [("s1", "increase", "heat", "none"), ("s2", "activate", "lights", "kitchen")],
    "valid": [("s3", "increase", "lights", "none")],
    "test": [("s4", "activate", "heat", "kitchen")],
}


def write_fluent(root: Path, rows: dict, *, columns: tuple[str, ...] = fluent.COLUMNS) -> Path:
    """Write the corpus with one file per row."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    for split, entries in rows.items():
        with (root / "data" / f"{split}_data.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["", *columns])
            for number, (speaker, *slots) in enumerate(entries):
                path = f"wavs/speakers/{speaker}/{split}-{number}.wav"
                noise(root / path)
                writer.writerow([number, path, speaker, "Turn it up", *slots][: len(columns) + 1])
    return root


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    return write_fluent(tmp_path / "fluent_speech_commands_dataset", FLUENT_ROWS)


def kinds(report: Report) -> list[str]:
    """Return the sorted kinds of a report's problems; every sentence must name its file and end like one."""
    for problem in report.problems:
        assert problem.text.endswith("."), problem
        assert problem.path.rsplit("/", 1)[-1] in problem.text, problem
    return sorted(problem.kind for problem in report.problems)


def elp(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the console command in this process and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["elp", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code or 0


def snapshot(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


# ---- LibriSpeech


def test_length_table_is_what_stock_asr_reads(libri: Path, tmp_path: Path) -> None:
    before = snapshot(libri)
    report = librispeech.prepare(libri, tmp_path / "out", options=QUIET)
    assert kinds(report) == []
    assert snapshot(libri) == before
    table = tmp_path / "out" / "len_for_bucket" / "train-clean-100.csv"
    assert table.read_text().splitlines()[:2] == [
        ",file_path,length,label",
        "0,train-clean-100/19/198/19-198-0001.flac,8000,",
    ]
    frame = pandas.read_csv(table)
    assert list(frame["length"]) == [8000, 6000, 5000, 4000]
    assert all(soundfile.info(libri / row.file_path).frames == row.length for row in frame.itertuples())
    assert [(split.name, split.files, split.speakers) for split in report.splits] == [
        ("train-clean-100", 4, 2),
        ("dev-clean", 2, 1),
    ]
    assert report.splits[0].hours == pytest.approx(23_000 / 16_000 / 3600)


def test_stock_dataset_loads_the_table(libri: Path, tmp_path: Path) -> None:
    upstream_elp.register()
    from s3prl.downstream.asr import dataset as stock

    class Letters:
        def encode_line(self, line: str, line_tokenizer: object) -> object:
            return torch.tensor([ord(token) for token in line_tokenizer(line)])

    librispeech.prepare(libri, tmp_path, options=QUIET)
    split = {"train": ["train-clean-100"]}
    data = stock.SequenceDataset("train", 2, Letters(), str(libri), str(tmp_path / "len_for_bucket"), **split)
    assert sorted(file for batch in data.X for file in batch) == sorted(
        path.relative_to(libri).as_posix() for path in (libri / "train-clean-100").rglob("*.flac")
    )


def test_splits_are_chosen_and_absent_ones_named(libri: Path, tmp_path: Path) -> None:
    report = librispeech.prepare(libri, tmp_path, splits=["dev-clean"], options=QUIET)
    assert [path.name for path in report.tables] == ["dev-clean.csv"]
    with pytest.raises(ElpError, match="no split test-clean; its splits are: train-clean-100, dev-clean"):
        librispeech.prepare(libri, tmp_path, splits=["test-clean"], options=QUIET)


def test_all_problems_of_librispeech_in_one_run(libri: Path, tmp_path: Path) -> None:
    folder = libri / "train-clean-100" / "19" / "198"
    broken = {
        "19-198-0003.flac": {"rate": 8000},
        "19-198-0004.flac": {"channels": 2},
        "19-198-0005.flac": {"samples": 399},
        "19-198-0008.flac": {},
        "19-198-0009.flac": {},
        "19-198-0010.flac": {},
    }
    for name, form in broken.items():
        noise(folder / name, **form)
    (folder / "19-198-0006.flac").write_bytes(b"")
    (folder / "19-198-0007.flac").write_bytes(b"not audio at all")
    lines = [f"19-198-{number:04d} TEST\n" for number in range(8)]
    lines += ["19-198-0008\n", "19-198-0009 CAFÉ NO. 5\n", "19-198-0099 GONE\n", "19-198-0000 TWICE\n"]
    (folder / "19-198.trans.txt").write_text("".join(lines), encoding="utf-8")
    noise(folder / "elsewhere.flac")
    shutil.copytree(libri / "dev-clean" / "84", libri / "train-clean-100" / "84")
    report = librispeech.prepare(libri, tmp_path / "out", options=QUIET)
    expected = ["channels", "characters", "duplicate", "duplicate", "duplicate", "empty-transcript"]
    expected += ["misplaced", "missing-audio", "missing-transcript", "rate", "short", "unreadable", "unreadable"]
    assert kinds(report) == expected
    assert report.tables == []
    assert not (tmp_path / "out" / "len_for_bucket").exists()
    characters = next(problem.text for problem in report.problems if problem.kind == "characters")
    assert "'.' '5' 'É'" in characters
    assert any(
        problem.text.endswith("19-198-0006.flac cannot be read: the file has no bytes.") for problem in report.problems
    )
    assert any("share 1 speaker (such as 84)" in text for text in report.warnings)


def test_skip_broken_leaves_single_files_out_and_nothing_else(libri: Path, tmp_path: Path) -> None:
    (libri / "train-clean-100/26/495/26-495-0000.flac").write_bytes(b"fLaC")
    assert librispeech.prepare(libri, tmp_path, options=QUIET).tables == []
    report = librispeech.prepare(libri, tmp_path, options=SKIP)
    frame = pandas.read_csv(report.tables[0])
    assert len(frame) == 3
    assert not frame["file_path"].str.contains("26-495").any()
    files = {split.name: split.files for split in report.splits}
    assert files == {path.stem: len(pandas.read_csv(path)) for path in report.tables}, "what was written is counted"
    # a transcript without audio means a broken archive, which skipping files does not solve
    (libri / "dev-clean/84/121/84-121-0000.flac").unlink()
    assert librispeech.prepare(libri, tmp_path, options=SKIP).blocked(skip_broken=True)


def test_lower_case_transcripts_are_fine_as_the_task_raises_them(libri: Path, tmp_path: Path) -> None:
    chapter(libri / "dev-clean" / "85" / "1", [4000], text="lower case")
    assert kinds(librispeech.prepare(libri, tmp_path, options=QUIET)) == []


# ---- Libri-light


def test_librilight_subsets(light: Path, tmp_path: Path) -> None:
    report = librilight.prepare(light, tmp_path / "out", options=QUIET)
    assert kinds(report) == []
    sizes = {path.stem: len(pandas.read_csv(path)) for path in report.tables}
    assert sizes == {**{f"10min-{fold}": 2 for fold in range(6)}, "1h": 12, "10h": 14}
    hour = pandas.read_csv(tmp_path / "out/len_for_bucket/1h.csv")
    assert hour["file_path"][0].startswith("librispeech_finetuning/1h/5/")
    assert all((light / path).is_file() for path in hour["file_path"])
    inner = librilight.prepare(light / librilight.ARCHIVE, tmp_path / "inner", splits=["10min-3"], options=QUIET)
    assert pandas.read_csv(inner.tables[0])["file_path"][0].startswith("1h/3/")


def test_librilight_problems(light: Path, tmp_path: Path) -> None:
    top = light / librilight.ARCHIVE
    shutil.rmtree(top / "9h" / "other")
    shutil.copytree(top / "1h/0/clean/100", top / "1h/1/clean/100")
    assert kinds(librilight.prepare(light, tmp_path, options=QUIET)) == ["duplicate", "layout"]
    report = librilight.prepare(light, tmp_path, splits=["10min-0", "1h"], options=SKIP)
    assert {split.name: split.files for split in report.splits} == {
        path.stem: len(pandas.read_csv(path)) for path in report.tables
    }
    # other parts are not read
    assert kinds(librilight.prepare(light, tmp_path, splits=["10min-0"], options=QUIET)) == []
    with pytest.raises(ElpError, match=r"unknown Libri-light subset 100h; the subsets are: 10min-0, .*10h"):
        librilight.prepare(light, tmp_path, splits=["100h"], options=QUIET)


def test_a_chapter_shared_out_over_folds_is_not_a_problem(light: Path, tmp_path: Path) -> None:
    table = light / librilight.ARCHIVE / "1h/0/clean/100/7/100-7.trans.txt"
    table.write_text(table.read_text() + "100-7-0009 SPOKEN IN ANOTHER FOLD\n")
    report = librilight.prepare(light, tmp_path, options=QUIET)
    assert kinds(report) == []
    assert any("1 transcript has no audio in the same fold" in text for text in report.warnings)


# ---- VoxCeleb1


def test_voxceleb1(vox: Path, tmp_path: Path) -> None:
    report = voxceleb1.prepare(vox, tmp_path / "out", options=QUIET)
    assert kinds(report) == []
    assert report.tables[0].read_text() == (vox / "voxceleb1_test_v2.txt").read_text()
    assert report.details["trials"]["voxceleb1_test_v2.txt"] == {"trials": 2, "same_speaker": 1, "files": 3}
    assert any("not an official list: those have 37,720 or 37,611" in text for text in report.warnings)
    assert [(split.files, split.speakers) for split in report.splits] == [(4, 2), (4, 2)]


@pytest.mark.parametrize(
    "line",
    [
        "1 id10270/a-b_c/00001.wav id10270/a-b_c/00002.wav",
        "1\tid10270/a-b_c/00001.wav\tid10270/a-b_c/00002.wav\r",
        "1 wav/id10270/a-b_c/00001.wav wav/id10270/a-b_c/00002.wav",
        "1 test/wav/id10270/a-b_c/00001.wav ./test/wav/id10270/a-b_c/00002.wav",
        "id10270-a-b_c-00001 id10270-a-b_c-00002 target",
    ],
)
def test_published_forms_of_a_trial(line: str) -> None:
    assert str(trials.parse_trial(line)) == "1 id10270/a-b_c/00001.wav id10270/a-b_c/00002.wav"


@pytest.mark.parametrize("line", ["", "1 a/b/c.wav", "2 a/b/c.wav a/b/d.wav", "1 a/b.wav a/c.wav", "1 a/b/c a/b/d"])
def test_what_is_not_a_trial(line: str) -> None:
    assert trials.parse_trial(line) is None


def test_all_problems_of_voxceleb1_in_one_run(vox: Path, tmp_path: Path) -> None:
    noise(vox / "dev/wav/id10001/deep/er/00009.wav")
    noise(vox / "dev/wav/id10270/a-b_c/00001.wav", rate=48_000)
    (vox / "dev/wav/id19999/empty").mkdir(parents=True)
    (vox / "voxceleb1_test_v2.txt").write_text("")
    given = tmp_path / "trials.txt"
    one = "id10270/a-b_c/00001.wav"
    given.write_text(f"1 {one} id10271/a-b_c/00001.wav\n1 {one} id10270/a-b_c/00077.wav\nnonsense\n")
    report = voxceleb1.prepare(vox, tmp_path / "out", trials=[given], options=QUIET)
    expected = ["empty-speaker", "misplaced", "missing-audio", "rate", "speakers", "trial-label", "trial-label"]
    assert kinds(report) == [*expected, "trial-line"]
    assert report.tables == []


def test_a_missing_list_or_half_is_reported_with_the_rest(vox: Path, tmp_path: Path) -> None:
    (vox / "voxceleb1_test_v2.txt").unlink()
    shutil.rmtree(vox / "dev")
    report = voxceleb1.prepare(vox, tmp_path, options=QUIET)
    assert kinds(report) == ["layout", "layout"]
    assert "openslr.org/49" in report.problems[-1].text
    with pytest.raises(ElpError, match=r"none\.txt: the trial list cannot be read"):
        voxceleb1.prepare(vox, tmp_path, trials=[tmp_path / "none.txt"], options=QUIET)


# ---- IEMOCAP


def test_iemocap_folds(emotions: Path, tmp_path: Path) -> None:
    report = iemocap.prepare(emotions, tmp_path / "out", options=QUIET)
    assert kinds(report) == []
    everything = {item["path"] for item in _rows(tmp_path, 1, "train") + _rows(tmp_path, 1, "test")}
    assert len(everything) == 25
    for fold in range(1, 6):
        train, test = _rows(tmp_path, fold, "train"), _rows(tmp_path, fold, "test")
        assert {row["path"].split("/")[0] for row in test} == {f"Session{fold}"}
        assert {row["path"] for row in train} == everything - {row["path"] for row in test}
        assert [row["path"] for row in train] == sorted(row["path"] for row in train)
    assert _rows(tmp_path, 2, "test")[2] == {
        "path": "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F004.wav",
        "label": "hap",
        "speaker": "Ses02F",
    }
    assert report.details["classes"]["Session1"] == {"neu": 1, "hap": 2, "ang": 1, "sad": 1}
    assert {split.speakers for split in report.splits} == {2}
    assert "scores will not be comparable: utterances of Session1 5 (1,085), " in report.warnings[0]
    assert sum(iemocap.OFFICIAL.values()) == 5531


def _rows(tmp_path: Path, fold: int, part: str) -> list[dict]:
    data = json.loads((tmp_path / f"out/meta_data/Session{fold}/{part}_meta_data.json").read_text())
    assert data["labels"] == {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
    return data["meta_data"]


def test_metadata_equals_stock_preprocessing_up_to_order(emotions: Path, tmp_path: Path) -> None:
    stock = pytest.importorskip("s3prl.downstream.emotion.IEMOCAP_preprocess")
    for hidden in emotions.rglob("._*"):
        hidden.unlink()  # stock fails on them
    iemocap.prepare(emotions, tmp_path / "out", options=QUIET)
    stock.preprocess(str(emotions), ["Session1", "Session3"], str(tmp_path / "stock.json"))
    theirs = json.loads((tmp_path / "stock.json").read_text())["meta_data"]
    ours = _rows(tmp_path, 1, "test") + _rows(tmp_path, 3, "test")
    assert sorted(theirs, key=lambda row: row["path"]) == ours


def test_all_problems_of_iemocap_in_one_run(emotions: Path, tmp_path: Path) -> None:
    labels = emotions / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    name = "Ses01F_impro01_F000"
    labels.write_text(
        labels.read_text()
        + f"[1 - 2]\t{name}\tneu\t[1, 1, 1]\n[1 - 2]\tSes01F_impro01_F777\tang\t[1, 1, 1]\n"
        + "[1 - 2]\tSes01F_impro01_F778\tjoy\t[1, 1, 1]\n[3 - 4] no tabs here\n"
    )
    noise(emotions / "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_M999.wav")
    noise(emotions / "Session3/sentences/wav/Ses03F_impro01/Ses03F_impro01_F000.wav", channels=2)
    shutil.rmtree(emotions / "Session4" / "dialog")
    report = iemocap.prepare(emotions, tmp_path, options=QUIET)
    expected = ["channels", "duplicate", "label", "label-line", "layout", "missing-audio"]
    assert [kind for kind in kinds(report) if kind != "missing-label"] == expected
    assert kinds(report).count("missing-label") == 1, "a missing table is reported once, not for every file"
    assert report.tables == []


def test_iemocap_counts_what_it_writes(emotions: Path, tmp_path: Path) -> None:
    noise(emotions / "Session3/sentences/wav/Ses03F_impro01/Ses03F_impro01_F000.wav", channels=2)
    report = iemocap.prepare(emotions, tmp_path / "out", options=SKIP)
    assert [split.files for split in report.splits] == [len(_rows(tmp_path, fold, "test")) for fold in range(1, 6)]
    assert report.splits[2].files == sum(report.details["classes"]["Session3"].values()) == 4


def test_a_class_that_no_training_part_has(emotions: Path, tmp_path: Path) -> None:
    for session in iemocap.SESSIONS[1:]:
        table = next((emotions / session / "dialog/EmoEvaluation").glob("Ses*.txt"))
        table.write_text(table.read_text().replace("\tang\t", "\tfru\t"))
    report = iemocap.prepare(emotions, tmp_path, options=QUIET)
    assert [problem.text for problem in report.problems] == [
        "Session1: the training part of fold 1 has no utterance labelled ang."
    ]


# ---- Fluent Speech Commands


def test_fluent(commands: Path, tmp_path: Path) -> None:
    report = fluent.prepare(commands, tmp_path, options=QUIET)
    assert kinds(report) == []
    assert json.loads((tmp_path / "slots.json").read_text()) == {
        "action": ["increase", "activate"],
        "object": ["heat", "lights"],
        "location": ["none", "kitchen"],
    }
    assert [(split.name, split.files) for split in report.splits] == [("train", 2), ("valid", 1), ("test", 1)]
    assert "rows of train 2 (23,132)" in report.warnings[0]
    assert "values of location 2 (4)" in report.warnings[0]


def test_all_problems_of_fluent_in_one_run(commands: Path, tmp_path: Path) -> None:
    rows = {
        "train": FLUENT_ROWS["train"],
        "valid": [("s1", "dance", "lights", "none"), ("s3", "", "lights", "none")],
        "test": FLUENT_ROWS["test"],
    }
    write_fluent(commands, rows)
    noise(commands / "wavs/speakers/s2/train-1.wav", samples=0, rate=22_050)
    (commands / "wavs/speakers/s4/test-0.wav").unlink()
    train = commands / "data/train_data.csv"
    train.write_text(train.read_text() + "2,wavs/speakers/s1/train-0.wav,s1,Again,increase,heat,none\n")
    report = fluent.prepare(commands, tmp_path, options=QUIET)
    assert kinds(report) == ["duplicate", "empty", "missing-audio", "missing-value", "rate", "slot-value", "speakers"]
    assert report.tables == []


def test_fluent_tables_without_columns_rows_or_file(commands: Path, tmp_path: Path) -> None:
    write_fluent(commands, {"valid": FLUENT_ROWS["valid"]}, columns=fluent.COLUMNS[:-1])
    (commands / "data/test_data.csv").unlink()
    (commands / "data/train_data.csv").write_text("," + ",".join(fluent.COLUMNS) + "\n")
    report = fluent.prepare(commands, tmp_path, options=QUIET)
    assert kinds(report) == ["columns", "layout", "layout"]
    assert "lacks the columns location" in report.problems[1].text


# ---- headers and cache


def test_a_killed_run_continues(libri: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    honest = headers.read_header

    def counting(path: Path, *, decode: bool = False) -> Header:
        if len(read) == 4:
            raise KeyboardInterrupt
        read.append(path.name)
        return honest(path, decode=decode)

    monkeypatch.setattr(headers, "CHUNK", 1)
    monkeypatch.setattr(headers, "read_header", counting)
    serial = Options(jobs=1, progress=False)
    with pytest.raises(KeyboardInterrupt):
        librispeech.prepare(libri, tmp_path, options=serial)
    first = list(read)
    cache = tmp_path / ".librispeech-headers.jsonl"
    with cache.open("a") as stream:
        stream.write('["dev-clean/84/121/84-121-00')  # a line that the kill cut off
    monkeypatch.setattr(headers, "read_header", lambda path, decode: (read.append(path.name), honest(path))[1])
    report = librispeech.prepare(libri, tmp_path, options=serial)
    assert len(report.tables) == 2
    assert len(first) == 4
    assert sorted(read) == sorted({*read}), "no file is read twice"
    assert len(read) == 6
    librispeech.prepare(libri, tmp_path, options=serial)
    assert len(read) == 6, "the third run reads nothing"


def test_a_changed_file_is_read_again(libri: Path, tmp_path: Path) -> None:
    librispeech.prepare(libri, tmp_path, options=QUIET)
    noise(libri / "dev-clean/84/121/84-121-0001.flac", samples=9000)
    report = librispeech.prepare(libri, tmp_path, splits=["dev-clean"], options=QUIET)
    assert list(pandas.read_csv(report.tables[0])["length"]) == [9000, 4800]


def test_decode_finds_what_headers_hide(libri: Path, tmp_path: Path) -> None:
    damaged = libri / "dev-clean/84/121/84-121-0000.flac"
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    assert kinds(librispeech.prepare(libri, tmp_path, options=QUIET)) == []
    deep = Options(jobs=2, progress=False, decode=True)
    assert kinds(librispeech.prepare(libri, tmp_path, options=deep)) == ["unreadable"]


def test_a_wav_that_is_cut_off_is_noticed_from_its_header(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav", samples=8000)
    assert headers.read_header(path, decode=True) == Header(8000, 16_000, 1, decoded=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:4000])
    assert "cut off" in headers.read_header(path).error
    assert "cut off" in headers.read_header(path, decode=True).error
    path.write_bytes(whole[:4] + b"\xff\xff\xff\xff" + whole[8:])  # written to a pipe
    assert headers.read_header(path, decode=True).error == ""


def test_samples_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.full(800, np.nan, dtype=np.float32), 16_000, subtype="FLOAT")
    assert headers.read_header(path).error == ""
    assert "not finite" in headers.read_header(path, decode=True).error


@given(rate=st.integers(1, 96_000), channels=st.integers(1, 8), samples=st.integers(0, 2000))
def test_audio_rules(rate: int, channels: int, samples: int) -> None:
    found = {problem.kind for problem in checks.audio_problems("a.wav", Header(samples, rate, channels))}
    expected = {"rate"} if rate != 16_000 else set()
    expected |= {"channels"} if channels != 1 else set()
    expected |= {"short" if samples else "empty"} if samples < 400 else set()
    assert found == expected


def test_counts_are_remarked_on_only_where_they_differ() -> None:
    assert checks.count_warnings([("files", 3, 3)]) == []
    (remark,) = checks.count_warnings([("files", 3, 3), ("speakers", 1, 1211)])
    assert remark.endswith("speakers 1 (1,211).")


# ---- files and the command


@given(lengths=st.dictionaries(st.text("abc/", min_size=1, max_size=6), st.integers(400, 500), max_size=12))
def test_length_tables_are_ordered_and_complete(
    lengths: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_length_table(tmp_path_factory.mktemp("table") / "a.csv", lengths)
    with path.open(newline="") as stream:
        rows = [(row["file_path"], int(row["length"])) for row in csv.DictReader(stream)]
    assert dict(rows) == lengths
    assert rows == sorted(rows, key=lambda row: (-row[1], row[0]))


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write_text(tmp_path / "a.csv", "old")

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_text(path, "new")
    assert [(item.name, item.read_text()) for item in tmp_path.iterdir()] == [("a.csv", "old")]


def test_roots_that_are_not_the_corpus(libri: Path, tmp_path: Path) -> None:
    with pytest.raises(ElpError, match=r"does not exist; pass the folder that contains Session1"):
        iemocap.prepare(tmp_path / "nowhere", tmp_path / "out", options=QUIET)
    with pytest.raises(ElpError, match=r"did you mean .*LibriSpeech\?"):
        librispeech.prepare(libri.parent, tmp_path / "out", options=QUIET)
    with pytest.raises(ElpError, match="contains none of data, wavs"):
        fluent.prepare(libri, tmp_path / "out", options=QUIET)
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be(libri: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ElpError, match=r"the folder for the tables, .*, cannot be created"):
        librispeech.prepare(libri, tmp_path / "file" / "out", options=QUIET)


def test_command_keeps_tables_out_of_the_corpus(
    libri: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    before = snapshot(libri)
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    assert elp(monkeypatch, "prepare", "librispeech", libri) == 0
    assert snapshot(libri) == before
    out = default_out("librispeech", libri)
    assert out.is_relative_to(tmp_path / "cache")
    assert out != default_out("librispeech", tmp_path)
    assert (out / "len_for_bucket/dev-clean.csv").is_file()
    shown = capsys.readouterr().out
    assert [line.split() for line in shown.splitlines() if line.startswith("dev-clean  ")] == [
        ["dev-clean", "2", "0.000", "1"]
    ]


def test_command_reports_as_json_and_exits_with_2(
    vox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert elp(monkeypatch, "prepare", "voxceleb1", vox, tmp_path, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] and report["splits"][1]["speakers"] == 2 and len(report["tables"]) == 1
    (vox / "test/wav/id10270/a-b_c/00002.wav").unlink()
    assert elp(monkeypatch, "prepare", "voxceleb1", vox, tmp_path, "--json") == 2
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert not report["ok"]
    assert report["problems"][0]["path"] == "test/wav/id10270/a-b_c/00002.wav"
    assert shown.err.startswith("elp: error: ") and "Traceback" not in shown.err
    assert json.loads((tmp_path / "voxceleb1-report.json").read_text()) == report


def test_command_skips_broken_files_only_when_asked(
    libri: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    noise(libri / "dev-clean/84/121/84-121-0000.flac", rate=8000)
    assert elp(monkeypatch, "prepare", "librispeech", libri, tmp_path) == 2
    printed = capsys.readouterr().err
    assert "--skip-broken skips single files" in printed and f"{libri}: 1 problem, no table was written" in printed
    assert elp(monkeypatch, "prepare", "librispeech", libri, tmp_path, "--skip-broken") == 0
    assert "skipped 1 file with problems" in capsys.readouterr().out


def test_command_recommends_no_option_that_it_lacks(
    vox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    noise(vox / "test/wav/id10270/a-b_c/00002.wav", rate=8000)  # a problem of a single file
    assert elp(monkeypatch, "prepare", "voxceleb1", vox, tmp_path) == 2
    assert "8000" in (shown := capsys.readouterr()).out and "--skip-broken" not in shown.out + shown.err


@pytest.mark.parametrize("corpus", ["librispeech", "librilight", "voxceleb1", "iemocap", "fluent-speech-commands"])
def test_every_corpus_has_help(corpus: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert elp(monkeypatch, "prepare", corpus, "--help") == 0
    assert "ROOT" in capsys.readouterr().out


def test_unknown_corpus_lists_the_known(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert elp(monkeypatch, "prepare", "timit", "/") == 2
    assert "librispeech, librilight, voxceleb1, iemocap, fluent-speech-commands" in capsys.readouterr().err


def test_many_problems_of_a_kind_are_cut_short_on_screen_only(tmp_path: Path) -> None:
    problems = [Problem("rate", f"{number}.wav", f"{number}.wav is odd.") for number in range(SHOWN_PER_KIND + 5)]
    report = Report("x", tmp_path, tmp_path, problems=problems)
    assert "... and 5 more" in report.to_text()
    assert len(report.to_dict()["problems"]) == SHOWN_PER_KIND + 5


def test_recipe_prepares_what_is_there(libri: Path, commands: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "recipes" / "prepare" / "all.sh"
    (tmp_path / "elp.py").write_text("from upstream_elp.cli import main\nmain()\n")
    environment = {**os.environ, "ELP": f"{sys.executable} {tmp_path / 'elp.py'}", "PYTHONPATH": str(script.parents[2])}

    def run(data: Path) -> subprocess.CompletedProcess:
        command = ["bash", str(script), str(data), str(tmp_path / "tables")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tables/librispeech/len_for_bucket/dev-clean.csv").is_file()
    assert (tmp_path / "tables/fluent-speech-commands/slots.json").is_file()
    (commands / "data/test_data.csv").unlink()
    assert run(tmp_path).returncode == 2
    assert run(libri).returncode == 2, "no corpus there"
