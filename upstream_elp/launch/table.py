"""What S3PRL gets of ours beside its repairs: the training loop, and folders that may have moved."""

from upstream_elp.experiment import moved
from upstream_elp.host.edits import Edit
from upstream_elp.host.table import MAIN, RUNNER, Item, after_import, edit_module
from upstream_elp.training import runner

ITEMS = (
    Item(
        "the training loop",
        "resuming restarts the data order and random numbers, signals and NaN lose work, checkpoints may be cut; "
        "--stock-loop trains with S3PRL's own",
        "s3prl that keeps its position",
        after_import(RUNNER, runner.use_our_loop),
    ),
    Item(
        "folder of a checkpoint",
        "run_downstream goes on in the folder that the checkpoint was saved in, by its name: also after it was moved, "
        "or from another working directory, where it makes it anew",
        "s3prl that looks where the checkpoint lies",
        edit_module(
            MAIN,
            Edit(
                "args = update_args(args, ckpt['Args'], preserve_list=cannot_overwrite_args)",
                "args = _elp_at_home(update_args(args, ckpt['Args'], preserve_list=cannot_overwrite_args), ckpt_pth)",
                {"_elp_at_home": moved.at_home},
                required=False,
            ),
        ),
    ),
)
