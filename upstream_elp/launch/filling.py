"""``elp cache fill``: a run that computes its cached features instead of training."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence

from upstream_elp.base import settings
from upstream_elp.launch import start

HELP = """Usage: elp cache fill [flags of elp run]

  Compute the features of all splits of a run ahead of it.

  Takes the flags of `elp run -m train`; -m and -p may be omitted. Only the splits that
  the run trains on and evaluates are computed, and only those whose waves are the same
  in every epoch. An interrupted call continues where it stopped.

  Example: elp cache fill -u elp_wavlm_base_plus -g weighted_sum -d elp_ic --data DATA
           -o config.runner.cache=auto,,config.runner.features_of=utterance"""


def fill(argv: Sequence[str]) -> None:
    """Compute the features of the run that the flags describe.

    Args:
        argv: the flags of ``elp run``; ``-m train`` and a temporary ``-p`` are added if they are missing.

    Raises:
        ElpError: whatever the user can fix.
    """
    with tempfile.TemporaryDirectory(prefix="elp-fill-") as folder:
        flags = list(argv)
        if not {"-m", "--mode"} & set(flags):
            flags += ["-m", "train"]
        if not any(flag.split("=")[0] in ("-p", "--expdir", "-n", "--expname") for flag in flags):
            flags += ["-p", folder]
        with settings.in_force(dataclasses.replace(settings.current(), fill_cache=True)):
            start.adopt_main()
            start.run(flags)
