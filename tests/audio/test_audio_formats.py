"""Whatever a file's format and header, all readers return the same samples, or refuse it in one sentence."""

import io
import random
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio_files import RATE, of_unknown_length, with_sizes, written
from upstream_elp.audio import decoding
from upstream_elp.audio.headers import read_header
from upstream_elp.audio.mpeg import SLACK, samples_of_frames
from upstream_elp.audio.reading import audio_length, load_audio, read_samples
from upstream_elp.audio.sox import apply_effects_file
from upstream_elp.base.errors import ElpError
from upstream_elp.host import sound

LOSSLESS = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_16", "ALAC_24", "ALAC_32")
LENGTHS = st.one_of(st.integers(400, 6000), st.sampled_from([400, 1000, 4096, 8192]))


def wave(samples: int, seed: int = 0) -> np.ndarray:
    """Return 16-bit values, which every lossless encoding preserves."""
    time = np.arange(samples) / RATE
    noise = np.random.default_rng(seed).normal(0, 300, samples)
    return np.round(9000 * np.sin(2 * np.pi * 300 * time) + noise).astype(np.int16)


def writable() -> list[tuple[str, str]]:
    found = []
    for kind in soundfile.available_formats().keys() - {"SD2"}:  # which keeps its format in a second file
        for subtype in soundfile.available_subtypes(kind):
            try:
                written(wave(400), kind, subtype)
            except (soundfile.SoundFileError, ValueError):  # libsndfile only reads it
                continue
            found.append((kind, subtype))
    return sorted(found)


def readings(path: Path) -> dict:
    """Return the result of each reader for a file: samples of shape (samples,), or the sentence of its error."""
    rate = read_header(path).rate or RATE  # a few formats have a fixed rate
    readers = {
        "data set": lambda: load_audio(path, sample_rate=rate, channels="first").numpy(),
        "samples": lambda: read_samples(path)[0][:, 0],
        "torchaudio": lambda: sound.load(path)[0][0].numpy(),
        "torchaudio of an open file": lambda: _of_open_file(path),
        "torchaudio in parts": lambda: _in_parts(path, audio_length(path)),
        "torchaudio from a place on": lambda: np.concatenate(
            [sound.load(path, 0, 123)[0][0], sound.load(path, 123)[0][0]]
        ),
    }
    return {name: _answer(reader) for name, reader in readers.items()}


def lengths(path: Path) -> dict:
    """Return the length of a file from each function that states one."""
    counters = {
        "length": lambda: audio_length(path),
        "torchaudio": lambda: sound.info(path).num_frames,
        "effects": lambda: apply_effects_file(path, [])[0].shape[1],
        "header": partial(_header_length, path, decode=False),
        "check": partial(_header_length, path, decode=True),
    }
    return {name: _answer(counter) for name, counter in counters.items()}


