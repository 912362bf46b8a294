"""The length of each file after SoX's trimming, computed once per corpus and cached.

Reading and trimming all of VoxCeleb1 takes minutes, and the recipe needs the lengths before the first step (it skips
short utterances). S3PRL keeps a single table, for the first corpus that it sees, inside the installed package. Here a
table belongs to a folder and an effect chain, and each length in it to a file's name, size and modification time. So it
is never stale, and only files that have changed are read again.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from downstream_heads.common.files import cache_dir, digest
from upstream_elp.audio.decoding import RULES
from upstream_elp.audio.segments import file_of
from upstream_elp.audio.skips import SplitSkips
from upstream_elp.audio.sox import SUPERB_SV_EFFECTS, Effects, run_chain
from upstream_elp.audio.sox_samples import read_int32
from upstream_elp.base.errors import AudioError, ElpError
from upstream_elp.base.files import whole_file
from upstream_elp.base.values import problem_list

try:
    import fcntl
except ImportError:  # on Windows: several processes may compute the same table, which is only slower
    fcntl = None

CHUNK = 64
"""Files per job: enough to hide a job's overhead, but few enough for a smooth progress bar."""


UNUSABLE = -1
"""The length recorded for a file that cannot be read."""
State = tuple[int, int]
"""Size and modification time of a file."""


def trimmed_lengths(
    root: Path,
    names: Sequence[str],
    *,
    effects: Effects = SUPERB_SV_EFFECTS,
    n_jobs: int | None = None,
    skip: SplitSkips | None = None,
) -> np.ndarray:
    """Return the lengths of files in samples at 16 kHz, after a chain of effects.

    Args:
        root: folder of the files.
        names: paths relative to `root`.
        effects: the chain.
        n_jobs: threads; None uses one per CPU (decoding and NumPy release the GIL).
        skip: list of skipped files; if None, files that are missing or unreadable are an error.

    Returns:
        int64 array of shape `(files,)`, in the order of `names`; `UNUSABLE` for a skipped file.

    Raises:
        ElpError: files are missing or unreadable; lists the first ones.
    """
    states = _states(root, names, allow_missing=skip is not None)
    path = cache_dir() / "sv_lengths" / f"{digest(str(root.resolve()), effects, RULES)}.npz"
    lengths = _known(states, _read(path))
    problems: dict[str, str] = {}
    if None in lengths.values():
        with _only_one(path):
            table = _read(path)  # another process may have been faster
            lengths = _known(states, table)
            todo = [name for name, length in lengths.items() if length is None and states[name] is not None]
            found, problems = _compute(root, todo, effects, n_jobs)
            lengths.update(found)
            if found:
                _write(path, {**table, **{name: (*states[name], length) for name, length in found.items()}})
    problems.update({name: f"{root / name} is missing" for name, state in states.items() if state is None})
    if problems and skip is None:
        raise ElpError(problem_list(list(problems.values()), shown=5))
    for name, problem in problems.items():
        skip.note(AudioError(problem, root / name), lasting=True)
    return np.asarray([UNUSABLE if lengths[name] is None else lengths[name] for name in names], dtype=np.int64)


def trimmed_length(path: Path, effects: Effects = SUPERB_SV_EFFECTS) -> int:
    """Return the length of one file in samples, after the chain."""
    wav, _ = run_chain(*read_int32(path), effects)
    return wav.shape[1]


def _states(root: Path, names: Sequence[str], *, allow_missing: bool) -> dict[str, State | None]:
    """Return the size and modification time of every file, None if it does not exist."""
    states: dict[str, State | None] = {}
    for name in names:
        try:
            state = os.stat(os.path.join(root, file_of(name)))  # noqa: PTH116, PTH118 - pathlib takes far longer
            states[name] = (state.st_size, state.st_mtime_ns)
        except OSError as error:
            if not allow_missing:
                problem = f"{error.filename} cannot be read: {error.strerror}; check the corpus at {root}"
                raise ElpError(problem) from error
            states[name] = None
    return states


def _known(states: Mapping[str, State | None], table: Mapping[str, tuple[int, int, int]]) -> dict[str, int | None]:
    """Return the cached length of each unchanged file, None for the others."""
    lengths: dict[str, int | None] = {}
    for name, state in states.items():
        kept = table.get(name)
        lengths[name] = kept[2] if kept is not None and kept[:2] == state else None
    return lengths


def _compute(
    root: Path, names: Sequence[str], effects: Effects, n_jobs: int | None
) -> tuple[dict[str, int], dict[str, str]]:
    """Return the lengths of readable files, and the problems of the others."""
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    jobs = Parallel(n_jobs=n_jobs or os.cpu_count() or 1, prefer="threads", return_as="generator")
    lengths: dict[str, int] = {}
    problems: dict[str, str] = {}
    with tqdm(
        total=len(names),
        desc=f"lengths of {root}" if effects[-1][0] != "silence" else f"trimmed lengths of {root}",
        unit="file",
        dynamic_ncols=True,
    ) as bar:
        for found, wrong in jobs(delayed(_chunk)(root, chunk, effects) for chunk in chunks):
            lengths.update(found)
            problems.update(wrong)
            bar.update(len(found) + len(wrong))
    return lengths, problems


def _chunk(root: Path, names: Sequence[str], effects: Effects) -> tuple[dict[str, int], dict[str, str]]:
    lengths, problems = {}, {}
    for name in names:
        try:
            lengths[name] = trimmed_length(root / name, effects)
        except ElpError as error:
            problems[name] = str(error)
    return lengths, problems


def _read(path: Path) -> dict[str, tuple[int, int, int]]:
    """Read the cached table: name -> size, modification time, length; empty if there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as table:
            columns = [table[key].tolist() for key in ("names", "sizes", "times", "lengths")]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    names, *numbers = columns
    return dict(zip(names, zip(*numbers, strict=True), strict=True))


def _write(path: Path, table: Mapping[str, tuple[int, int, int]]) -> None:
    """Write the table in one step; if it cannot be written, the next start just takes longer."""
    sizes, times, lengths = np.asarray(list(table.values()), dtype=np.int64).T
    with contextlib.suppress(OSError), whole_file(path, "wb") as file:
        np.savez(file, names=np.asarray(list(table), dtype=np.str_), sizes=sizes, times=times, lengths=lengths)


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Let only one process at a time compute the same table, if the file system supports locks."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if fcntl is not None:
                lock = stack.enter_context(path.with_suffix(".lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
