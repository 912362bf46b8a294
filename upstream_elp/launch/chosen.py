"""The adapter that the flags of a run choose, read once."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from upstream_elp.adapters.config import AdapterConfig, load_named
from upstream_elp.base.yaml_files import read_yaml
from upstream_elp.upstream.adapter_folder import CONFIG_FILE, is_adapter_folder


@dataclass(frozen=True)
class ChosenAdapter:
    """The meaning of ``-u``, ``-k`` and ``-g``.

    Args:
        upstream: ``-u``.
        named: ``-g``.
        names: names of the adapter in a recipe's ``methods``, where the first one found counts; empty for an upstream
            without adapters.
        config: the configuration of new adapters; None without adapters, or if an adapter folder has its own.
        folder: the adapter folder that ``-k`` names.
    """

    upstream: str
    named: str | None = None
    names: tuple[str, ...] = ()
    config: AdapterConfig | None = None
    folder: Path | None = None


def chosen_adapter(args: Namespace) -> ChosenAdapter:
    """Read the adapter that the flags of a run choose.

    Raises:
        ElpError: an unknown preset, or a file that is not an adapter configuration.
    """
    upstream, named, place = str(args.upstream), args.upstream_model_config, args.upstream_ckpt
    if not upstream.startswith("elp_"):
        return ChosenAdapter(upstream, named)
    if place is not None and is_adapter_folder(place):
        return ChosenAdapter(upstream, named, names=(_name_in(Path(place)),), folder=Path(place))
    config, names = load_named(named)
    return ChosenAdapter(upstream, named, names=tuple(names), config=config)


def _name_in(folder: Path) -> str:
    described = read_yaml(folder / CONFIG_FILE, by_hand=False)
    adapter = described.get("adapter") if isinstance(described, dict) else None
    return str(adapter["name"]) if isinstance(adapter, dict) and "name" in adapter else str(folder)
