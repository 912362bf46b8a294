"""Report weights that do not fit in one sentence: a backbone's (``-k``) or an experiment's (``-i``, ``-e``)."""

import pickle
from types import ModuleType
from typing import Any

from torch import nn

from upstream_elp.base.errors import ElpError

_UNFIT = (RuntimeError, ValueError, KeyError, TypeError, AttributeError)
_LOCAL = ("_local", "_url", "_custom", "_gdriveid")


def name_checkpoints(runner: ModuleType) -> None:
    """Replace ``runner.Runner`` with a subclass that names the file whose weights do not fit."""
    stock = runner.Runner

    class Runner(stock):
        """S3PRL's runner, with the file's name in errors while loading weights."""

        def _get_upstream(self) -> Any:
            try:
                return super()._get_upstream()
            except ElpError:
                raise
            except (*_UNFIT, pickle.UnpicklingError) as error:
                if not self.args.upstream_ckpt or not self.args.upstream.endswith(_LOCAL) or _out_of_memory(error):
                    raise
                raise ElpError(
                    f"-k {self.args.upstream_ckpt}: -u {self.args.upstream} cannot load it "
                    f"({type(error).__name__}: {reason(error)}); is it a checkpoint of that model in S3PRL's format? "
                    "-u elp_local recognises the family by itself"
                ) from error

        def _load_weight(self, model: nn.Module, name: str) -> None:
            try:
                super()._load_weight(model, name)
            except _UNFIT as error:
                if _out_of_memory(error):
                    raise
                raise ElpError(
                    f"{self.args.init_ckpt}: the {name} weights do not fit -u {self.args.upstream} "
                    f"-d {self.args.downstream} and this config ({reason(error)}); pass -i or -e a checkpoint with the "
                    "same task, upstream and config"
                ) from error

    Runner.__qualname__ = "Runner"
    runner.Runner = Runner


def reason(error: Exception) -> str:
    """The first problem that torch reports about a state dict, on one line and without the heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Error(s) in loading state_dict"):
        lines = lines[1:2]
    return " ".join(lines).rstrip(". ")[:300]


def _out_of_memory(error: Exception) -> bool:
    return "out of memory" in str(error)
