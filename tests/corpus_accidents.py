"""What happens to a corpus by accident, for generated tests."""

import os
import shutil
from pathlib import Path

from hypothesis import strategies as st

ENDINGS = (".wav", ".flac", ".WAV", ".FLAC", ".m4a", ".mp3", ".txt", ".wav.bak", "")
NAMES = ("notes", "0000", "Ses01F_impro01_F000", "100-7-0000", "100-7-0099", ".hidden", "x y")
place = st.integers(0, 10_000)
deeds = st.one_of(
    st.tuples(
        st.just("copy"),
        place,
        place,
        st.sampled_from(["", "a", "a/b"]),
        st.sampled_from(NAMES),
        st.sampled_from(ENDINGS),
    ),
    st.tuples(st.just("ending"), place, st.sampled_from([".WAV", ".FLAC", ".Wav", ".m4a"])),
    st.tuples(st.just("deeper"), place, st.sampled_from(["a", "a/b"])),
    st.tuples(st.just("delete"), place),
    st.tuples(st.just("link"), place, place, st.sampled_from(["loop", "id10009", "101"])),
    st.tuples(st.just("folder"), place, st.sampled_from(["notes", "id10009", "x.wav"])),
    st.tuples(st.just("table"), place, place, st.sampled_from(["notes.trans.txt", "copy.txt", "100-8.trans.txt"])),
    st.tuples(st.just("hide"), place),
)


def listed(root: Path, *, folders: bool = False, endings: tuple[str, ...] = ("",)) -> list[Path]:
    """Return everything below a folder, sorted, without following links."""
    found = []
    for parent, inner, names in os.walk(root):
        found += [Path(parent, name) for name in (inner if folders else names)]
    return sorted(path for path in found if path.name.lower().endswith(endings) and not path.is_symlink())


def do(root: Path, deed: tuple) -> None:
    """Change a corpus as a person might by accident."""
    kind, *rest = deed
    audio, folders = listed(root, endings=(".wav", ".flac")), listed(root, folders=True)
    texts = listed(root, endings=(".txt", ".csv"))
    if kind == "copy" and audio:
        target = folders[rest[1] % len(folders)] / rest[2] / (rest[3] + rest[4])
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(audio[rest[0] % len(audio)], target)
    elif kind in ("ending", "deeper", "delete", "hide") and audio:
        path = audio[rest[0] % len(audio)]
        if kind == "delete":
            path.unlink()
        elif kind == "ending":
            path.rename(path.with_suffix(rest[1]))
        elif kind == "hide":
            path.rename(path.with_name(f".{path.name}"))
        else:
            (path.parent / rest[1]).mkdir(parents=True, exist_ok=True)
            path.rename(path.parent / rest[1] / path.name)
    elif kind in ("link", "folder", "table"):
        target = folders[rest[0] % len(folders)] / rest[-1]
        if target.exists() or target.is_symlink():
            return
        if kind == "link":
            target.symlink_to(folders[rest[1] % len(folders)])
        elif kind == "folder":
            target.mkdir()
        elif texts:
            shutil.copy(texts[rest[1] % len(texts)], target)


def fresh_copy(whole: Path, corpus: str, tmp_path: Path, monkeypatch) -> Path:
    """Copy a corpus to be damaged to where the tasks look for it, without what an earlier example has left."""
    root = tmp_path / "data" / corpus
    shutil.rmtree(tmp_path / "data", ignore_errors=True)
    shutil.copytree(whole / corpus, root)
    monkeypatch.setenv("ELP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ELP_DATA", str(root.parent))
    return root
