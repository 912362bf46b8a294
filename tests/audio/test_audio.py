"""Loading single audio files: what is read, what is refused, and the error messages."""

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upstream_elp.audio.headers import read_header
from upstream_elp.audio.reading import audio_length, load_audio, read_samples
from upstream_elp.base.errors import ElpError


def write(path, wav, *, rate=16000, subtype=None):
    soundfile.write(path, wav, rate, subtype=subtype)
    return path


def tone(samples, *, rate=16000, hertz=440.0):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)


def refusal(path, **options):
    with pytest.raises(ElpError) as caught:
        load_audio(path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_sixteen_bit_samples_are_exact(tmp_path, suffix):
    ints = np.random.default_rng(0).integers(-32768, 32768, 5000, dtype=np.int16)
    wav = load_audio(write(tmp_path / f"a.{suffix}", ints, subtype="PCM_16"))
    assert wav.dtype == torch.float32
    assert wav.shape == (5000,)
    assert torch.equal(wav, torch.from_numpy(ints.astype(np.float32) / 32768))


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(400, 4000))
def test_length_is_the_header_s_length(tmp_path_factory, samples):
    path = write(tmp_path_factory.mktemp("length") / "a.wav", tone(samples))
    assert audio_length(path) == samples == load_audio(path).numel()


def test_resampling_keeps_the_tone(tmp_path):
    path = write(tmp_path / "a.wav", tone(48000, rate=48000), rate=48000)
    wav = load_audio(path, resample=True).numpy()
    assert wav.size == 16000
    middle = slice(1000, 15000)  # away from the filter's edges
    assert np.abs(wav - tone(16000))[middle].max() < 1e-3


def test_channel_rules(tmp_path):
    path = write(tmp_path / "a.wav", np.stack([tone(1000), np.zeros(1000)], axis=1), subtype="FLOAT")
    first = load_audio(path, channels="first")
    assert torch.allclose(load_audio(path, channels="mean"), first / 2)
    assert "2 channels" in refusal(path)
    with pytest.raises(ElpError, match="channels must be one of error, mean, first, but is "):
        load_audio(path, channels="left")


def test_other_rate_is_refused_unless_allowed(tmp_path):
    message = refusal(write(tmp_path / "a.wav", tone(8000, rate=8000), rate=8000))
    assert "8000 Hz instead of 16000" in message


def test_missing_file_and_folder(tmp_path):
    assert "not a file" in refusal(tmp_path / "none.wav")
    assert "not a file" in refusal(tmp_path)
    with pytest.raises(ElpError, match="not a file"):
        audio_length(tmp_path / "none.wav")


def test_files_that_are_not_audio(tmp_path):
    for name, content in {
        "text.wav": b"no audio at all",
        "empty.wav": b"",
        "head.flac": b"fLaC",
        "a.raw": b"x",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert "cannot be decoded" in refusal(path)
        assert refusal(path).count(name) == 1 and "b'" not in refusal(path)
        with pytest.raises(ElpError, match="cannot be decoded"):
            audio_length(path)


def test_corrupted_flac_is_refused(tmp_path):
    path = write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 40000))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    path.write_bytes(bytes(data))
    assert "cannot be decoded" in refusal(path)


def test_truncated_flac_is_refused(tmp_path):
    path = write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 40000))
    path.write_bytes(path.read_bytes()[:20000])
    assert "it is cut off or damaged (flac decoder lost sync); replace the file" in refusal(path)
    path.write_bytes(path.read_bytes()[:50])
    assert "it is cut off or damaged (unknown error in flac decoder)" in read_header(path).error


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_wav_cut_in_half_is_refused(tmp_path, subtype):
    """libsndfile itself would read the half that exists."""
    path = write(tmp_path / "a.wav", tone(40000), subtype=subtype)
    path.write_bytes(path.read_bytes()[:40000])
    assert len(soundfile.read(path)[0]) < 40000
    assert "is cut off" in refusal(path)
    with pytest.raises(ElpError, match="is cut off"):
        read_samples(path, dtype="int32")


def test_a_wav_of_a_pipe_is_read(tmp_path):
    """The sizes in the header of a wav that was written to a pipe have the largest possible value."""
    path = write(tmp_path / "a.wav", tone(1000), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    place = content.index(b"data")
    content[4:8] = content[place + 4 : place + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    assert load_audio(path).numel() == 1000


def test_a_wav_with_chunks_around_its_samples_is_read(tmp_path):
    path = write(tmp_path / "a.wav", tone(1000), subtype="PCM_16")
    content = path.read_bytes()
    place = content.index(b"data")
    odd = b"note\x03\x00\x00\x00abc\x00"
    path.write_bytes(content[:place] + odd + content[place:] + odd[:-1])  # the last padding byte is often missing
    assert load_audio(path).numel() == 1000


def test_empty_short_and_non_finite_audio(tmp_path):
    assert "0 samples" in refusal(write(tmp_path / "empty.wav", np.zeros(0)))
    assert "only 399 samples" in refusal(write(tmp_path / "short.wav", np.zeros(399)))
    assert load_audio(write(tmp_path / "least.wav", np.zeros(400))).numel() == 400
    for value in (np.nan, np.inf):
        wav = np.zeros(1000, dtype=np.float32)
        wav[17] = value
        assert "1 sample that is NaN or infinite" in refusal(write(tmp_path / "nan.wav", wav, subtype="FLOAT"))


def test_length_limit_counts_after_resampling(tmp_path):
    path = write(tmp_path / "a.wav", np.zeros(900), rate=48000)
    assert "only 300 samples" in refusal(path, resample=True)
