"""The processes that train together, as torchrun describes them; only this module reads its variables."""

import atexit
import os
import sys
from dataclasses import dataclass

from upstream_elp.base.errors import ElpError, counted

HIGHEST_PORT = 65535
_OTHERWISE = "start with `torchrun --nproc_per_node N -m upstream_elp.run`, which sets all of these variables"


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train together."""

    rank: int = 0
    """Number of this process; process 0 evaluates, saves and prints."""
    world: int = 1
    """Number of processes."""
    local: int | None = None
    """Number of this process on its machine; None if it is the only one."""

    @property
    def leads(self) -> bool:
        """Whether this process evaluates, saves and prints."""
        return self.rank == 0


def ranks(local: int | None = None) -> Ranks:
    """Read ``WORLD_SIZE``, ``RANK``, ``LOCAL_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT``.

    Args:
        local: value of ``--local_rank``; if given, a process group is made even for a single process.

    Raises:
        ElpError: a variable is missing, not a number or too large; torch would fail with a traceback, or wait
            forever for the other processes.
    """
    world, rank = _number("WORLD_SIZE", least=1), _number("RANK")
    if world is None and rank is None and local is None:
        return Ranks()
    if world == 1 and rank is None and local is None:
        return Ranks()
    if world is None or rank is None:
        raise _missing("WORLD_SIZE" if world is None else "RANK", local)
    if rank >= world:
        raise ElpError(
            f"RANK is {rank}, but WORLD_SIZE is {world}: the ranks of {counted(world, 'process', 'processes')} count "
            f"from 0; {_OTHERWISE}"
        )
    if world == 1 and local is None:
        return Ranks()
    here = _number("LOCAL_RANK") if local is None else local
    port = _number("MASTER_PORT", least=1, most=HIGHEST_PORT)
    for name, value in (("LOCAL_RANK", here), ("MASTER_ADDR", _variable("MASTER_ADDR")), ("MASTER_PORT", port)):
        if value is None:
            raise _missing(name, local)
    return Ranks(rank, world, here)


def end_rank() -> None:
    """End this process with status 0 if it has trained together with others; otherwise do nothing.

    An ordinary exit sometimes aborts such a process after its work is done: threads of gloo outlive the process group,
    and C++ destructors run next to them (https://github.com/pytorch/pytorch/pull/179291). This runs what is registered
    with ``atexit``, and no destructor.
    """
    if ranks().world > 1:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _variable(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None


def _number(name: str, *, least: int = 0, most: int | None = None) -> int | None:
    text = _variable(name)
    if text is None:
        return None
    value = int(text) if text.isascii() and text.isdigit() else -1
    if value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ElpError(f"{name} must be a whole number {limits}, but is {text!r}; {_OTHERWISE}")
    return value


def _missing(name: str, local: int | None) -> ElpError:
    known = {other: _variable(other) for other in ("WORLD_SIZE", "RANK")}
    found = [f"{other} is {value}" for other, value in known.items() if value is not None]
    found += [] if local is None else [f"--local_rank is {local}"]
    single = " or ".join([*(other for other, value in known.items() if value is not None)])
    otherwise = f"; for a single process, {f'unset {single}' if single else 'do not pass --local_rank'}"
    return ElpError(f"{' and '.join(found)}, but {name} is not set; {_OTHERWISE}{otherwise}")
