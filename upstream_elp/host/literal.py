"""Make S3PRL take the names of folders literally, never as patterns.

S3PRL searches for checkpoints, and its VoxCeleb tasks for audio, with :mod:`glob`, in which ``run[12]`` means ``run1``
and ``run2``, not the folder with that name.
"""

import os
from pathlib import Path

from upstream_elp.base.folders import list_files
from upstream_elp.host import checkpoints
from upstream_elp.host.edits import Edit, edit

_AUDIO = (".aac", ".au", ".flac", ".m4a", ".mp3", ".ogg", ".wav")
"""The file types that ``librosa.util.find_files`` searches for."""
_SPEAKER_TASKS = ("sv_voxceleb1", "voxceleb2_ge2e", "voxceleb2_amsoftmax_segment_eval")
"""S3PRL's tasks that call that function."""


def apply() -> None:
    """Replace S3PRL's patterns with our own search for files."""
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
    """The ``states-N.ckpt`` of a folder, from which S3PRL chooses one or deletes the oldest."""
    return [str(path) for path in checkpoints.states(Path(folder))]


def audio_files(root: str | os.PathLike, ext: str = "") -> list[str]:
    """Absolute paths of the audio below a folder, sorted, as ``librosa.util.find_files`` returns them.

    Args:
        root: the folder.
        ext: suffix without the dot; empty for all kinds of audio.

    Raises:
        ElpError: if a folder cannot be listed.
    """
    root = Path(root).expanduser().absolute()
    return [str(root / name) for name in list_files(root, root=root, suffix=f".{ext}" if ext else _AUDIO)]
