"""Our own additions to S3PRL's patches: the training loop, and folders that may have moved."""

from upstream_elp.experiment import moved
from upstream_elp.host.edits import Edit
from upstream_elp.host.item import Item, after_import, edit_module
from upstream_elp.host.table import MAIN, RUNNER
from upstream_elp.training import runner

ITEMS = (
    Item(
        "the training loop",
        "S3PRL's own loses the data order and random numbers on resuming, loses work on signals and NaN, and may "
        "leave truncated checkpoints; --stock-loop uses it anyway",
        "an s3prl that resumes exactly",
        after_import(RUNNER, runner.use_our_loop),
    ),
    Item(
        "folder of a checkpoint",
        "run_downstream resumes in the folder where the checkpoint was saved, by its recorded path, even if the folder "
        "has been moved or the working directory differs",
        "an s3prl that resumes where the checkpoint is",
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
