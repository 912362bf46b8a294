import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from upstream_elp.base.errors import ElpError
from upstream_elp.commands.mini_superb import mini_superb
from upstream_elp.mini import fluent, librispeech, superb, voxceleb
from upstream_elp.mini.superb import CORPORA, plan_corpora, verify_corpus, write_mini_superb

pytest.importorskip("espeakng_loader", reason="needs the extra `synth`")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    out = tmp_path_factory.mktemp("mini") / "superb"
    write_mini_superb(out, size="tiny", jobs=2)
    return out


def hashes(out):
    return {
        name: record["sha256"] for name, record in json.loads((out / "manifest.json").read_text())["corpora"].items()
    }


def plans(**changes):
    return plan_corpora({"size": "tiny", "seed": 0, "voices": 0, **changes})


def test_only_the_four_corpora_are_there(tiny):
    assert {path.name for path in tiny.iterdir()} == {*CORPORA, "manifest.json"}


def test_every_file_is_16_khz_mono_16_bit_and_unclipped(tiny):
    files = [path for suffix in ("wav", "flac") for path in tiny.rglob(f"*.{suffix}")]
    assert len(files) == sum(len(plan.utterances) for plan in plans())
    for path in files:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        wave, _ = soundfile.read(path)
        assert 0.02 < np.abs(wave).max() < 0.95, path
        assert -36 < 20 * np.log10(wave.std()) < -18, path
        low, high = (2.3, 4.3) if "VoxCeleb1" in path.parts else (0.5, 4.0)
        assert low < info.duration < high, path


def test_librispeech_layout(tiny):
    root, seen = tiny / "LibriSpeech", defaultdict(dict)
    for trans in root.rglob("*.trans.txt"):
        split, speaker, chapter, name = trans.relative_to(root).parts
        assert name == f"{speaker}-{chapter}.trans.txt"
        for line in trans.read_text().splitlines():
            utterance, text = line.split(" ", 1)
            assert re.fullmatch(rf"{speaker}-{chapter}-\d{{4}}", utterance)
            assert re.fullmatch(r"[A-Z']+( [A-Z']+)*", text)
            assert 2 <= len(text.split()) <= 5
            assert (trans.parent / f"{utterance}.flac").is_file()
            seen[split][utterance] = speaker
    assert list(seen) and set(seen) == set(librispeech.SPLITS)
    assert sum(map(len, seen.values())) == len(list(root.rglob("*.flac")))
    assert_disjoint([set(seen[split].values()) for split in seen])


def test_voxceleb_layout_and_trials(tiny):
    root = tiny / "VoxCeleb1"
    speakers = {split: {path.name for path in (root / split / "wav").iterdir()} for split in ("dev", "test")}
    assert_disjoint(speakers.values())
    for split in speakers:
        for speaker in speakers[split]:
            videos = list((root / split / "wav" / speaker).iterdir())
            assert re.fullmatch(r"id1\d{4}", speaker) and len(videos) >= 3
            assert all(re.fullmatch(r"\d{5}\.wav", file.name) for video in videos for file in video.iterdir())
    trials = [line.split() for line in (root / "voxceleb1_test_v2.txt").read_text().splitlines()]
    assert Counter(label for label, _, _ in trials) == {"1": 12, "0": 12}
    assert len({frozenset(pair) for _, *pair in trials}) == len(trials)
    for label, left, right in trials:
        assert (root / "test/wav" / left).is_file() and (root / "test/wav" / right).is_file()
        (first, video_1, _), (second, video_2, _) = left.split("/"), right.split("/")
        assert (first == second) == (label == "1")
        assert video_1 != video_2


def test_iemocap_layout(tiny):
    root = tiny / "IEMOCAP"
    for session in range(1, 6):
        folder, labels, genders = root / f"Session{session}", [], set()
        wavs = {path.stem: path.parent.name for path in (folder / "sentences/wav").rglob("*.wav")}
        for file in (folder / "dialog/EmoEvaluation").glob("*.txt"):
            for line in file.read_text().splitlines():
                if not line.startswith("["):
                    continue
                times, name, label, vad = line.split("\t")
                start, end = map(float, re.fullmatch(r"\[(\d+\.\d{4}) - (\d+\.\d{4})\]", times).groups())
                assert re.fullmatch(r"\[\d\.\d{4}, \d\.\d{4}, \d\.\d{4}\]", vad)
                parts = rf"(Ses0{session}[FM]_(?:impro\d\d|script\d\d_\d))_([FM])\d{{3}}"
                dialog, gender = re.fullmatch(parts, name).groups()
                assert wavs.pop(name) == dialog == file.stem
                seconds = soundfile.info(folder / "sentences/wav" / dialog / f"{name}.wav").duration
                assert end - start == pytest.approx(seconds, abs=1e-3)
                labels.append(label)
                genders.add(gender)
        assert wavs == {}
        assert genders == {"F", "M"}
        classes = Counter(
            label.replace("exc", "hap") for label in labels if label in ("neu", "hap", "exc", "ang", "sad")
        )
        assert set(classes) == {"neu", "hap", "ang", "sad"}
        assert max(classes.values()) - min(classes.values()) <= 1
        assert set(labels) - {"neu", "hap", "exc", "ang", "sad"}, "no label that the task must skip"


