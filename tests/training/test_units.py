"""bf16 on a CPU: one warning where the processor only imitates it."""

import logging

import pytest
import torch

from upstream_elp.training import units
from upstream_elp.training.precision import Precision

X86 = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu {} avx512f\nprocessor\t: 1\nflags\t\t: fpu {} avx512f\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd {} sve\n"


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """Sets the text of /proc/cpuinfo; None removes the file."""
    units.warn_without_bf16_units.cache_clear()
    monkeypatch.setattr(units, "CPU_INFO", tmp_path / "cpuinfo")
    yield lambda text: None if text is None else (tmp_path / "cpuinfo").write_text(text)
    units.warn_without_bf16_units.cache_clear()


@pytest.mark.parametrize(
    ("text", "flag", "has"),
    [
        (X86, "avx512_bf16", True),
        (X86, "amx_bf16", True),
        (X86, "avx512_vnni", False),
        (ARM, "bf16", True),
        (ARM, "asimdhp", False),
    ],
)
def test_linux_lists_the_units(text, flag, has, cpu):
    cpu(text.format(flag, flag))
    assert units.has_bf16_units() is has


@pytest.mark.parametrize(
    ("machine", "supported", "has"), [("AMD64", True, True), ("x86_64", False, False), ("arm64", False, None)]
)
def test_elsewhere_torch_knows(machine, supported, has, cpu, monkeypatch):
    cpu(None)
    monkeypatch.setattr(units.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert units.has_bf16_units() is has
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert units.has_bf16_units() is None


def test_this_torch_has_the_helpers():
    """They are private, so a new version may rename them."""
    assert all(isinstance(getattr(torch.cpu, f"_is_{unit}_supported")(), bool) for unit in ("avx512_bf16", "amx_tile"))


def test_one_warning_and_only_for_bf16_on_such_a_cpu(cpu, caplog):
    caplog.set_level(logging.WARNING)
    cpu(X86.format("avx512_bf16", "avx512_bf16"))
    Precision({"precision": "bf16"}, "cpu")
    assert not caplog.messages
    units.warn_without_bf16_units.cache_clear()
    cpu(X86.format("avx2", "avx2"))
    Precision({"precision": "fp32"}, "cpu")
    assert not caplog.messages
    for _ in range(2):
        Precision({"precision": "bf16"}, "cpu")
    (message,) = caplog.messages
    assert "runner.precision is bf16" in message and "longer than in fp32; remove the key" in message
