"""Adapter configurations: what to inject, strict and typed, read from YAML.

A configuration is a preset name (``recipes/adapters/NAME.yaml``) or the path of a YAML file. A file may start from a
preset with ``base: NAME`` and then only states the differences; ``METHOD: null`` removes a method of the base.
This module imports neither torch nor S3PRL. A method's module, which imports torch, is imported once a configuration
names the method.
"""

from __future__ import annotations

import contextlib
import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from upstream_elp.adapters.contract import Method
from upstream_elp.adapters.kinds import ONE_SIZE
from upstream_elp.adapters.registry import method_class, method_names
from upstream_elp.base.errors import ElpError, shown
from upstream_elp.base.packaged import recipes_dir
from upstream_elp.base.values import did_you_mean
from upstream_elp.base.yaml_files import read_yaml

DEFAULT_PRESET = "elp"
Features = Literal["l", "layers", "last"]


@dataclass(frozen=True)
class AdapterConfig:
    """A complete adapter: its methods, and the features that the head sees."""

    name: str
    """Preset name or file stem, for reports."""
    features: Features
    """``l``: the outputs of the L-adapters; ``layers``: all N+1 hidden states; ``last``: only the last one."""
    methods: dict[str, Method] = field(default_factory=dict)
    """Methods by name, in the order of :func:`upstream_elp.adapters.registry.method_names`."""
    backbone_dropout: bool = False
    """Whether the frozen backbone applies its dropout while adapters train; all methods have the same default."""
    spec_augment: bool = False
    """Whether a Hugging Face backbone masks its CNN features, as its configuration says, while adapters train."""
    description: str = ""
    source: str = ""

    @property
    def trains_backbone(self) -> bool:
        """Whether anything inside the upstream is trained (S3PRL's ``-f``)."""
        return bool(self.methods)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain mapping, from which :func:`parse_config` builds an equal configuration."""
        plain: dict[str, Any] = {
            "name": self.name,
            "features": self.features,
            "backbone_dropout": self.backbone_dropout,
            "spec_augment": self.spec_augment,
        }
        plain.update({key: value for key in ("description", "source") if (value := getattr(self, key))})
        plain.update({name: dataclasses.asdict(options) for name, options in self.methods.items()})
        return plain

    def check(self, *, layers: int, dim: int) -> None:
        """Check layer ranges and sizes against a model of ``layers`` encoder layers of width ``dim``.

        Raises:
            ElpError: an option does not fit; the message names its key.
        """
        for name, options in self.methods.items():
            options.check(layers, dim, where=name)


GENERAL = tuple(spec.name for spec in dataclasses.fields(AdapterConfig) if spec.name != "methods")
"""Keys of a configuration that are not methods."""


def preset_names() -> list[str]:
    """Return the names of the shipped adapter presets."""
    return sorted(path.stem for path in (recipes_dir() / "adapters").glob("*.yaml"))


def load_config(source: str | Path | Mapping[str, Any] | None = None) -> AdapterConfig:
    """Read an adapter configuration.

    Args:
        source: a preset name, the path of a YAML file, a mapping, or None for the default preset.

    Raises:
        ElpError: an unknown preset, an unreadable file, an unknown key or an invalid value.
    """
    if isinstance(source, Mapping):
        return parse_config(source, where="adapter configuration")
    return load_named(source)[0]


def _named(source: str | Path | None) -> str:
    # an empty name, such as that of an unset shell variable, is an error and does not mean the default
    return DEFAULT_PRESET if source is None else str(source)


def stated(source: str) -> dict[str, Any]:
    """Return what the files of a configuration state, including what they inherit, without importing any method.

    Options that no file mentions are missing, and values are not checked.

    Raises:
        ElpError: an unknown preset, an unreadable file or an unknown key.
    """
    path = _find(source)
    merged = _merge_base(_read(path), str(path), seen=())
    _reject_unknown_keys(merged, str(path))
    order = [name for name in (*GENERAL, *method_names()) if merged.get(name) is not None]
    return {"name": path.stem, **{name: merged[name] for name in order}}


def load_named(source: str | Path | None = None) -> tuple[AdapterConfig, list[str]]:
    """Read an adapter configuration and its names: its own and, for a user's file, that of its base preset.

    Raises:
        ElpError: as for :func:`load_config`.
    """
    path = _find(_named(source))
    raw = _read(path)
    config = parse_config(raw, where=str(path), name=path.stem)
    base = raw.get("base") if path.stem not in preset_names() else None
    return config, [config.name] if base is None else [config.name, base]


def parse_config(raw: Mapping[str, Any], *, where: str, name: str = "custom") -> AdapterConfig:
    """Build a configuration from a mapping, strictly.

    Args:
        raw: keys of :class:`AdapterConfig`, one key per method, and optionally ``base``.
        where: name of the source in error messages.
        name: name of the configuration if the mapping does not state one.

    Raises:
        ElpError: an unknown key or an invalid value.
    """
    merged = _merge_base(dict(raw), where, seen=())
    _reject_unknown_keys(merged, where)
    if "features" not in merged:
        raise ElpError(f"{where}: the key 'features' is missing; set it to one of l, layers, last")
    methods = {
        method: _build(method_class(method), merged[method], f"{where}: {method}")
        for method in method_names()
        if merged.get(method) is not None
    }
    values = {key: merged[key] for key in GENERAL if key in merged}
    hints = typing.get_type_hints(AdapterConfig)
    values = {key: _convert(value, hints[key], f"{where}: {key}") for key, value in values.items()}
    config = AdapterConfig(**{"name": name, **values, "methods": methods})
    _check_combination(config, where)
    return config


def _reject_unknown_keys(merged: Mapping[str, Any], where: str) -> None:
    _reject_unknown(merged, [*sorted(GENERAL), "base", *method_names()], where)


def is_file(source: str) -> bool:
    """Return whether a text is the path of a file."""
    with contextlib.suppress(OSError):  # raised for a name that is too long for a file
        return Path(source).is_file()
    return False


def _find(source: str) -> Path:
    preset = recipes_dir() / "adapters" / f"{source}.yaml"
    if source in preset_names():
        return preset
    if is_file(source):
        return Path(source)
    hint = _hint(source, preset_names())
    raise ElpError(f"no adapter preset or file {shown(source)}{hint}; the presets are: {', '.join(preset_names())}")


def _hint(name: Any, valid: list[str]) -> str:
    question = did_you_mean(name, valid)
    return f" ({question})" if question else ""


def _read(path: Path) -> dict[str, Any]:
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ElpError(f"{path} must contain a mapping of keys; for example 'base: elp'")
    return raw


def _merge_base(raw: dict[str, Any], where: str, seen: tuple[str, ...]) -> dict[str, Any]:
    base = raw.pop("base", None)
    if base is None:
        return raw
    if base in seen:
        raise ElpError(f"{where}: 'base' leads in a circle: {' -> '.join([*seen, base])}")
    if base not in preset_names():
        hint = _hint(base, preset_names())
        raise ElpError(f"{where}: unknown base {shown(base)}{hint}; the presets are: {', '.join(preset_names())}")
    merged = _merge_base(_read(recipes_dir() / "adapters" / f"{base}.yaml"), where, (*seen, base))
    for key in ("description", "source"):
        merged.pop(key, None)
    for key, value in raw.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both else value
    return merged


def _reject_unknown(raw: Mapping[str, Any], valid: list[str], where: str) -> None:
    for key in raw:
        if key not in valid:
            hint = _hint(key, valid)
            raise ElpError(f"{where}: unknown key {shown(key)}{hint}; the valid keys are: {', '.join(valid)}")


def _build(cls: type[Method], raw: Any, where: str) -> Method:
    if not isinstance(raw, dict):
        raise ElpError(f"{where} must be a mapping of options, or null to remove the method, but is {shown(raw)}")
    hints = typing.get_type_hints(cls)
    _reject_unknown(raw, [spec.name for spec in dataclasses.fields(cls)], where)
    for spec in dataclasses.fields(cls):
        if ONE_SIZE in spec.metadata and isinstance(raw.get(spec.name), dict):
            raise ElpError(f"{where}.{spec.name} must be one size and not one per layer: {spec.metadata[ONE_SIZE]}")
    options = cls(**{key: _convert(value, hints[key], f"{where}.{key}") for key, value in raw.items()})
    options.validate(where=where)
    return options


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Check one value against its annotation; an integer is accepted where a float is expected."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            raise ElpError(f"{where} must be one of {', '.join(map(str, arguments))}, but is {shown(value)}")
        return value
    if origin is list:
        if not isinstance(value, list) or not value:
            raise ElpError(f"{where} must be a list that is not empty, but is {shown(value)}")
        items = [_convert(item, arguments[0], where) for item in value]
        if repeated := [item for item in items if items.count(item) > 1]:
            raise ElpError(f"{where} names {repeated[0]} twice")
        return items
    if origin is dict:
        return _convert_sizes(value, arguments[1], where)
    if origin in (typing.Union, types.UnionType):
        kinds = {option: typing.get_origin(option) or option for option in arguments}
        fitting = [option for option, kind in kinds.items() if isinstance(value, kind) and not isinstance(value, bool)]
        if not fitting:
            names = " or ".join("mapping" if kind is dict else kind.__name__ for kind in kinds.values())
            raise ElpError(f"{where} must be of type {names}, but is {shown(value)}")
        return _convert(value, fitting[0], where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ElpError(f"{where} must be of type {hint.__name__}, but is {shown(value)}")
    return value


def _convert_sizes(value: dict[Any, Any], size: Any, where: str) -> dict[str, Any]:
    """Check sizes by layer selection; the selections become strings, so that JSON and YAML can both hold them."""
    sizes: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise ElpError(f"{where}: a layer selection must be of type str or int, but is {shown(key)}")
        if str(key) in sizes:
            raise ElpError(f"{where} names {key} twice")
        sizes[str(key)] = _convert(item, size, f"{where}[{key}]")
    if not sizes:
        raise ElpError(f"{where} must name a size for at least one layer, but is {{}}")
    return sizes


def _check_combination(config: AdapterConfig, where: str) -> None:
    methods = config.methods
    if (config.features == "l") != ("l_adapter" in methods):
        raise ElpError(f"{where}: 'features: l' and the method l_adapter need each other: set both, or neither of them")
    for first, method in methods.items():
        for second, reason in method.conflicts.items():
            if second in methods:
                raise ElpError(f"{where}: {first} and {second} cannot be combined: {reason}")
