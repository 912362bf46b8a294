"""``elp fetch``: download a named backbone into the cache, for machines without network access."""

from __future__ import annotations

import click

from upstream_elp.backbones.architecture import architecture, backbone_names
from upstream_elp.backbones.family import HUB_PREFIX


@click.command(epilog=f"Backbones: {', '.join(backbone_names())}")
@click.argument("name")
@click.option("--refresh", is_flag=True, help="Download again.")
def fetch(name: str, refresh: bool) -> None:
    """Download the backbone NAME, load it once, and print its fingerprint.

    NAME is one of the backbones below, which go into S3PRL's cache, or hf:ORGANISATION/NAME on the Hugging Face Hub.

    Example: elp fetch wavlm_base_plus
    """
    from upstream_elp.backbones.fingerprint import fingerprint
    from upstream_elp.base.errors import ElpError
    from upstream_elp.launch.registry import register

    if name.startswith(HUB_PREFIX):
        from upstream_elp.backbones.backbone_file import read_folder

        click.echo(f"{name}: sha256 {fingerprint(read_folder(name, refresh=refresh).expert()).sha256}")
        return
    model = architecture(name)
    register()
    from s3prl import hub
    from s3prl.util.download import get_dir

    try:
        expert = getattr(hub, model.name)(refresh=refresh)
    except OSError as error:  # urllib's and requests' errors are OSErrors
        address = getattr(getattr(error, "request", None), "url", None)
        reason = " ".join(str(error).split())
        if address and type(error).__name__ == "ConnectionError":  # requests wraps the reason in three exceptions
            reason = (
                f"no connection to {address}; run this on a machine with network access and copy the download into "
                f"{get_dir()}, or get the checkpoint another way and use it with `elp run -u elp_local -k FILE`"
            )
        raise ElpError(f"cannot download {model.name}: {reason}") from error
    click.echo(f"{model.name}: sha256 {fingerprint(expert).sha256}")
