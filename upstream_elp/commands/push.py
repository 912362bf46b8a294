"""``elp push``: publish an adapter folder on Hugging Face's hub."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("repository", metavar="ORGANISATION/NAME")
@click.option("--dry-run", is_flag=True, help="Check the folder and list the files; use no network.")
@click.option("--private", is_flag=True, help="Create the repository as a private one.")
@click.option("--message", default="Upload with s3prl-elp", show_default=True, help="Message of the commit.")
def push(folder: Path, repository: str, dry_run: bool, private: bool, message: str) -> None:
    """Upload FOLDER, an adapter with its model card or a folder of `elp submit --hf`, to Hugging Face's hub.

    Log in with `hf auth login` first. Only files that belong to such a folder are uploaded.

    Example: elp push adapters/asr someone/wavlm-asr-adapter --dry-run
    """
    from upstream_elp.base.errors import counted
    from upstream_elp.submission.pushing import files_to_push, upload

    files = files_to_push(folder, repository)
    for name, size in files.items():
        click.echo(f"{name}: {size:,} bytes")
    if dry_run:
        click.echo(f"would upload {counted(len(files), 'file')}, {sum(files.values()):,} bytes, to {repository}")
        return
    click.echo(upload(folder, repository, list(files), private=private, message=message))