def _in_parts(path: Path, length: int) -> np.ndarray:
    size = max(1000, length // 4)
    return np.concatenate([sound.load(path, start, size)[0][0] for start in range(0, length, size)])


def _of_open_file(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return sound.load(file)[0][0].numpy()


def _header_length(path: Path, *, decode: bool) -> int:
    header = read_header(path, decode=decode)
    if header.error:
        raise ElpError(f"{path}: {header.error}")
    return header.samples


def _answer(read):
    try:
        return read()
    except ElpError as error:
        assert "\n" not in str(error)
        return str(error)


def agreed(path: Path) -> np.ndarray | None:
    """Return the samples that all readers agree on, or None if all refuse the file and name it."""
    read, counted = readings(path), lengths(path)
    if any(isinstance(answer, str) for answer in (*read.values(), *counted.values())):
        assert all(isinstance(answer, str) for answer in read.values()), read
        assert all(isinstance(answer, str) for answer in counted.values()), counted
        assert all(path.name in answer for answer in (*read.values(), *counted.values())), (read, counted)
        return None
    first = read["data set"]
    for name, answer in read.items():
        assert np.array_equal(answer, first), name
    assert set(counted.values()) == {len(first)}, counted
    return first


@pytest.mark.parametrize(("kind", "subtype"), writable())
def test_all_readers_agree_on_every_format(tmp_path, kind, subtype):
    drawn = random.Random(f"{kind} {subtype}")  # hypothesis would take longer than the reading itself
    for samples in (400, 2 * drawn.randint(200, 4000)):  # even, for soundfile's own check of a VOX_ADPCM
        path = tmp_path / f"{samples}.{kind.lower()}"
        path.write_bytes(written(wave(samples), kind, subtype))
        check_format(path, samples, kind, subtype)


def check_format(path: Path, samples: int, kind: str, subtype: str) -> None:
    read = agreed(path)
    assert (read is None) == (kind == "RAW" or (kind, subtype) == ("PAF", "PCM_24"))
    if read is not None and subtype in LOSSLESS and kind != "SDS":  # which loses the last samples
        assert np.array_equal(read, wave(samples) / np.float32(32768))


# ------------------------------------------------------------------------------------------ headers as pipes write them


@settings(max_examples=20, deadline=None)
@given(samples=LENGTHS, subtype=st.sampled_from(["PCM_16", "PCM_24"]), block=st.sampled_from([1 << 18, 1000, 4096]))
def test_a_flac_of_unknown_length_is_the_flac_of_known_length(tmp_path_factory, samples, subtype, block):
    path = tmp_path_factory.mktemp("flac") / "a.flac"
    path.write_bytes(of_unknown_length(written(wave(samples), "FLAC", subtype)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "BLOCK", block)
        assert np.array_equal(agreed(path), wave(samples) / np.float32(32768))


@settings(max_examples=10, deadline=None)
@given(share=st.floats(0.3, 0.95))
def test_a_flac_of_unknown_length_that_is_cut_or_damaged_is_refused_by_all(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("flac") / "a.flac"
    content = of_unknown_length(written(wave(60000), "FLAC"))
    place = int(len(content) * share)
    path.write_bytes(content[:place] + bytes(500) + content[place + 500 :])
    assert agreed(path) is None
    path.write_bytes(content[:place])
    assert agreed(path) is None


SIZES = (0, 8, 36, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFDB)


@settings(max_examples=40, deadline=None)
@given(
    samples=LENGTHS,
    kind=st.sampled_from([("WAV", "PCM_16"), ("WAVEX", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24")]),
    riff=st.sampled_from([None, *SIZES]),
    data=st.sampled_from([None, 0, *SIZES[3:]]),
)
def test_a_wav_without_sizes_is_read_to_its_end(tmp_path_factory, samples, kind, riff, data):
    """A program that crashes or writes to a pipe leaves the initial sizes: zeros, or the largest values."""
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    path.write_bytes(with_sizes(written(wave(samples), *kind), riff=riff, data=data))
    assert np.array_equal(agreed(path), wave(samples) / np.float32(32768))


@settings(max_examples=40, deadline=None)
@given(
    samples=LENGTHS,
    kind=st.sampled_from(["WAV", "WAVEX", "AIFF"]),
    before=st.lists(st.binary(max_size=9), max_size=3),
    after=st.lists(st.binary(max_size=9), max_size=3),
    padded=st.booleans(),
)
def test_other_chunks_of_odd_sizes_are_passed_over(tmp_path_factory, samples, kind, before, after, padded):
    path = tmp_path_factory.mktemp("chunks") / "a.wav"
    content = written(wave(samples), kind, "PCM_16")
    place = content.index(b"SSND" if kind == "AIFF" else b"data")
    path.write_bytes(content[:place] + chunks(before, kind) + content[place:] + chunks(after, kind, padded=padded))
    assert np.array_equal(agreed(path), wave(samples) / np.float32(32768))


def chunks(contents: list[bytes], kind: str, *, padded: bool = True) -> bytes:
    """Chunks that no reader knows; the padding of the last one is often missing."""
    order, joined = ">I" if kind == "AIFF" else "<I", b""
    for content in contents:
        joined += b"note" + struct.pack(order, len(content)) + content + bytes(len(content) % 2)
    return joined if padded or not contents else joined[: len(joined) - len(contents[-1]) % 2]


@settings(max_examples=10, deadline=None)
@given(after=st.lists(st.binary(max_size=9), max_size=3), riff=st.sampled_from([None, 0, 36, 0xFFFFFFFF]))
def test_an_empty_wav_stays_empty(tmp_path_factory, after, riff):
    path = tmp_path_factory.mktemp("empty") / "a.wav"
    path.write_bytes(with_sizes(written(wave(0), "WAV", "PCM_16"), riff=riff, data=None) + chunks(after, "WAV"))
    assert audio_length(path) == read_header(path, decode=True).samples == sound.load(path)[0].shape[1] == 0
    with pytest.raises(ElpError, match="0 samples"):
        load_audio(path)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "AIFF", "RIFX"])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
def test_a_file_that_is_cut_off_is_refused_by_all(tmp_path, kind, subtype):
    """libsndfile itself would read the half that exists."""
    path = tmp_path / "a.wav"
    if kind == "RIFX":
        soundfile.write(path, wave(5000) / 32768, RATE, subtype=subtype, endian="BIG")
    else:
        path.write_bytes(written(wave(5000), kind, subtype))
    assert agreed(path) is not None
    path.write_bytes(path.read_bytes()[:4000])
    assert agreed(path) is None


def mp3(parts: list[np.ndarray], *, mode: str) -> bytes:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, 1, format="MP3", bitrate_mode=mode, compression_level=0.5) as writer:
        for part in parts:
            writer.write(part)
    return file.getvalue()


def without_first_frame(content: bytes) -> bytes:
    """The first frame of an mp3 states its length and contains no sound; cut pieces of a stream have none."""
    return content[content.index(content[:2], 10) :]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("loud_first", [True, False])
def test_an_mp3_is_read_to_its_end_or_refused(tmp_path, mode, loud_first):
    """Without a length in its header, libsndfile estimates it from the first bit rate and stops there."""
    loud = np.random.default_rng(0).uniform(-0.8, 0.8, 32000)
    content = mp3([loud, np.zeros(160000)] if loud_first else [np.zeros(160000), loud], mode=mode)
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    assert len(agreed(path)) == 192000
    path.write_bytes(without_first_frame(content))
    read = agreed(path)
    if mode == "VARIABLE" and loud_first:
        assert read is None
    else:
        assert 192000 <= len(read) < 192000 + 8 * 1152
    path.write_bytes(b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128) + content + b"TAG" + bytes(125))
    assert len(agreed(path)) == 192000
    path.write_bytes(content + content)
    assert agreed(path) is None


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_frames_of_an_mp3_hold_what_was_written(tmp_path, rate, channels):
    path = tmp_path / "a.mp3"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (30000, channels)), rate)
    with path.open("rb") as file:
        assert 30000 <= samples_of_frames(file) <= 30000 + SLACK
