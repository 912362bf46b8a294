"""The energy that processors and GPUs use, from the counters that they keep themselves.

Processors: Linux's powercap interface (https://docs.kernel.org/power/powercap/powercap.html), which Intel and AMD
processors fill and which is often readable by root only. NVIDIA GPUs since Volta:
``nvmlDeviceGetTotalEnergyConsumption`` through NVIDIA's own package ``nvidia-ml-py``. A counter counts a whole device,
whoever uses it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
PROCESSORS, GPUS = "processors", "gpus"
KINDS = {PROCESSORS: "processors", GPUS: "GPUs"}
"""Their names in texts."""
HOUR = 3600
"""Joules in a watt-hour."""
PERIOD = 60.0
"""Seconds between two readings; a processor's counter starts again after ten minutes at the earliest."""


@dataclass(frozen=True)
class Counter:
    """One counter, which only rises until it starts again.

    Args:
        kind: a key of :data:`KINDS`.
        read: returns joules; raises an error if that fails.
        span: joules after which it starts again from 0; None if it never does.
    """

    kind: str
    read: Callable[[], float]
    span: float | None = None

    def between(self, before: float, after: float) -> float:
        """Joules from one value to a later one."""
        return after - before if self.span is None or after >= before else after - before + self.span


def processors(powercap: Path = POWERCAP) -> list[Counter]:
    """A counter for each processor and its memory.

    Returns:
        All of them; none if there are none.

    Raises:
        OSError: if one cannot be read.
    """
    found = []
    for zone in sorted(powercap.glob("intel-rapl:*")):  # AMD's have this name too; intel-rapl-mmio repeats them
        name = (zone / "name").read_text().strip()
        if name.startswith("package") or name == "dram":  # cores and graphics are parts of the package
            span = _joules(zone / "max_energy_range_uj")
            found.append(Counter(PROCESSORS, partial(_joules, zone / "energy_uj"), span))
    return _tried(found)


def _tried(counters: list[Counter]) -> list[Counter]:
    for counter in counters:
        counter.read()
    return counters


def _joules(path: Path) -> float:
    return int(path.read_text()) / 1e6


def identity(uuid: object) -> str:
    """A GPU's name for NVML, from ``torch.cuda.get_device_properties(device).uuid``."""
    return f"GPU-{str(uuid).removeprefix('GPU-')}"


def gpus(identities: Sequence[str]) -> list[Counter]:
    """A counter for each GPU.

    Args:
        identities: UUIDs, such as ``GPU-8f0e4b6c-…``.

    Raises:
        ImportError: without ``nvidia-ml-py``.
        Exception: NVML's own error if a GPU does not have a counter, as parts of one (MIG) do not.
    """
    import pynvml

    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByUUID(identity) for identity in identities]
    read = pynvml.nvmlDeviceGetTotalEnergyConsumption
    return _tried([Counter(GPUS, partial(_thousandths, read, handle)) for handle in handles])


def _thousandths(read: Callable[[Any], int], handle: Any) -> float:
    return read(handle) / 1e3


def readable(identities: Sequence[str] = (), powercap: Path = POWERCAP) -> tuple[list[Counter], dict[str, str]]:
    """The counters that can be read, and why those of the other kinds cannot.

    Args:
        identities: UUIDs of GPUs.
        powercap: where Linux describes processors' counters.

    Returns:
        Counters, and kind -> reason.
    """
    found, reasons = [], {}
    try:
        found += processors(powercap)
        if not found:
            reasons[PROCESSORS] = f"{powercap} has no counter of a processor"
    except (OSError, ValueError) as error:
        reasons[PROCESSORS] = f"a counter of a processor cannot be read: {error}"
    if not identities:
        return found, reasons
    try:
        found += gpus(identities)
    except ImportError:
        reasons[GPUS] = 'a GPU\'s counter is read with nvidia-ml-py: pip install "s3prl-elp[energy]"'
    except Exception as error:  # NVML's own errors are subclasses of Exception only
        reasons[GPUS] = f"a GPU's counter cannot be read: {error}"
    return found, reasons


class Meter:
    """Joules since a point in time.

    Args:
        counters: what to read. A kind whose counter fails later is no longer reported.
        period: seconds between readings in the background, so that no counter starts again twice unseen.
    """

    def __init__(self, counters: Iterable[Counter] = (), period: float = PERIOD) -> None:
        self._lock = threading.Lock()
        self._last = {counter: counter.read() for counter in counters}
        self._joules = {counter.kind: 0.0 for counter in self._last}
        self._ended = threading.Event()
        if any(counter.span is not None for counter in self._last):
            threading.Thread(target=self._keep_reading, args=(period,), daemon=True, name="energy").start()

    def joules(self) -> dict[str, float]:
        """Kind -> joules since this object was made, or since the last :meth:`take`."""
        with self._lock:
            self._read()
            return dict(self._joules)

    def take(self) -> dict[str, float]:
        """Kind -> joules as :meth:`joules` returns them; then count from 0 again."""
        with self._lock:
            self._read()
            taken, self._joules = self._joules, dict.fromkeys(self._joules, 0.0)
            return taken

    def close(self) -> None:
        """End the readings in the background."""
        self._ended.set()

    def _read(self) -> None:
        for counter, before in list(self._last.items()):
            if counter.kind not in self._joules:
                continue
            try:
                self._last[counter] = counter.read()
            except Exception:  # a driver that was reloaded, or rights that were taken away
                del self._joules[counter.kind]
            else:
                self._joules[counter.kind] += counter.between(before, self._last[counter])

    def _keep_reading(self, period: float) -> None:
        while not self._ended.wait(period):
            with self._lock:
                self._read()


def total(parts: Iterable[Mapping[str, Any] | None]) -> dict[str, float] | None:
    """The sum of several measurements, of the kinds that all of them have.

    Args:
        parts: kind -> joules of each.

    Returns:
        None if no kind is in all of them.
    """
    listed = [part or {} for part in parts]
    known = [kind for kind in KINDS if listed and all(kind in part for part in listed)]
    return {kind: sum(part[kind] for part in listed) for kind in known} or None
