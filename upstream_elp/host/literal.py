"""Folders in S3PRL are what they are called: their names are never read as patterns.

S3PRL looks for checkpoints, and its SV task for audio, with :mod:`glob`, for which ``run[12]`` stands for ``run1`` and
``run2``, and not for the folder of that name.
"""

import os
from pathlib import Path

from upstream_elp.folders import list_files
from upstream_elp.host import experiment
from upstream_elp.host.edits import Edit, edit

_AUDIO = (".aac", ".au", ".flac", ".m4a", ".mp3", ".ogg", ".wav")
"""What ``librosa.util.find_files`` looks for."""


def mend() -> None:
    """Give S3PRL, instead of its patterns, the files that we find."""
    for module, names in (
        ("s3prl.run_downstream", ("args.expdir", "args.past_exp")),
        ("s3prl.downstream.runner", ("directory",)),
    ):
        for name in names:
            old, new = f"glob.glob(f'{{{name}}}/states-*.ckpt')", f"_elp_states({name})"
            edit(module, Edit(old, new, {"_elp_states": states}, required=False))
    found = Edit("find_files(root)", "_elp_audio(root)", {"_elp_audio": audio_files}, required=False)
    edit("s3prl.downstream.sv_voxceleb1.dataset", found)


def states(folder: str | os.PathLike) -> list[str]:
    """The ``states-N.ckpt`` of a folder, for S3PRL to choose from, or to delete all but the last."""
    return [str(path) for path in experiment.states(Path(folder))]


def audio_files(root: str | os.PathLike) -> list[str]:
    """Whole paths of the audio below a folder, sorted, as ``librosa.util.find_files`` gives them.

    Raises:
        ElpError: folders cannot be listed.
    """
    root = Path(root).expanduser().absolute()
    return [str(root / name) for name in list_files(root, root=root, suffix=_AUDIO)]