def test_fluent_layout(tiny):
    root, seen, intents = tiny / "fluent_speech_commands_dataset", {}, {}
    for split in fluent.SPLITS:
        text = (root / f"data/{split}_data.csv").read_text()
        assert text.startswith(",path,speakerId,transcription,action,object,location\n")
        rows = list(csv.DictReader(text.splitlines()))
        assert [row[""] for row in rows] == [str(index) for index in range(len(rows))]
        assert all(re.fullmatch(rf"wavs/speakers/{row['speakerId']}/[0-9a-f-]{{36}}\.wav", row["path"]) for row in rows)
        assert all((root / row["path"]).is_file() for row in rows)
        seen[split] = {row["speakerId"] for row in rows}
        intents[split] = Counter((row["action"], row["object"], row["location"]) for row in rows)
    assert_disjoint(seen.values())
    assert set(intents["train"]) == set(fluent.INTENTS) == set(intents["test"])
    for slot in range(3):
        assert len({intent[slot] for intent in fluent.INTENTS}) >= 3


@pytest.mark.parametrize("size", superb.SIZES)
def test_voices_speakers_and_sentences_of_splits_are_disjoint_in_every_size(size):
    for plan in plans(size=size):
        assert len(plan.voices()) >= 2
        assert_disjoint([set(names) for names in plan.voices().values()])
        for of in (lambda item: item.speaker, lambda item: item.voice.sound, lambda item: item.text):
            assert_disjoint([{of(item) for item in plan.utterances if item.split == split} for split in plan.voices()])
        assert len({utterance.path for utterance in plan.utterances}) == len(plan.utterances)
        assert len({utterance.seed for utterance in plan.utterances}) == len(plan.utterances)


def test_corpora_and_seeds_never_share_a_voice():
    every = [plan for seed in (0, 1) for plan in plans(seed=seed, voices=seed)]
    assert_disjoint([{item.voice.sound for item in plan.utterances} for plan in every])


def test_other_voices_say_the_same_sentences():
    for plan, other in zip(plans(), plans(voices=7), strict=True):
        assert [item.text for item in plan.utterances] == [item.text for item in other.utterances]
        assert not {item.voice.sound for item in plan.utterances} & {item.voice.sound for item in other.utterances}


def test_small_has_enough_test_items_for_small_errors():
    asr, sv, er, ic = plans(size="small")
    assert sum(len(item.text.split()) for item in asr.utterances if item.split == "test-clean") > 1800
    assert len(sv.tables([])[voxceleb.TRIALS].splitlines()) == 3360
    assert sum(item.split == "Session1" for item in er.utterances) == 1376
    assert sum(item.split == "test" for item in ic.utterances) == 1200
    for plan, split, people in ((asr, "test-clean", 540), (sv, "test", 280), (er, "Session1", 200), (ic, "test", 400)):
        assert len({item.voice.name for item in plan.utterances if item.split == split}) == people


def test_same_bytes_with_other_jobs_and_other_bytes_with_another_seed(tiny, tmp_path):
    write_mini_superb(tmp_path / "again", size="tiny", jobs=1)
    assert hashes(tmp_path / "again") == hashes(tiny)
    write_mini_superb(tmp_path / "other", size="tiny", jobs=4, seed=1)
    assert not set(hashes(tmp_path / "other").values()) & set(hashes(tiny).values())


def test_finished_corpora_are_kept_and_missing_ones_made(tiny, tmp_path):
    out = tmp_path / "mini"
    write_mini_superb(out, size="tiny")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")}
    gone = out / "LibriSpeech"
    subprocess.run(["rm", "-r", gone], check=True)
    (out / ".LibriSpeech.partial").mkdir()
    write_mini_superb(out, size="tiny", jobs=3)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")} == before
    assert hashes(out) == hashes(tiny)
    assert not list(out.glob(".*"))


def test_corpora_can_be_made_one_after_another(tiny, tmp_path):
    first = write_mini_superb(tmp_path, corpora=["IEMOCAP"], size="tiny")
    assert list(first["corpora"]) == ["IEMOCAP"] and not (tmp_path / "LibriSpeech").exists()
    again = CliRunner().invoke(mini_superb, [str(tmp_path), "--size", "tiny", "--tasks", "er,elp_sv", "--page"])
    assert again.exit_code == 0 and "VoxCeleb1" in again.output and "fluent" not in again.output
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<h2>") == 2
    write_mini_superb(tmp_path, size="tiny")
    assert hashes(tmp_path) == hashes(tiny)


