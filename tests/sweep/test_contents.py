"""The audio of a corpus counts by its content: all of a small set, and of a large one a part that stands for it."""

import random
import shutil

import numpy as np
import pytest
import soundfile

from upstream_elp.sweep import contents

NAMES = [f"s{number % 3}/a{number}.wav" for number in range(12)]


@pytest.fixture
def corpus(tmp_path):
    """Files of different sizes."""
    for number, name in enumerate(NAMES):
        (tmp_path / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "corpus" / name).write_bytes(random.Random(number).randbytes(100 + 10 * number))
    return tmp_path / "corpus"


def other(path, place):
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(5))
def test_any_byte_of_a_small_set_counts(seed, corpus):
    known, draw = contents.sample(corpus, NAMES), random.Random(seed)
    path = corpus / draw.choice(NAMES)
    other(path, draw.randrange(path.stat().st_size))
    assert contents.sample(corpus, NAMES) != known


def test_places_order_and_times_do_not_count_and_names_do(corpus, tmp_path):
    known = contents.sample(corpus, NAMES)
    copied = shutil.copytree(corpus, tmp_path / "copy", copy_function=shutil.copyfile)
    assert contents.sample(copied, [*reversed(NAMES), NAMES[0], f"{NAMES[1]}#t=0,1"]) == known
    (copied / NAMES[0]).rename(copied / "renamed.wav")
    assert contents.sample(copied, ["renamed.wav", *NAMES[1:]]) != known
    assert contents.sample(copied, NAMES) != known, "one is missing"
    assert contents.sample(corpus, []) != known


def test_of_a_large_set_the_ends_of_some_files_are_read(corpus, monkeypatch):
    for name, value in (("WHOLE", 1000), ("FILES", 4), ("ENDS", 20)):
        monkeypatch.setattr(contents, name, value)
    known = contents.sample(corpus, NAMES)
    at_an_end, between = [], []
    for name in NAMES:
        before = (corpus / name).read_bytes()
        for place, found in ((5, at_an_end), (50, between)):
            other(corpus / name, place)
            found.append(contents.sample(corpus, NAMES) != known)
            (corpus / name).write_bytes(before)
    assert sum(at_an_end) == 4 and not any(between)


def test_a_corpus_with_other_audio_of_the_same_names_and_sizes_is_another_run(planner, data, tmp_path):
    own = shutil.copytree(data, tmp_path / "data")
    known = {job.key for job in planner(corpora=own).work().jobs}
    assert known == {job.key for job in planner().work().jobs}
    for path in (own / "fluent_speech_commands_dataset").rglob("*.wav"):
        wave, rate = soundfile.read(path, dtype="int16")
        size = path.stat().st_size
        soundfile.write(path, np.flip(wave, 0), rate, subtype=soundfile.info(path).subtype)
        assert path.stat().st_size == size
    assert known.isdisjoint(job.key for job in planner(corpora=own).work().jobs)
