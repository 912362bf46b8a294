"""eSpeak NG through its C interface: text and a voice in, samples out.

The library comes with the optional package `espeakng-loader`. It keeps state between utterances, so two runs only agree
sample by sample if a fresh process speaks the same utterances in the same order (see `worker.py`).
"""

import ctypes
import importlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np

from upstream_elp.base.errors import ElpError
from upstream_elp.mini.voices import Voice

#: espeak_AUDIO_OUTPUT: samples go to a callback, and espeak_Synth returns when all of them are there
_RETRIEVAL_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report missing data instead of ending the process
_CHARS_UTF8 = 1
_PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "pitch_range": 4}  # espeak_PARAMETER
_MAX_PATH = 120  # the library copies the path into a short fixed buffer

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def require_loader() -> ModuleType:
    """Import `espeakng_loader`, or raise an ElpError that says how to install it."""
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError as error:
        raise ElpError(
            "speech synthesis needs the optional package espeakng-loader; run pip install 's3prl-elp[synth]'"
        ) from error


class Espeak:
    """The synthesiser of this process; the library allows one instance per process."""

    def __init__(self) -> None:
        loader = require_loader()
        try:
            self._library = ctypes.CDLL(loader.get_library_path())
        except OSError as error:
            raise ElpError(f"cannot load the eSpeak NG library of espeakng-loader: {error}") from error
        self._chunks: list[np.ndarray] = []
        self._callback = _Callback(self._receive)  # referenced here so that it outlives the call
        self._short_path: tempfile.TemporaryDirectory | None = None
        data = self._data_path(Path(loader.get_data_path()))
        self.rate = self._library.espeak_Initialize(_RETRIEVAL_SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT)
        if self.rate <= 0:
            raise ElpError(f"eSpeak NG cannot read its data in {data}; reinstall espeakng-loader")
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, *, voice: str, **parameters: int) -> np.ndarray:
        """Synthesise a sentence.

        Args:
            text: the sentence.
            voice: language and variant, such as `en-us+f1`.
            **parameters: `rate` (words per minute, 80-450), `pitch` and `pitch_range` (0-100, where 50 is the voice's
                own), and `volume` (0-200, where 100 is normal).

        Returns:
            (samples,) int16 at `self.rate` Hz.

        Raises:
            ElpError: the voice is unknown, or there is no sound.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ElpError(f"eSpeak NG does not know the voice {voice!r}; install another version of espeakng-loader")
        for name, value in parameters.items():
            self._library.espeak_SetParameter(_PARAMETERS[name], int(value), 0)
        self._chunks.clear()
        encoded = text.encode()
        status = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        if status != 0 or not self._chunks:
            raise ElpError(f"eSpeak NG produced no sound for {text!r} with the voice {voice!r}")
        return np.concatenate(self._chunks)

    def _receive(self, samples: "ctypes._Pointer", count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0  # continue

    def _data_path(self, path: Path) -> Path:
        if len(os.fsencode(path)) <= _MAX_PATH:
            return path
        self._short_path = tempfile.TemporaryDirectory(prefix="elp-")
        link = Path(self._short_path.name) / "espeak-ng-data"
        link.symlink_to(path, target_is_directory=True)
        return link


class DrawnEspeak(Espeak):
    """eSpeak NG with further variants, in a copy of its data folder that consists of links.

    Args:
        voices: the variants to add.
    """

    def __init__(self, voices: Iterable[Voice]) -> None:
        self._copy = tempfile.TemporaryDirectory(prefix="elp-")
        self._fill(Path(self._copy.name) / "espeak-ng-data", Path(require_loader().get_data_path()), voices)
        super().__init__()

    def _data_path(self, path: Path) -> Path:
        return super()._data_path(Path(self._copy.name) / path.name)

    @staticmethod
    def _fill(copy: Path, original: Path, voices: Iterable[Voice]) -> None:
        (copy / "voices" / "!v").mkdir(parents=True)
        for file in original.iterdir():
            if file.name != "voices":
                (copy / file.name).symlink_to(file)
        for voice in voices:
            (copy / "voices" / "!v" / voice.name).write_text(voice.text, encoding="utf-8")
