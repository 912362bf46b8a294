"""The layout of SUPERB's hidden set: a repository with ``expert.py``, ``model.pt`` and one adapter per task."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from upstream_elp.backbones.huggingface_files import is_hugging_face_folder
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import whole_folder
from upstream_elp.base.values import did_you_mean
from upstream_elp.base.version import __version__
from upstream_elp.submission import hub_expert
from upstream_elp.submission.model_card import Facts, hub_card
from upstream_elp.upstream.adapter_folder import CONFIG_FILE, TENSOR_FILE, is_adapter_folder, read_adapter_folder

TASKS = ("PR", "SID", "ER", "ASR", "ASV", "SD", "QbE", "ST", "SS", "SE", "secret")
"""The keys that the organisers look for; a task without its own takes `hidden_states`."""
REQUIREMENTS = f"torch\ns3prl-elp=={__version__}\n"


def parse_adapters(texts: tuple[str, ...]) -> dict[str, Path]:
    """Read ``TASK=FOLDER`` texts.

    Raises:
        ElpError: another form, an unknown or repeated task, or no adapter folder.
    """
    known = (*TASKS, hub_expert.DEFAULT)
    found: dict[str, Path] = {}
    for text in texts:
        task, equals, folder = text.partition("=")
        if not equals or not folder:
            raise ElpError(f"--adapter must be TASK=FOLDER, such as ASR=adapters/asr, but is {text}")
        if task not in known:
            hint = did_you_mean(task, known, then=f"the tasks are: {', '.join(known)}")
            raise ElpError(f"--adapter {text} must name a task of the hidden set, but names {task}; {hint}")
        if task in found:
            raise ElpError(f"--adapter must name every task once, but names {task} again; remove one")
        if not is_adapter_folder(folder):
            raise ElpError(f"--adapter {text} must name an adapter folder, but does not; write one with elp export")
        found[task] = Path(folder)
    if not found:
        raise ElpError("--hf needs at least one adapter, but has none; pass --adapter TASK=FOLDER")
    return found


def write_hub_folder(out: Path, adapters: Mapping[str, Path], backbone: Path, *, card: Facts) -> Path:
    """Write the repository; it appears whole or not at all. Heads are not part of it.

    Args:
        out: a path that does not exist, or an empty folder.
        adapters: adapter folders by the organisers' key.
        backbone: the backbone's checkpoint, or its folder in Hugging Face's format.
        card: what the folders do not say, for the model card.

    Raises:
        ElpError: an adapter cannot be read, the backbone is neither a file nor such a folder, or the folder cannot be
            written.
    """
    if not (backbone.is_file() or is_hugging_face_folder(backbone)):
        raise ElpError(
            f"--backbone must be the backbone's checkpoint or a folder in Hugging Face's format, as the repository "
            f"contains it, but {backbone} is neither; correct the path"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ElpError(f"--hf {out} must not exist or be an empty folder, but has content; name another place")
    contents = {task: read_adapter_folder(folder) for task, folder in adapters.items()}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(out) as temporary:
            for task, folder in adapters.items():
                place = temporary / "adapters" / task
                place.mkdir(parents=True)
                for name in (CONFIG_FILE, TENSOR_FILE):
                    shutil.copyfile(folder / name, place / name)
            _copy_backbone(backbone, temporary)
            shutil.copyfile(hub_expert.__file__, temporary / "expert.py")
            (temporary / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
            (temporary / ".gitattributes").write_text(
                "*.pt filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
                "*.bin filter=lfs diff=lfs merge=lfs -text\n",
                encoding="utf-8",
            )
            (temporary / "README.md").write_text(hub_card(contents, card), encoding="utf-8")
    except OSError as error:
        raise ElpError(f"cannot write {out}: {error.strerror or error}; choose a writable folder") from error
    return out


def backbone_files(folder: Path) -> list[Path]:
    """Return the files of a folder in Hugging Face's format from which a model is loaded, and its licence."""
    kinds = ("*.json", "*.safetensors", "*.bin", "LICENSE*")
    found = {path for kind in kinds for path in folder.glob(kind) if path.is_file()}
    if any(path.suffix == ".safetensors" for path in found):
        found = {path for path in found if path.suffix != ".bin"}  # the same weights again, as a pickle
    return sorted(found)


def _copy_backbone(backbone: Path, out: Path) -> None:
    """Copy a checkpoint to model.pt, or a folder's files next to a model.pt that says where they are."""
    if backbone.is_file():
        shutil.copyfile(backbone, out / "model.pt")
        return
    (out / hub_expert.BACKBONE).mkdir()
    for path in backbone_files(backbone):
        shutil.copyfile(path, out / hub_expert.BACKBONE / path.name)
    torch.save({"backbone": hub_expert.BACKBONE}, out / "model.pt")


def validate(folder: Path) -> dict[str, Any]:
    """Load the folder in a new process without a network, and check it as the organisers' template does.

    Returns:
        For every task the number of states and their width, and how much an utterance's states change in a batch.

    Raises:
        ElpError: it cannot be loaded, or its features have wrong shapes or lengths.
    """
    program = [sys.executable, "-m", "upstream_elp.submission.hub_check"]
    # the package may be on the path of this process only, as in a source tree
    paths = os.pathsep.join(path for path in sys.path if path)
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(program, cwd=folder, env={**os.environ, **offline}, capture_output=True, text=True)
    if found.returncode:
        reason = next(iter(found.stderr.strip().splitlines()[-1:]), "no message")
        raise ElpError(f"{folder} must load and give features of every task, but does not ({reason}); write it again")
    return json.loads(found.stdout.strip().splitlines()[-1])