@pytest.mark.parametrize("tasks", ["ks", "er,xx", ""])
def test_tasks_without_a_corpus_are_refused(tasks, tmp_path):
    error = CliRunner().invoke(mini_superb, [str(tmp_path / "x"), "--tasks", tasks]).exception
    assert str(error) == f"--tasks: mini-SUPERB has no corpus for {tasks[-2:]!r}; choose from asr, er, ic, sv"
    assert not (tmp_path / "x").exists()


def test_interrupted_run_leaves_nothing_half_made_and_continues(tiny, tmp_path):
    out = tmp_path / "mini"
    # A shell that started the tests in the background has SIGINT ignored, and children inherit that.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from upstream_elp.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "mini-superb", str(out), "--size", "tiny", "--jobs", "1"],
        env={**os.environ, "PYTHONPATH": str(Path(superb.__file__).parents[2])},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.time() + 30
    while not list(out.glob(".*.partial/**/*.flac")) and time.time() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0
    assert not list(out.glob(".*"))
    assert not (out / CORPORA[-1]).exists()
    write_mini_superb(out, size="tiny")
    assert hashes(out) == hashes(tiny)


def test_verify_sees_a_change(tiny, tmp_path):
    plan = plans()[0]
    subprocess.run(["cp", "-r", tiny / plan.name, tmp_path / plan.name], check=True)
    (tmp_path / plan.name / "extra.txt").write_text("others may add files")
    verify_corpus(tmp_path / plan.name, plan)
    path = tmp_path / plan.name / plan.utterances[3].path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ElpError, match="changed"):
        verify_corpus(tmp_path / plan.name, plan)
    path.unlink()
    with pytest.raises(ElpError, match="missing"):
        verify_corpus(tmp_path / plan.name, plan)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"size": "huge"}, "tiny, small, full"),
        ({"corpora": ["TIMIT"]}, "mini-SUPERB does not include the corpus TIMIT; it has LibriSpeech"),
        ({"seed": -1}, "seed"),
        ({"voices": -1}, "voices"),
        ({"jobs": 0}, "jobs"),
        ({"snr": (30, 10)}, "snr"),
        ({"snr": (float("nan"), 10)}, "snr"),
    ],
)
def test_wrong_arguments(tmp_path, wrong, named):
    with pytest.raises(ElpError, match=named):
        write_mini_superb(tmp_path / "x", **wrong)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("changed", [{"seed": 1}, {"size": "small"}, {"voices": 20}, {"snr": (0, 5)}])
def test_another_mini_superb_is_refused(tiny, changed):
    before = hashes(tiny)
    with pytest.raises(ElpError, match=f"another {next(iter(changed))}"):
        write_mini_superb(tiny, **{"size": "tiny", **changed})
    assert hashes(tiny) == before


def test_real_corpora_are_never_touched(tmp_path):
    (tmp_path / "LibriSpeech").mkdir()
    with pytest.raises(ElpError, match="not made by mini-superb"):
        write_mini_superb(tmp_path, size="tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["LibriSpeech"]


def test_missing_package_says_how_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ElpError, match=re.escape("pip install 's3prl-elp[synth]'")):
        write_mini_superb(tmp_path / "x", size="tiny")


def test_worker_failure_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("upstream_elp.mini.voices.ACCENTS", ("xx-nowhere",))
    with pytest.raises(ElpError, match=r"does not know the voice 'xx-nowhere\+"):
        write_mini_superb(tmp_path / "x", size="tiny")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["manifest.json"]


def test_command_prints_the_table(tiny):
    result = CliRunner().invoke(mini_superb, [str(tiny), "--size", "tiny"], catch_exceptions=False)
    assert result.exit_code == 0
    assert re.search(r"VoxCeleb1\s+test\s+12\s+4\s+0\.009", result.output)


def test_the_page_shows_every_class_and_needs_no_other_file(tmp_path):
    result = CliRunner().invoke(
        mini_superb, [str(tmp_path / "mini"), "--size", "tiny", "--page"], catch_exceptions=False
    )
    assert f"page: {tmp_path}/mini/page.html" in result.output
    page = (tmp_path / "mini" / "page.html").read_text(encoding="utf-8")
    assert all(f"<h2>{name}</h2>" in page for name in CORPORA)
    for plan in plans():
        for label in (
            {utterance.label for utterance in plan.utterances} if plan.name in ("IEMOCAP", fluent.NAME) else ()
        ):
            assert f"<td>{label}</td>" in page and f"<figcaption>{label} · " in page
    assert page.count("<audio") == page.count("<img") > 20
    assert not re.search(r"(?:src|href)=.(?!data:)", page)
    assert len(page) < 4_000_000


def assert_disjoint(groups):
    for first, second in itertools.combinations(list(groups), 2):
        assert first and second
        assert not first & second
