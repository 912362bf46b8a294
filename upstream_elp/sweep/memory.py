"""Main memory and GPU memory in bytes: what a process took, what is free, and what processes use now."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from upstream_elp.base.memory import peak_memory

CONTEXT = 2**29
"""What CUDA takes on a GPU for each process, in addition to tensors."""


def peaks() -> dict[str, int]:
    """The largest memory of this process so far: ``host``, and ``gpu`` of its busiest GPU.

    Data-loading processes are not counted.
    """
    found = {"host": peak_memory(), "gpu": 0}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        count = torch.cuda.device_count()
        found["gpu"] = max(torch.cuda.max_memory_reserved(number) for number in range(count)) + CONTEXT
    return found


def free_host(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Main memory that processes can still take, within the limits of this process's control groups.

    Args:
        proc: where Linux describes processes.
        groups: where it describes control groups.

    Returns:
        Bytes; None if the system does not say.
    """
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if len(line.split()) > 1}
    found = [sizes["MemAvailable"]] if "MemAvailable" in sizes else []
    with contextlib.suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            number, kinds, path = line.split(":", 2)
            if number == "0" and not kinds:
                found += _free_in(groups, path, ("memory.max", "memory.current", "inactive_file"))
            elif "memory" in kinds.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                found += _free_in(groups / "memory", path, names)
    return max(0, min(found)) if found else None


def _free_in(root: Path, path: str, names: tuple[str, str, str]) -> list[int]:
    """What is free in a control group and in those that contain it; files that are only cached can be dropped."""
    limit, used, cached = names
    found = []
    for folder in (root / path.lstrip("/"), *(root / path.lstrip("/")).parents):
        if not folder.is_relative_to(root):
            break
        with contextlib.suppress(OSError, ValueError, KeyError):  # no such limit ("max"), or no such group here
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            most, now = (int((folder / name).read_text()) for name in (limit, used))
            found.append(most - now + int(stat[cached]))
    return found


def gpu(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """The free and the total memory of the GPU that a process with these variables sees first.

    A process of its own asks, since asking takes :data:`CONTEXT` until it ends.

    Args:
        environment: its variables, such as ``CUDA_VISIBLE_DEVICES``.

    Returns:
        None if the GPU does not say.
    """
    command = [sys.executable, "-c", "import torch; print(*torch.cuda.mem_get_info(0))"]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return (int(words[0]), int(words[1])) if done.returncode == 0 and len(words) == 2 else None


def used(proc: Path = Path("/proc")) -> dict[int, int]:
    """The main memory that each process uses now, with all that it has started; empty where there is no ``/proc``."""
    table = _processes(proc)
    total: dict[int, int] = defaultdict(int)
    for number, (_, size) in table.items():
        for above in _upwards(number, table):
            total[above] += size
    return dict(total)


def family(root: int, proc: Path = Path("/proc")) -> list[int]:
    """A process and all that it has started, directly or not; only itself where there is no ``/proc``."""
    table = _processes(proc)
    return [root, *(number for number in table if number != root and root in _upwards(number, table))]


def _processes(proc: Path) -> dict[int, tuple[int, int]]:
    """The parent of each process, and its bytes."""
    found = {}
    page = os.sysconf("SC_PAGE_SIZE")
    for path in proc.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it may have ended in the meantime
            fields = path.read_text().rpartition(")")[2].split()  # after the name, which may contain spaces
            found[int(path.parent.name)] = int(fields[1]), int(fields[21]) * page
    return found


def _upwards(number: int, table: Mapping[int, tuple[int, int]]) -> list[int]:
    """A process, its parent, and so on."""
    found: list[int] = []
    while number in table and number not in found:
        found.append(number)
        number = table[number][0]
    return found
