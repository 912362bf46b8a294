"""How long each file is after SoX's trimming, computed once per corpus and kept outside the package.

Reading and trimming all of VoxCeleb1 takes minutes, and the recipe needs the lengths before the first step (it drops
what is too short). S3PRL keeps one table for whatever corpus came first, inside the installed package; here an entry is
named by the folder, every file's name, size and time of change, and the effect chain, so it can never be stale.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from downstream_heads.common.files import cache_dir, digest
from downstream_heads.common.options import problem_list
from downstream_heads.common.skips import SplitSkips
from upstream_elp.errors import AudioError, ElpError
from upstream_elp.files import whole_file
from upstream_elp.sox import SUPERB_SV_EFFECTS, read_int32, run_chain

try:
    import fcntl
except ImportError:  # not on Windows: processes then may compute the same table twice, which is only slower
    fcntl = None

CHUNK = 64
"""Files per job: large enough to hide a job's overhead, small enough for a living progress bar."""


UNUSABLE = -1
"""Stands in the table for a file that cannot be read."""


def trimmed_lengths(
    root: Path, names: Sequence[str], *, n_jobs: int | None = None, skip: SplitSkips | None = None
) -> np.ndarray:
    """Lengths in samples at 16 kHz, after SUPERB's chain of effects.

    Args:
        root: folder of the files.
        names: paths relative to `root`.
        n_jobs: threads; None takes one per CPU (decoding and NumPy release Python's lock).
        skip: takes files that are missing or cannot be read; None makes them an error.

    Returns:
        int64 array of shape `(files,)`, in the order of `names`; `UNUSABLE` for a file that `skip` took.

    Raises:
        ElpError: files are missing or unreadable; the first ones are listed.
    """
    key = _key(root, names, allow_missing=skip is not None)
    path = cache_dir() / "sv_lengths" / f"{key}.npz"
    lengths = _read(path, names)
    if lengths is None or (skip is None and (lengths == UNUSABLE).any()):
        with _only_one(path):
            lengths = _read(path, names)  # another process may have been faster
            if lengths is None or (skip is None and (lengths == UNUSABLE).any()):
                lengths, problems = _compute(root, names, n_jobs)
                if problems and skip is None:
                    raise ElpError(problem_list(problems, shown=5))
                _write(path, names, lengths)
    for place in np.flatnonzero(lengths == UNUSABLE):
        file = root / names[place]
        skip.note(AudioError(f"{file} cannot be read", file), lasting=True)
    return lengths


def trimmed_length(path: Path) -> int:
    """Length in samples of one file after the chain."""
    wav, _ = run_chain(*read_int32(path), SUPERB_SV_EFFECTS)
    return wav.shape[1]


def _key(root: Path, names: Sequence[str], *, allow_missing: bool) -> str:
    files = []
    for name in names:
        try:
            state = os.stat(os.path.join(root, name))  # noqa: PTH116, PTH118 - pathlib takes far longer
            files.append((name, state.st_size, state.st_mtime_ns))
        except OSError as error:
            if not allow_missing:
                problem = f"{error.filename} cannot be read: {error.strerror}; check the corpus at {root}"
                raise ElpError(problem) from error
            files.append((name, None, None))
    return digest(str(root.resolve()), files, SUPERB_SV_EFFECTS)


def _compute(root: Path, names: Sequence[str], n_jobs: int | None) -> tuple[np.ndarray, list[str]]:
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    jobs = Parallel(n_jobs=n_jobs or os.cpu_count() or 1, prefer="threads", return_as="generator")
    lengths: list[int] = []
    problems: list[str] = []
    with tqdm(total=len(names), desc=f"trimmed lengths of {root}", unit="file", dynamic_ncols=True) as bar:
        for found, wrong in jobs(delayed(_chunk)(root, chunk) for chunk in chunks):
            lengths += found
            problems += wrong
            bar.update(len(found))
    return np.asarray(lengths, dtype=np.int64), problems


def _chunk(root: Path, names: Sequence[str]) -> tuple[list[int], list[str]]:
    lengths, problems = [], []
    for name in names:
        try:
            lengths.append(trimmed_length(root / name))
        except ElpError as error:
            lengths.append(UNUSABLE)
            problems.append(str(error))
    return lengths, problems


def _read(path: Path, names: Sequence[str]) -> np.ndarray | None:
    """The kept table, or None if there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as table:
            fits = table["names"].tolist() == list(names)
            return table["lengths"] if fits else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, names: Sequence[str], lengths: np.ndarray) -> None:
    """Atomic. A cache that cannot be written costs time at the next start, no more."""
    with contextlib.suppress(OSError), whole_file(path, "wb") as file:
        np.savez(file, names=np.asarray(names, dtype=np.str_), lengths=lengths)


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Lets one process at a time compute the same table, where the file system knows locks."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if fcntl is not None:
                lock = stack.enter_context(path.with_suffix(".lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
