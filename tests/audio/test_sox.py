"""The SoX stand-in: against the program where it is installed, and against a plain sample-by-sample reference."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upstream_elp.audio.sox import (
    SUPERB_SV_EFFECTS,
    apply_effects_file,
    apply_effects_tensor,
    run_chain,
    superb_sv_effects,
)
from upstream_elp.audio.sox_samples import int32_to_float32, read_int32, tensor_to_int32
from upstream_elp.base.errors import ElpError

RATE = 16000
SILENCE = SUPERB_SV_EFFECTS[-1]
needs_sox = pytest.mark.skipif(shutil.which("sox") is None, reason="the sox program is not installed")


def sox(path, effects):
    """Return the output of the program as interleaved float32 samples."""
    command = ["sox", "-V1", str(path), "-t", "f32", "-", *(word for effect in effects for word in effect)]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)


def ours(path, effects):
    wav, rate = apply_effects_file(path, effects)
    assert rate == RATE  # every chain here ends there
    return wav.t().reshape(-1).numpy()  # (channels, samples) -> interleaved


def bursts(seed, seconds, *, rate=RATE):
    """Noise bursts of many levels between pauses, over a floor near the threshold of -60 dB."""
    rng = np.random.default_rng(seed)
    level = np.zeros(int(seconds * rate))
    position = 0
    while position < level.size:
        length = int(rng.uniform(0.02, 0.6) * rate)
        if rng.random() < 0.5:
            level[position : position + length] = 10 ** rng.uniform(-3.2, -0.3)
        position += length
    floor = 10 ** rng.uniform(-3.8, -2.6)
    return np.clip((0.4 * level + floor) * rng.standard_normal(level.size), -1, 1)


def reference_silence(wav, *, window=320, start=1600, stop=1600, level=0.001 * (2**31 - 1)):
    """Apply the rules sample by sample."""
    kept, held, ring, total, sounding = [], [], [0.0] * window, 0.0, False
    for value in wav:
        square = float(value) * float(value)
        total = total - ring.pop(0) + square
        ring.append(square)
        above = total > 0 and int((total / window) ** 0.5) > level
        if sounding and above:
            kept += [*held, value]
            held = []
        elif sounding:
            held.append(value)
            if len(held) == stop:
                sounding, held, ring, total = False, [], [0.0] * window, 0.0
        elif above:
            held.append(value)
            if len(held) == start:
                sounding, kept, held = True, kept + held, []
        else:
            held = []
    return kept + (held if sounding else [])


# ---------------------------------------------------------------------------------------------- without the program


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), seconds=st.floats(0.0, 3.0))
def test_silence_follows_the_rules(seed, seconds):
    wav = (bursts(seed, seconds) * 2**31).astype(np.int64).clip(-(2**31), 2**31 - 1).astype(np.int32)
    out, _ = run_chain(wav[None], RATE, [SILENCE])
    assert out[0].tolist() == reference_silence(wav.tolist())


def test_silence_cuts_long_audio_as_the_rules_do():
    """There is no cut for longer than the first search of four seconds, then there are cuts."""
    wav = np.concatenate([np.full(150_000, 10**8), np.zeros(5000), bursts(1, 3.0) * 2**31]).astype(np.int32)
    out, _ = run_chain(wav[None], RATE, [SILENCE])
    assert out[0].tolist() == reference_silence(wav.tolist())


def test_silence_by_hand():
    """After 5,000 loud samples the level stays up for 319 more; then a pause of 1,600 is dropped, one of 1,599 kept."""
    loud = np.full(5000, 10**8)
    for zeros, kept in ((1918, 5000 + 1918), (1919, 5000 + 319)):
        out, _ = run_chain(np.concatenate([loud, np.zeros(zeros)]).astype(np.int32)[None], RATE, [SILENCE])
        assert out.shape == (1, kept)


@pytest.mark.parametrize("samples", [0, 1, 1599, 16000])
def test_silent_or_tiny_audio_gives_no_samples(samples):
    out = superb_sv_effects(torch.zeros(samples), RATE)
    assert out.shape == (1, 0)
    assert out.dtype == torch.float32


def test_input_kinds_agree(tmp_path):
    ints = (bursts(3, 2.0) * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", ints, RATE)
    from_file, _ = apply_effects_file(tmp_path / "a.wav", SUPERB_SV_EFFECTS)
    wav = torch.from_numpy(ints)
    assert torch.equal(superb_sv_effects(wav, RATE), from_file)
    assert torch.equal(superb_sv_effects(wav.float() / 2**15, RATE), from_file)
    assert torch.equal(superb_sv_effects(wav.to(torch.int32) << 16, RATE), from_file)
    tall, _ = apply_effects_tensor((wav.float() / 2**15)[:, None], RATE, SUPERB_SV_EFFECTS, channels_first=False)
    assert torch.equal(tall[:, 0], from_file[0])
    flipped, _ = apply_effects_file(tmp_path / "a.wav", SUPERB_SV_EFFECTS, channels_first=False)
    assert torch.equal(flipped, from_file.t())


def test_gain_is_in_decibel():
    out, _ = apply_effects_tensor(torch.full((1, 100), 0.5), RATE, [["gain", "-6.0"]])
    assert torch.allclose(out, torch.tensor(0.5 * 10 ** (-6 / 20)), atol=1e-7)


def test_float_resolution_is_24_bits():
    out = int32_to_float32(np.array([2**31 - 1, -(2**31), 63, 64, -64, -65]))
    assert out.tolist() == [1.0, -1.0, 0.0, 2**-24, 0.0, -(2**-24)]


@pytest.mark.parametrize(
    "effects",
    [
        [["vad", "-T", "0.25"]],
        [["silence", "2", "0.1", "0.1%", "-1", "0.1", "0.1%"]],
        [["silence", "1", "0.1", "0.1%"]],
        [["silence", "1", "1600", "0.1%", "-1", "0.1", "0.1%"]],
        [["gain", "loud"]],
        [["gain", "-n", "-3"]],
        [["channels", "2"], ["silence", "1", "0.1", "0.1%", "-1", "0.1", "0.1%"]],
    ],
)
def test_unsupported_effects_are_refused(effects):
    with pytest.raises(ElpError, match="support") as caught:
        apply_effects_tensor(torch.zeros(1, 1000), RATE, effects)
    assert effects[-1][0] in str(caught.value)


def test_wrong_inputs_are_refused(tmp_path):
    with pytest.raises(ElpError, match=r"none\.wav"):
        apply_effects_file(tmp_path / "none.wav", SUPERB_SV_EFFECTS)
    soundfile.write(tmp_path / "nan.wav", np.full(1000, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(ElpError, match=r"nan\.wav.*NaN"):
        apply_effects_file(tmp_path / "nan.wav", SUPERB_SV_EFFECTS)
    with pytest.raises(ElpError, match="NaN"):
        superb_sv_effects(torch.full((1000,), float("nan")), RATE)
    with pytest.raises(ElpError, match="normalize=True"):
        apply_effects_file(tmp_path / "nan.wav", SUPERB_SV_EFFECTS, normalize=False)
    with pytest.raises(ElpError, match="2 axes"):
        apply_effects_tensor(torch.zeros(1000), RATE, SUPERB_SV_EFFECTS)


# ------------------------------------------------------------------------------------------------- with the program


@needs_sox
@pytest.mark.parametrize("kind", ["PCM_16", "flac", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8", "ULAW", "stereo"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_sox_bit_for_bit(tmp_path, kind, seed):
    wav = bursts(seed, 4.0)
    path = tmp_path / ("a.flac" if kind == "flac" else "a.wav")
    if kind == "stereo":
        wav = np.stack([wav, bursts(seed + 50, 4.0)], axis=1)
    soundfile.write(path, wav, RATE, subtype=kind if kind not in ("flac", "stereo") else "PCM_16")
    expected = sox(path, SUPERB_SV_EFFECTS)
    assert 0 < expected.size < 4 * RATE, "the test audio should be cut"
    assert np.array_equal(ours(path, SUPERB_SV_EFFECTS), expected)


@needs_sox
@pytest.mark.parametrize("samples", [0, 1, 400, 1599, 1600, 1601, 5000])
@pytest.mark.parametrize("scale", [0.0, 0.0009, 0.0018, 0.5, 20.0])
def test_equals_sox_on_silent_short_and_clipped_audio(tmp_path, samples, scale):
    wav = np.clip(scale * np.random.default_rng(samples).standard_normal(samples), -1, 1)
    soundfile.write(tmp_path / "a.wav", wav, RATE)
    assert np.array_equal(ours(tmp_path / "a.wav", SUPERB_SV_EFFECTS), sox(tmp_path / "a.wav", SUPERB_SV_EFFECTS))


@needs_sox
@pytest.mark.parametrize("level", [2147483, 2147484])
def test_threshold_is_sox_s(tmp_path, level):
    soundfile.write(tmp_path / "a.wav", np.full(5000, level, dtype=np.int32), RATE, subtype="PCM_32")
    expected = sox(tmp_path / "a.wav", [SILENCE])
    assert expected.size == (0 if level == 2147483 else 5000 - 319)
    assert np.array_equal(ours(tmp_path / "a.wav", [SILENCE]), expected)


@needs_sox
@pytest.mark.parametrize(
    "effects",
    [
        [["channels", "1"], ["rate", "16000"], ["gain", "-3.0"]],
        [["gain", "6"]],
        [["norm"]],
        [["norm", "-3"]],
        [["vol", "0.3"]],
        [["reverse"]],
        [["pad", "0.1", "3"]],
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 2])
def test_single_effects_equal_sox(tmp_path, effects, channels):
    wav = np.stack([bursts(k, 1.0) for k in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", wav, RATE)
    assert np.array_equal(ours(tmp_path / "a.wav", effects), sox(tmp_path / "a.wav", effects))


@needs_sox
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_rates_are_close_to_sox(tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, bursts(rate, 3.0, rate=rate), rate)
    expected, found = sox(path, SUPERB_SV_EFFECTS[:3]), ours(path, SUPERB_SV_EFFECTS[:3])
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2e-3  # broadband noise, the worst case; 4e-5 in speech
    trimmed, kept = sox(path, SUPERB_SV_EFFECTS).size, ours(path, SUPERB_SV_EFFECTS).size
    assert trimmed < expected.size
    assert abs(trimmed - kept) <= 5


@needs_sox
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_files_are_read_as_sox_reads_them(tmp_path, subtype):
    rng = np.random.default_rng(0)
    wav = rng.uniform(-1, 1, 2000) * 2.0 ** rng.integers(-32, 2, 2000)
    path = tmp_path / "a.wav"
    soundfile.write(path, wav, RATE, subtype=subtype)
    command = ["sox", "-V1", str(path), "-t", "s32", "-"]
    expected = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.int32)
    assert np.array_equal(read_int32(path)[0][0], expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_any_precision_are_taken(dtype):
    wav = (torch.arange(-64, 64) / 64).repeat(8)  # exact in eight bits
    assert np.array_equal(tensor_to_int32(wav.to(dtype).requires_grad_()), tensor_to_int32(wav))
