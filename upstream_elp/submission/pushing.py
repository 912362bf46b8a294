"""Upload adapter folders and repositories of the hidden set's layout to Hugging Face's hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub.utils import HFValidationError, validate_repo_id

from upstream_elp.base.errors import ElpError
from upstream_elp.submission.hub_expert import BACKBONE
from upstream_elp.submission.hub_layout import backbone_files
from upstream_elp.submission.model_card import CARD
from upstream_elp.upstream import adapter_folder, head_folder

ADAPTER_FILES = (
    adapter_folder.CONFIG_FILE,
    adapter_folder.TENSOR_FILE,
    head_folder.CONFIG_FILE,
    head_folder.TENSOR_FILE,
)
HUB_FILES = ("expert.py", "model.pt", "requirements.txt", ".gitattributes")


def files_to_push(folder: Path, repository: str) -> dict[str, int]:
    """Return the files to upload by their path in the repository, with their sizes in bytes.

    Raises:
        ElpError: the name is not one of the hub, the folder is neither an adapter folder nor of the hidden set's
            layout, is damaged, lacks a model card, or contains other files.
    """
    if repository.count("/") != 1:
        raise ElpError(f"the repository must be ORGANISATION/NAME, but is {repository}; add your name on the hub")
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ElpError(f"the repository must be a name that the hub accepts, but is {repository}: {error}") from error
    adapters = sorted(folder.glob("adapters/*")) if (folder / "expert.py").is_file() else [folder]
    if not adapters or not all(map(adapter_folder.is_adapter_folder, adapters)):
        raise ElpError(
            f"{folder} must be an adapter folder or one of elp submit --hf, but is not; write one with elp export"
        )
    for one in adapters:
        adapter_folder.read_adapter_folder(one)  # never upload what cannot be loaded
    if not (folder / CARD).is_file():
        raise ElpError(f"{folder} must contain a model card, {CARD}, but does not; export it again with --model-card")
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    there = [path.as_posix() for path in paths if "__pycache__" not in path.parts]
    prefixes = ["" if one == folder else f"{one.relative_to(folder).as_posix()}/" for one in adapters]
    wanted = {CARD, *(prefix + name for prefix in prefixes for name in ADAPTER_FILES)}
    if prefixes != [""]:
        wanted |= {*HUB_FILES, *(f"{BACKBONE}/{path.name}" for path in backbone_files(folder / BACKBONE))}
        if absent := [name for name in HUB_FILES if name not in there]:
            raise ElpError(f"{folder} must contain {absent[0]}, but does not; write it again with elp submit --hf")
    if others := [name for name in there if name not in wanted]:
        raise ElpError(
            f"{folder} must contain only the files of an adapter and its model card, but has {others[0]}; remove it, "
            "or upload the folder with Hugging Face's own tool"
        )
    return {name: (folder / name).stat().st_size for name in there}


def upload(folder: Path, repository: str, files: Sequence[str], *, private: bool, message: str) -> str:
    """Create the repository if there is none, upload the files as one commit, and return its address.

    Raises:
        ElpError: the hub cannot be reached or refuses the upload.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=list(files), commit_message=message
        )
    except Exception as error:  # each version of the hub's client has errors of its own, and of its transport
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ElpError(
            f"the hub must accept an upload to {repository}, but does not ({reason}); check the network and the login "
            "(`hf auth whoami`)"
        ) from error
    return commit.commit_url
