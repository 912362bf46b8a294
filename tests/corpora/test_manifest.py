"""Manifests of own data: what is read, what is wrong with them, and splits that are drawn."""

import csv
import io
import json
import unicodedata

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests import toy_corpora
from tests.own_data import write_csv, write_jsonl
from tests.programs import elp
from upstream_elp.audio.headers import read_header
from upstream_elp.audio.reading import load_audio
from upstream_elp.audio.segments import Segment, split
from upstream_elp.base.errors import AudioError, ElpError
from upstream_elp.corpora import manifest
from upstream_elp.corpora.splitting import draw_splits

SPLITS = {"train": "train", "dev": "dev", "test": "test"}
#: texts as people write them: no control characters, which neither form keeps
WORDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
TEXTS = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"text": TEXTS, "label": TEXTS, "speaker": WORDS, "split": st.sampled_from(list(SPLITS))}
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with six recordings of 1 s, two of them in a folder with a space in its name."""
    root = tmp_path_factory.mktemp("own")
    for number in range(6):
        place = root / "a b" if number < 2 else root
        toy_corpora.write_wav(place / f"{number}.wav", toy_corpora.tone(seconds=1.0, pitch=150 + 50 * number))
    return root


def name_of(number):
    return f"a b/{number}.wav" if number < 2 else f"{number}.wav"


def read(path, **options):
    return manifest.read(path, splits=SPLITS, **{"labels": ["label"], "columns": ["text", "speaker"], **options})


def simple(**changes):
    rows = [
        {"path": name_of(number), "split": split, "speaker": f"s{number}", "text": "hello", "label": "yn"[number % 2]}
        for number, split in enumerate(("train", "train", "train", "dev", "test", "test"))
    ]
    for number, values in changes.items():
        rows[int(number[1:])].update(values)
    return rows


def sentences(path, **options):
    found = read(path, **options)
    return [problem.text for problem in found.problems] + [
        problem.text for problem in manifest.label_problems(found, options.get("labels", ["label"]))
    ]


@MANY
@given(rows=ROWS, order=st.permutations(["path", "split", "speaker", "text", "label", "note"]), data=st.data())
@example(
    rows=[{"text": 'say "a, b"', "label": "é", "speaker": "Ω", "split": "train"}],
    order=["label", "note", "path", "split", "text", "speaker"],
    data=None,
)
def test_every_way_to_write_the_same_rows_is_read_alike(rows, order, data, folder):
    """Columns in any order, with or without a byte order mark, quotes, CRLF, absolute paths, CSV or JSON lines."""
    choose = data.draw if data else lambda strategy: False
    named = [{"path": name_of(number), "note": "x,\ny", **row} for number, row in enumerate(rows)]
    plain = write_jsonl(folder / "plain.jsonl", named)
    other = [
        {**row, "path": str(folder / row["path"]) if choose(st.booleans()) else f"./{row['path']}"} for row in named
    ]
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if choose(st.booleans()) else csv.QUOTE_MINIMAL
    writer = csv.DictWriter(text, order, quoting=quoting, lineterminator="\r\n" if choose(st.booleans()) else "\n")
    writer.writeheader()
    writer.writerows(other)
    coding = "utf-8-sig" if choose(st.booleans()) else "utf-8"
    (folder / "other.csv").write_bytes(text.getvalue().encode(coding))

    one, two = read(plain), read(folder / "other.csv")
    assert not one.problems and not two.problems
    assert [{**vars(row), "line": 0} for row in one.rows] == [{**vars(row), "line": 0} for row in two.rows]
    for row, found in zip(rows, one.rows, strict=True):
        assert found.text == " ".join(unicodedata.normalize("NFC", row["text"]).split())
        assert found.split == row["split"] and found.path in map(name_of, range(6)) and " " not in found.name


@MANY
@given(content=st.binary(max_size=200), ending=st.sampled_from([".csv", ".jsonl"]))
@example(content=b"path,split\n\x00", ending=".csv")
@example(content=b'{"path": "\\ud800"}', ending=".jsonl")
@example(content=b"[" * 5000, ending=".jsonl")
@example(content=b'path\n"a\nb', ending=".csv")
def test_no_content_is_more_than_a_list_of_problems(content, ending, folder):
    path = folder / f"any{ending}"
    path.write_bytes(content)
    found = read(path)
    assert found.problems and not found.rows
    assert all(problem.text.endswith(".") and "\n" not in problem.text for problem in found.problems)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"r0": {"path": "gone.wav"}}, "m.csv line 2 names gone.wav, which is missing."),
        ({"r0": {"path": ""}}, "m.csv line 2 has no path."),
        ({"r2": {"text": " "}}, "m.csv line 4 has no text."),
        ({"r1": {"label": ""}}, "m.csv line 3 has no label."),
        ({"r5": {"speaker": ""}}, "m.csv line 7 has no speaker."),
        ({"r3": {"split": "valid"}, "r4": {"split": "valid"}},
         "m.csv has the split 'valid' in 2 rows, but it must be train, dev or test."),
        ({"r5": {"path": "4.wav"}}, "m.csv line 7 lists 4.wav again, after line 6; remove one."),
        ({"r5": {"path": "./4.wav"}}, "m.csv line 7 lists 4.wav again, after line 6; remove one."),
        ({"r5": {"label": "maybe"}}, "m.csv has the label 'maybe' in 1 row of test, but in none of train; add training "
         "data, or remove these rows."),
        ({"r1": {"label": "y"}}, "m.csv has only the label 'y' in train; a classifier needs at least two."),
        ({"r0": {"start": "x"}}, "m.csv line 2 must have a number of seconds as start, but has 'x'."),
        ({"r0": {"start": "-1"}}, "m.csv line 2 must have a number of seconds as start, but has '-1'."),
        ({"r0": {"start": "0.5", "end": "0.2"}},
         "m.csv line 2 must have an end after its start, but goes from 0.5 s to 0.2 s."),
        ({"r0": {"start": "0.1", "end": "0.9", "duration": "0.2"}},
         "m.csv line 2 has an end of 0.9 s, but start and duration give 0.3 s; correct one of them."),
    ],
)  # fmt: skip
def test_each_fault_is_one_sentence(changes, sentence, folder, tmp_path):
    assert sentence in sentences(write_csv(folder / "m.csv", simple(**changes)))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "m.csv has no rows."),
        ("path,split\n", "m.csv has no rows."),
        ("split,text,label,speaker\ntrain,a,b,c\n", "m.csv has no column path; its columns are split, text, label"),
        ("path,text,label,speaker\n2.wav,a,b,c\n", "let `elp split m.csv OUT.csv` draw the splits."),
        ("path;text\na.wav;yes, please\n", "m.csv has semicolons between its columns; save it with commas."),
        ("path\ttext\na.wav\tyes\n", "m.csv has tabs between its columns; save it with commas."),
        ("path|text\na.wav|yes\n", "m.csv has vertical bars between its columns; save it with commas."),
        ("path,path\n1,2\n", "m.csv has the column 'path' twice; rename or remove one."),
        ("path,split\n2.wav,train,more\n", "m.csv line 2 has 3 values, but the header has 2; a comma in a value needs"),
        ('path,split\n"2.wav"x,train\n', "m.csv line 2 cannot be read as CSV"),
    ],
)  # fmt: skip
def test_each_fault_of_a_table_is_one_sentence(content, sentence, folder):
    (folder / "m.csv").write_text(content)
    assert any(sentence in reported for reported in sentences(folder / "m.csv"))


def test_lines_of_json_that_are_not_rows(folder):
    path = folder / "m.jsonl"
    path.write_text('{"path": "2.wav"\n[1]\n{"path": ["2.wav"]}\n{"path": "2.wav", "split": "train"}\n')
    reported = sentences(path, labels=[], columns=[])
    assert [text[:14] for text in reported] == [f"m.jsonl line {number}" for number in (1, 2, 3)]


def test_all_problems_are_listed_at_once_with_counts(folder, monkeypatch, capsys):
    monkeypatch.setenv("ELP_CACHE", str(folder / "cache"))
    (folder / "broken.wav").write_bytes(b"RIFF")
    changes = {"r0": {"path": "broken.wav"}, "r3": {"split": "x"}, "r4": {"label": "new"}, "r5": {"path": "none.wav"}}
    rows = [*simple(**changes), *({**simple()[2], "path": "2.wav", "start": str(n), "end": "9"} for n in (0.1, 0.2, 3))]
    path = write_csv(folder / "m.csv", rows, columns=["path", "split", "speaker", "text", "label", "start", "end"])
    assert elp("check", "-d", "er", "--data", path, monkeypatch=monkeypatch) == 1
    reported = capsys.readouterr().out
    assert "broken.wav cannot be read" in reported and "none.wav, which is missing" in reported
    assert "its part reaches to 9 s, but the file has only 1.00 s" in reported and "2.wav#t=3,9" in reported
    assert "the split 'x' in 1 row" in reported and "the label 'new' in 1 row of test" in reported
    assert "no row with the split dev" in reported and "8 problems" in reported


def test_speakers_in_two_splits_are_a_warning_except_for_sv(folder, monkeypatch, capsys):
    monkeypatch.setenv("ELP_CACHE", str(folder / "cache"))
    path = write_csv(folder / "m.csv", simple(r4={"speaker": "s0"}))
    for task, status in (("er", 0), ("asr", 0), ("sv", 1)):
        assert elp("check", "-d", task, "--data", path, "--quick", monkeypatch=monkeypatch) == status
        shared = f"m.csv has 1 speaker in both train and {'test-clean' if task == 'asr' else 'test'} (such as s0)"
        assert shared in capsys.readouterr().out


def test_a_column_that_is_almost_known_is_a_remark(folder):
    rows = [{**row, "strat": "0"} for row in simple()]
    assert read(write_csv(folder / "m.csv", rows)).remarks == [
        "m.csv: the column 'strat' is not used; did you mean start?"
    ]


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_part_is_the_same_samples_as_the_whole(ending, rate, tmp_path):
    path = toy_corpora.write_wav(tmp_path / f"long.{ending}", toy_corpora.tone(seconds=2.0, rate=rate), rate)
    whole, _ = soundfile.read(path, dtype="float32")
    for start, end in ((0.0, 0.5), (0.25, 1.0), (1.5, None), (0.0, 2.005)):
        part = f"{path}{Segment(start, end)}"
        header = read_header(type(path)(part))
        first, last = round(start * rate), len(whole) if end is None else min(round(end * rate), len(whole))
        assert (header.samples, header.error) == (last - first, "")
        assert read_header(type(path)(part), decode=True).samples == header.samples
        if rate == 16000:
            np.testing.assert_array_equal(load_audio(part).numpy(), whole[first:last])
        assert len(load_audio(part, resample=True)) == pytest.approx((last - first) * 16000 / rate, abs=2)
    with pytest.raises(AudioError, match=r"its part reaches to 9 s, but the file has only 2.00 s; correct the times"):
        load_audio(f"{path}#t=1,9")


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_part_is_written_and_read_to_the_microsecond(start, end):
    file, found = split(f"x#t=y{Segment(start, end)}")
    assert file == "x#t=y" and found.start == pytest.approx(start, abs=1e-6)
    assert found.end == pytest.approx(end, abs=1e-6)
    assert split("plain.wav") == ("plain.wav", None) and split("x#t=") == ("x#t=", None)


@MANY
@given(
    speakers=st.lists(st.integers(1, 5), min_size=5, max_size=12),
    seed=st.integers(0, 9),
    shares=st.tuples(st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([0.1, 0.2])),
)
def test_drawn_splits_keep_speakers_together(speakers, seed, shares, folder):
    rows = [
        {"path": f"{number}-{turn}.wav", "speaker": f"s{number}", "text": "a"}
        for number, count in enumerate(speakers)
        for turn in range(count)
    ]
    path, out = write_csv(folder / "all.csv", rows), folder / "drawn.jsonl"
    out.unlink(missing_ok=True)
    options = {"shares": dict(zip(("test", "dev"), shares, strict=True)), "seed": seed}
    draw_splits(path, out, **options)
    drawn = [json.loads(line) for line in out.read_text().splitlines()]
    assert [{**row, "split": None} for row in drawn] == [{**row, "split": None} for row in rows]
    of = {}
    for row in drawn:
        assert of.setdefault(row["speaker"], row["split"]) == row["split"]
    for split_name, share in options["shares"].items():
        members = [name for name in of if of[name] == split_name]
        assert len(members) >= 2 if share else not members
    assert "train" in of.values()
    again = folder / "again.csv"
    again.unlink(missing_ok=True)
    draw_splits(write_csv(folder / "turned.csv", rows[::-1]), again, **options)
    with again.open(newline="") as file:
        assert {row["speaker"]: row["split"] for row in csv.DictReader(file)} == of


def test_only_missing_splits_are_drawn_and_paths_stay_valid(folder, tmp_path, monkeypatch, capsys):
    path = write_csv(
        folder / "m.csv", [{**row, "split": {"dev": ""}.get(row["split"], row["split"])} for row in simple()]
    )
    out = tmp_path / "elsewhere" / "m.csv"
    out.parent.mkdir()
    assert elp("split", path, out, "--dev", "0.3", monkeypatch=monkeypatch) == 0
    assert "dev: 2 rows, 2 values of speaker" in capsys.readouterr().out
    found = read(out)
    assert not found.problems and [row.split for row in found.rows][-2:] == ["test", "test"]
    for words, sentence in (
        ([out, tmp_path / "x.csv"], "has the splits dev, test, train already; there is nothing to draw"),
        ([path, out], "already exists"),
        ([path, tmp_path / "x.txt"], "must end in .csv or .jsonl"),
        ([write_csv(folder / "few.csv", simple()[:2]), tmp_path / "x.csv"], "must have at least 5 different values"),
        ([write_csv(folder / "gap.csv", simple(r0={"speaker": ""})[:3]), tmp_path / "x.csv"], "no speaker in 1 row"),
        ([write_csv(folder / "bare.csv", [{"a": "b"}]), tmp_path / "x.csv"], "has no column path; add it"),
    ):  # fmt: skip
        assert elp("split", *words, monkeypatch=monkeypatch) == 2
        assert sentence in capsys.readouterr().err


def test_without_speakers_files_are_kept_together(folder, tmp_path):
    rows = [{"path": f"{n % 6}.wav", "start": n // 6, "end": n // 6 + 1} for n in range(12)]
    found = draw_splits(write_csv(folder / "m.csv", rows), tmp_path / "o.csv", shares={"test": 0.2}, seed=0)
    assert found.by == "path" and found.rows == {"train": 8, "test": 4} and found.groups["test"] == 2


def test_a_missing_manifest_is_refused(tmp_path, monkeypatch, capsys):
    assert elp("check", "-d", "er", "--data", tmp_path / "no.csv", monkeypatch=monkeypatch) == 2
    assert "no such folder or manifest" in capsys.readouterr().err
    monkeypatch.setenv("ELP_DATA", str(tmp_path / "no.csv"))
    assert elp("check", "-d", "er", monkeypatch=monkeypatch) == 2
    assert "no.csv (from ELP_DATA) does not exist; correct its path" in capsys.readouterr().err
    with pytest.raises(ElpError, match="must be a folder or a manifest"):
        from upstream_elp.launch import arguments

        (tmp_path / "some.txt").touch()
        arguments.data("--data", tmp_path / "some.txt")
