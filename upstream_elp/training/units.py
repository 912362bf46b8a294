"""Whether this machine's processor computes in bfloat16, or only imitates it."""

from __future__ import annotations

import logging
import platform
import re
from functools import cache
from pathlib import Path

import torch

logger = logging.getLogger(__name__)
CPU_INFO = Path("/proc/cpuinfo")
UNITS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Flags of processors with such units: two of x86, one of ARM."""


def has_bf16_units() -> bool | None:
    """Return whether the processor has units for bfloat16; None if unknown."""
    try:
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        text = ""
    if flags := re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE):
        return bool(UNITS & set(flags[1].split()))
    helpers = [getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile")]
    if platform.machine().lower() not in ("x86_64", "amd64") or None in helpers:
        return None
    return any(helper() for helper in helpers)


@cache
def warn_without_bf16_units() -> None:
    """Log one warning per process if bfloat16 is slower here than float32."""
    if has_bf16_units() is False:
        logger.warning(
            "runner.precision is bf16, but this CPU has no units for it (avx512_bf16, amx_bf16 or ARM's bf16), so "
            "steps take longer than in fp32; remove the key"
        )
