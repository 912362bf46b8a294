"""Unusual headers, encodings and levels in a corpus: tasks can read everything that `elp check` accepts."""

import json

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from downstream_heads.elp_sv.data import read_utterance
from downstream_heads.elp_sv.lengths import trimmed_lengths
from tests.audio_files import of_unknown_length, with_sizes, written
from tests.check_tools import ASR, DEEP, ER, IC, QUICK, SV, flags, look
from tests.task_tools import make_expert
from upstream_elp.audio.headers import HeaderCache, read_header
from upstream_elp.audio.levels import LEVELS, LevelWarning
from upstream_elp.commands.check import check
from upstream_elp.corpora import fluent, iemocap, librispeech, voxceleb1
from upstream_elp.host import sound
from upstream_elp.run import run

FILES = {"elp_asr": ASR, "elp_sv": SV, "elp_er": ER, "elp_ic": IC}
KINDS = {
    "FLAC of unknown length": lambda wav: of_unknown_length(written(wav, "FLAC", "PCM_16")),
    "wav without sizes": lambda wav: with_sizes(written(wav, "WAV", "PCM_16"), riff=0, data=0),
    "wav of a pipe": lambda wav: with_sizes(written(wav, "WAV", "PCM_16"), riff=0xFFFFFFFF, data=0xFFFFFFFF),
    "GSM": lambda wav: written(wav, "WAV", "GSM610"),
    "ADPCM": lambda wav: written(wav, "WAV", "MS_ADPCM"),
    "mp3": lambda wav: written(wav, "MP3", "MPEG_LAYER_III"),
    "Opus": lambda wav: written(wav, "OGG", "OPUS"),
}
INTEGERS = 32768


@pytest.fixture(autouse=True)
def data(own_data, monkeypatch):
    monkeypatch.setenv("ELP_DATA", str(own_data))
    return own_data


def samples_of(path):
    return (soundfile.read(path)[0] * INTEGERS).astype(np.int16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", FILES)
def test_what_check_passes_the_task_reads(task, kind, data, tmp_path):
    path = data / FILES[task]
    path.write_bytes(KINDS[kind](samples_of(path)))
    for options in (QUICK, DEEP):
        assert look(task, options=options).problems == []
    dataset = make_expert(task, tmp_path / "exp").dataset("train")
    assert len(list(dataset)) == len(dataset) > 0, "every item can be read"
    if task == "elp_sv":
        folder = data / "VoxCeleb1" / "dev" / "wav"
        kept = trimmed_lengths(folder, [path.relative_to(folder).as_posix()])
        assert kept == [len(read_utterance(path))]


# --- samples beyond full scale --------------------------------------------------------------------------------------


def louder(path, factor, *, subtype="FLOAT"):
    soundfile.write(path, soundfile.read(path)[0] * factor, 16000, format="WAV", subtype=subtype)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("task", FILES)
def test_integers_in_float_files_are_a_warning_of_check(task, subtype, data):
    assert look(task).warnings == []
    louder(data / FILES[task], INTEGERS, subtype=subtype)
    for options in (QUICK, DEEP, QUICK):
        found = look(task, options=options)
        assert found.problems == [] and len(found.warnings) == 1
        assert (
            "1 file contains samples beyond ±2" in found.warnings[0]
            and FILES[task].split("/", 1)[1] in found.warnings[0]
        )


@pytest.mark.parametrize("task", FILES)
def test_prepare_warns_of_it_too(task, data, tmp_path):
    make = {
        "elp_asr": librispeech.prepare,
        "elp_sv": voxceleb1.prepare,
        "elp_er": iemocap.prepare,
        "elp_ic": fluent.prepare,
    }[task]
    folder, name = FILES[task].split("/", 1)
    louder(data / FILES[task], INTEGERS)
    (warning,) = [text for text in make(data / folder, tmp_path / "out").warnings if "beyond" in text]
    assert f"1 file contains samples beyond ±2: {name} (up to" in warning


def test_check_prints_and_writes_the_warning(data, tmp_path):
    for number in range(3):
        louder(data / IC.replace("001", f"00{number}"), INTEGERS)
    result = CliRunner().invoke(check, ["-d", "elp_ic", "--json", str(tmp_path / "found.json")])
    assert result.exit_code == 0 and "WARNING: 3 files contain samples beyond ±2: wavs/speakers/" in result.output
    assert "divide 16-bit values by 32768" in result.output and "no problems" in result.output
    assert "3 files contain" in json.loads((tmp_path / "found.json").read_text())["warnings"][0]


def test_a_run_warns_once_before_it_trains(data, tmp_path, monkeypatch, capsys, recwarn):
    class Main:
        __file__ = "run_downstream.py"

        @staticmethod
        def main():
            LEVELS.take()
            LEVELS.note(np.full(400, 9.0), "wave")  # like reading the file again

    for number in range(3):
        louder(data / IC.replace("001", f"00{number}"), INTEGERS)
    monkeypatch.setattr("upstream_elp.launch.start.load_main", lambda script: Main)
    run(flags("elp_ic", data, tmp_path / "exp"))
    printed = capsys.readouterr().err
    assert printed.count("WARNING: 3 files contain samples beyond ±2") == 1 == printed.count("beyond ±2")
    assert not [one for one in recwarn if one.category is LevelWarning]


@pytest.mark.parametrize("factor", [1.0, 3.0, 6.0])
def test_mixing_and_lossy_codecs_do_not_warn(factor, tmp_path):
    """The tone's peak is 0.3: up to 2, twice full scale."""
    tone = 0.3 * np.sin(np.arange(4000) / 10)
    soundfile.write(tmp_path / "a.wav", tone * factor, 16000, subtype="FLOAT")
    for decode in (False, True):
        assert read_header(tmp_path / "a.wav", decode=decode).peak == 0
    soundfile.write(tmp_path / "a.wav", tone * 7, 16000, subtype="FLOAT")
    assert read_header(tmp_path / "a.wav").peak == pytest.approx(2.1, abs=0.01)


def test_one_sample_suffices_and_a_look_at_headers_sees_the_first_second(tmp_path):
    wav = np.zeros(40000)
    wav[20000] = -5
    soundfile.write(tmp_path / "a.wav", wav, 16000, subtype="FLOAT")
    assert read_header(tmp_path / "a.wav").peak == 0
    assert read_header(tmp_path / "a.wav", decode=True).peak == 5


def test_torchaudio_warns_of_the_first_file_of_a_process(tmp_path):
    LEVELS.take()
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.full(400, 9.0), 16000, subtype="FLOAT")
    with pytest.warns(LevelWarning, match=r"a\.wav \(up to 9\); samples must lie between -1 and 1") as caught:
        assert float(sound.load(tmp_path / "a.wav")[0].max()) == 9
        sound.load(tmp_path / "b.wav")
    assert len(caught) == 1 and len(LEVELS.take()) == 2


def test_what_other_rules_of_reading_found_is_not_used(tmp_path):
    """Earlier versions cached 2**63 - 1 samples for a FLAC of unknown length, or that it is damaged."""
    index = tmp_path / "index.jsonl"
    index.write_text(f'["a.flac", 9, 9, {2**63 - 1}, 16000, 1, false]\n["b.flac", 9, 9, 1, 16000, 1, true, "cut"]\n')
    assert not HeaderCache(index).records
