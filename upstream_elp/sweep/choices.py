"""The methods and backbones that a plan names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upstream_elp.adapters.config import AdapterConfig, load_named, parse_config
from upstream_elp.backbones.architecture import backbone_names
from upstream_elp.backbones.family import is_remote
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.values import did_you_mean
from upstream_elp.sweep.names import slug

LOCAL = "elp_local"


@dataclass(frozen=True)
class Method:
    """An adapter, or one of S3PRL's own upstreams without adapters and without a backbone.

    Args:
        name: what tables and folders call it.
        config: the adapter; None for an upstream.
        names: the adapter's names in a recipe's ``methods``.
        upstream: value of ``-u``; None for an adapter, for which the backbone decides.
    """

    name: str
    config: AdapterConfig | None = None
    names: tuple[str, ...] = ()
    upstream: str | None = None


@dataclass(frozen=True)
class Backbone:
    """A frozen model: ``-u``, and ``-k`` unless the upstream is a named backbone."""

    name: str
    upstream: str
    place: str | None = None


def method(raw: Any, where: str) -> Method:
    """Read an entry of ``methods``.

    Args:
        raw: a preset's name; a YAML file; ``{upstream: NAME}`` for one of S3PRL's upstreams, with a ``name`` if that is
            to be another one; or an adapter's configuration with its ``name``.
        where: what to call it in messages.

    Raises:
        ElpError: no such preset, file or key, or a wrong value.
    """
    if isinstance(raw, str):
        try:
            config, names = load_named(raw)
        except ElpError as error:
            raise ElpError(f"{where}: {error}; one of S3PRL's own upstreams is written {{upstream: NAME}}") from error
        return Method(_name(Path(raw).stem, where), config, tuple(names))
    if not isinstance(raw, Mapping):
        raise ElpError(f"{where} must be names of presets, YAML files or blocks of keys, but one is {shown(raw)}")
    if "upstream" in raw:
        return _upstream(dict(raw), where)
    if not isinstance(raw.get("name"), str):
        raise ElpError(f"{where}: an adapter written in the plan must have a name, but {shown(dict(raw))} has none")
    name = _name(raw["name"], where)
    names = (name, raw["base"]) if isinstance(raw.get("base"), str) else (name,)
    return Method(name, parse_config(raw, where=f"{where}: {name}", name=name), names)


def _upstream(raw: dict[str, Any], where: str) -> Method:
    if unknown := [key for key in raw if key not in ("upstream", "name")]:
        raise ElpError(f"{where}: unknown key {shown(unknown[0])} of an upstream; the keys are: upstream, name")
    upstream = raw["upstream"]
    if not isinstance(upstream, str) or not upstream or upstream.startswith("elp_"):
        raise ElpError(
            f"{where}: upstream must be one of S3PRL's own, such as fbank_scaled, but is {shown(upstream)}; for "
            "adapters name a preset, and the backbone under backbones"
        )
    return Method(_name(raw.get("name", upstream), where), upstream=upstream)


def backbone(raw: Any, where: str) -> Backbone:
    """Read an entry of ``backbones``.

    Args:
        raw: a path, URL or ``hf:ORGANISATION/NAME``; the name of a backbone (``elp backbones``); or
            ``{name: NAME, path: PLACE}``.
        where: what to call it in messages.

    Raises:
        ElpError: neither of these.
    """
    if isinstance(raw, Mapping):
        if {*raw} != {"name", "path"} or not all(isinstance(value, str) for value in raw.values()):
            raise ElpError(f"{where}: a block must have the two keys name and path, but is {shown(dict(raw))}")
        found = backbone(raw["path"], where)
        return Backbone(_name(raw["name"], where), found.upstream, found.place)
    if not isinstance(raw, str) or not raw:
        raise ElpError(f"{where} must be paths or names, but one is {shown(raw)}")
    if is_remote(raw) or Path(raw).exists():
        return Backbone(_name(_stem(raw), where), LOCAL, raw)
    name = raw.removeprefix("elp_")
    if name not in backbone_names():
        hint = did_you_mean(name, backbone_names(), then="`elp backbones` lists the names")
        raise ElpError(
            f"{where}: {raw} must be a file, a folder or the name of a backbone, but is none of these; {hint}"
        )
    return Backbone(name, f"elp_{name}")


def _stem(place: str) -> str:
    last = place.rstrip("/").rpartition("/")[2]
    return last if place.startswith("hf:") or Path(place).is_dir() else Path(last).stem


def _name(text: Any, where: str) -> str:
    return slug(str(text), f"{where}: a name")
