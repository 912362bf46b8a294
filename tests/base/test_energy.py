"""Energy: made-up counters of the kernel and of NVML, and what a meter adds up."""

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstream_elp.base import energy
from upstream_elp.base.energy import GPUS, PROCESSORS, Counter, Meter

ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:2": "psys",
    "intel-rapl-mmio:0": "package-0",
}
SPAN = 262_143_328_850
"""Microjoules after which a usual processor's counter starts again."""


@pytest.fixture
def powercap(tmp_path):
    """A tree as Linux has it, where each counter is at 1 J."""
    (tmp_path / "intel-rapl").mkdir()
    for folder, name in ZONES.items():
        (tmp_path / folder).mkdir()
        for file, content in (("name", name), ("energy_uj", 1_000_000), ("max_energy_range_uj", SPAN)):
            (tmp_path / folder / file).write_text(f"{content}\n")
    return tmp_path


class Nvml:
    """A stand-in for pynvml with two GPUs, whose counters are in millijoules."""

    def __init__(self):
        self.counts = {"GPU-a": 5_000, "GPU-b": 7_000}

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid not in self.counts:
            raise RuntimeError("Not Found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self.counts[handle]


def count(powercap, folder, microjoules):
    (powercap / folder / "energy_uj").write_text(str(microjoules))


def test_processors_are_their_packages_and_memory(powercap):
    meter = Meter(energy.processors(powercap))
    for folder in ZONES:
        count(powercap, folder, 3_500_000)
    assert meter.joules() == {PROCESSORS: pytest.approx(3 * 2.5)}  # two packages and one memory


def test_a_counter_that_starts_again(powercap):
    count(powercap, "intel-rapl:1", SPAN - 2_000_000)
    meter = Meter(energy.processors(powercap))
    count(powercap, "intel-rapl:1", 3_000_000)
    assert meter.joules() == {PROCESSORS: pytest.approx(5)}


@given(steps=st.lists(st.integers(0, 99), max_size=20), start=st.integers(0, 99))
def test_any_steps_add_up(steps, start):
    values = iter([start, *((start + sum(steps[: i + 1])) % 100 for i in range(len(steps)))])
    meter = Meter([Counter(GPUS, lambda: next(values), span=100)], period=1e9)
    found = [meter.joules()[GPUS] for _ in steps]
    meter.close()
    assert found == [sum(steps[: i + 1]) for i in range(len(steps))]


def test_readings_in_the_background_see_every_start():
    began = time.monotonic()
    meter = Meter([Counter(PROCESSORS, lambda: (time.monotonic() - began) % 0.5, span=0.5)], period=0.05)
    time.sleep(1.2)  # longer than two spans
    found = meter.joules()[PROCESSORS]
    meter.close()
    assert found == pytest.approx(time.monotonic() - began, abs=0.2)


def test_gpus_by_their_identities(monkeypatch):
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert energy.identity("a") == energy.identity("GPU-a") == "GPU-a"
    meter = Meter(energy.gpus(["GPU-b"]))
    nvml.counts = {"GPU-a": 9_000, "GPU-b": 7_250}
    assert meter.take() == {GPUS: 0.25}
    assert meter.joules() == {GPUS: 0}


def test_nvidias_package_has_the_functions_that_are_called():
    pynvml = pytest.importorskip("pynvml")
    called = [name for name in vars(Nvml) if name.startswith("nvml")]
    assert len(called) == 3 and all(callable(getattr(pynvml, name)) for name in called)


def test_what_cannot_be_read_has_a_reason(powercap, monkeypatch):
    assert energy.readable(powercap=powercap / "none")[1] == {
        PROCESSORS: f"{powercap}/none has no counter of a processor"
    }
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    (powercap / "intel-rapl:1" / "energy_uj").mkdir()  # not readable, also by root
    monkeypatch.setitem(sys.modules, "pynvml", None)
    counters, reasons = energy.readable(["GPU-a"], powercap)
    assert not counters and "intel-rapl:1" in reasons[PROCESSORS] and "s3prl-elp[energy]" in reasons[GPUS]
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    counters, reasons = energy.readable(["GPU-a", "MIG-1"], powercap)
    assert not counters and "Not Found" in reasons[GPUS]
    counters, reasons = energy.readable(["GPU-a"], powercap)
    assert [counter.kind for counter in counters] == [GPUS] and set(reasons) == {PROCESSORS}


def test_a_kind_that_fails_later_is_dropped():
    values = iter([1.0, 2.0])
    meter = Meter([Counter(GPUS, lambda: next(values)), Counter(PROCESSORS, lambda: 4.0)])
    assert meter.joules() == {GPUS: 1.0, PROCESSORS: 0.0}
    assert meter.joules() == {PROCESSORS: 0.0}


def test_a_sum_has_the_kinds_of_all_parts():
    assert energy.total([{GPUS: 1.0, PROCESSORS: 2.0}, {PROCESSORS: 3.0}]) == {PROCESSORS: 5.0}
    assert energy.total([{GPUS: 1.0}, None]) is None
    assert energy.total([]) is None
