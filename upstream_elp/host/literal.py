"""Folders in S3PRL are what they are called: their names are never read as patterns.

S3PRL looks for checkpoints, and its tasks on VoxCeleb for audio, with :mod:`glob`, for which ``run[12]`` stands for
``run1`` and ``run2``, and not for the folder of that name.
"""

import os
from pathlib import Path

from upstream_elp.base.folders import list_files
from upstream_elp.host import checkpoints
from upstream_elp.host.edits import Edit, edit

_AUDIO = (".aac", ".au", ".flac", ".m4a", ".mp3", ".ogg", ".wav")
"""What ``librosa.util.find_files`` looks for."""
_SPEAKER_TASKS = ("sv_voxceleb1", "voxceleb2_ge2e", "voxceleb2_amsoftmax_segment_eval")
"""S3PRL's tasks that call it."""


def mend() -> None:
    """Give S3PRL, instead of its patterns, the files that we find."""
    for module, names in (
        ("s3prl.run_downstream", ("args.expdir", "args.past_exp")),
        ("s3prl.downstream.runner", ("directory",)),
    ):
        for name in names:
            old, new = f"glob.glob(f'{{{name}}}/states-*.ckpt')", f"_elp_states({name})"
            edit(module, Edit(old, new, {"_elp_states": states}, required=False))
    for task in _SPEAKER_TASKS:
        found = Edit("find_files(", "_elp_audio(", {"_elp_audio": audio_files}, required=False)
        edit(f"s3prl.downstream.{task}.dataset", found)


def states(folder: str | os.PathLike) -> list[str]:
    """The ``states-N.ckpt`` of a folder, for S3PRL to choose from, or to delete all but the last."""
    return [str(path) for path in checkpoints.states(Path(folder))]


def audio_files(root: str | os.PathLike, ext: str = "") -> list[str]:
    """Whole paths of the audio below a folder, sorted, as ``librosa.util.find_files`` gives them.

    Args:
        root: the folder.
        ext: ending without the dot; empty for every kind of audio.

    Raises:
        ElpError: folders cannot be listed.
    """
    root = Path(root).expanduser().absolute()
    return [str(root / name) for name in list_files(root, root=root, suffix=f".{ext}" if ext else _AUDIO)]
