"""Our entries in S3PRL's hub: ``elp_<backbone>`` for each named backbone, ``elp_custom``, ``elp_local``, ``elp_url``.

``fbank_scaled`` has neither adapters nor a backbone.

Every public callable here becomes an entry of ``s3prl.hub``. S3PRL's runner calls an entry as
``entry(ckpt=..., model_config=..., refresh=...)``, ``S3PRLUpstream`` as ``entry(refresh=..., ckpt=..., **extra_conf)``.
"""

import os as _os
from collections.abc import Callable as _Callable
from collections.abc import Mapping as _Mapping
from typing import Any as _Any

from upstream_elp.backbones.architecture import backbone_names as _backbone_names
from upstream_elp.base.errors import ElpError as _ElpError
from upstream_elp.upstream.build import FOLDER_ENTRIES as _FOLDER_ENTRIES
from upstream_elp.upstream.build import build_upstream as _build_upstream
from upstream_elp.upstream.expert import ElpExpert as _ElpExpert


def _reject(unknown: dict[str, _Any]) -> None:
    """Refuse a misspelt ``extra_conf`` key, which S3PRL's own entries ignore silently."""
    if unknown:
        raise _ElpError(
            f"unknown upstream option {min(unknown)!r}; the options are: ckpt, model_config, refresh, backbone"
        )


def elp_custom(
    ckpt: str | _os.PathLike | None = None,
    model_config: str | _Mapping[str, _Any] | None = None,
    refresh: bool = False,
    backbone: str | _os.PathLike | None = None,
    **unknown: _Any,
) -> _ElpExpert:
    """Load a backbone checkpoint with adapters, or a trained adapter folder.

    Args:
        ckpt: path or URL of a backbone checkpoint in S3PRL's or fairseq's format (its family is recognised), a folder
            in Hugging Face's format or ``hf:ORGANISATION/NAME``, or an adapter folder.
        model_config: adapter preset name, YAML path or mapping; by default ``elp``.
        refresh: whether to download cached files again.
        backbone: for an adapter folder, the path or URL of its backbone.
    """
    _reject(unknown)
    if ckpt is None:
        raise _ElpError("elp_custom, elp_local and elp_url need -k: a backbone checkpoint or a trained adapter folder")
    return _build_upstream(None, ckpt=ckpt, model_config=model_config, refresh=refresh, backbone=backbone)


def elp_local(*args: _Any, **kwargs: _Any) -> _ElpExpert:
    """Do the same as :func:`elp_custom`, under S3PRL's name for local files."""
    return elp_custom(*args, **kwargs)


def elp_url(*args: _Any, **kwargs: _Any) -> _ElpExpert:
    """Do the same as :func:`elp_custom`, under S3PRL's name for URLs."""
    return elp_custom(*args, **kwargs)


def fbank_scaled(**_options: _Any) -> _Any:
    """Return log-mel features without any backbone, see :mod:`upstream_elp.upstream.fbank`."""
    from upstream_elp.upstream.fbank import UpstreamExpert

    return UpstreamExpert()


def _entry(name: str) -> _Callable[..., _ElpExpert]:
    def entry(
        ckpt: str | _os.PathLike | None = None,
        model_config: str | _Mapping[str, _Any] | None = None,
        refresh: bool = False,
        backbone: str | _os.PathLike | None = None,
        **unknown: _Any,
    ) -> _ElpExpert:
        _reject(unknown)
        return _build_upstream(name, ckpt=ckpt, model_config=model_config, refresh=refresh, backbone=backbone)

    entry.__name__ = entry.__qualname__ = f"elp_{name}"
    entry.__doc__ = f"Load S3PRL's {name} with adapters; ckpt may be a local copy of it or a trained adapter folder."
    return entry


globals().update({f"elp_{_name}": _entry(_name) for _name in [*_backbone_names(), *_FOLDER_ENTRIES]})
