"""Start S3PRL's run_downstream with our names and with current packages.

The flags are S3PRL's. This module reads them, refuses what cannot work, adds what follows from the machine (device,
rank, our tasks' config, ``-f`` for new adapters), and calls S3PRL's own ``main``.
"""

import contextlib
import errno
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from upstream_elp.base import settings
from upstream_elp.base.downloads import failed_download
from upstream_elp.base.errors import ElpError, chain, sentence_of
from upstream_elp.base.imports import uncollected
from upstream_elp.base.ranks import ranks
from upstream_elp.experiment.asked import Asked, asked
from upstream_elp.host import flags

if TYPE_CHECKING:
    from upstream_elp.launch.planning import Plan


def run(argv: Sequence[str]) -> None:
    """Run S3PRL's ``run_downstream`` in this process.

    Args:
        argv: the flags, without a program name.

    Raises:
        ElpError: whatever the user can fix.
    """
    if {"-h", "--help"} & set(argv):
        from downstream_heads import registry
        from upstream_elp.host import places

        click.echo(flags.help_text(tasks=registry.in_words(others=places.stock_tasks())))
        return
    with uncollected():
        from upstream_elp.launch import planning

    plan = planning.read(argv)
    planning.complete(plan)  # may add settings that a checkpoint remembers
    config = plan.adapter.config if plan.adapter is not None else None
    request = Asked(
        ["elp", "run", *argv],
        adapter=None if config is None else config.to_dict(),
        named=plan.final.upstream_model_config,
    )
    with settings.in_force(plan.settings), asked(request):
        _carry_out(plan)


def _carry_out(plan: "Plan") -> None:
    """Check the data, print what was decided, and call S3PRL."""
    from upstream_elp.host import compat, places
    from upstream_elp.launch import data

    leads = ranks(plan.args.local_rank).leads
    if leads:
        data.forget_skipped(plan)
        plan.notes += data.preflight(plan)
    main_module = load_main(plan.script)
    copy = f"s3prl {compat.SUPPORTED} from {places.s3prl_folder()}"
    for note in [copy, *plan.notes] if leads else []:
        click.echo(f"elp: {note}", err=True)
    try:
        with _arguments(main_module, plan.argv), _one_sentence(), _frames_released():
            main_module.main()
    finally:
        if plan.settings.skip_bad_files and leads and (warning := data.skipped(plan)):
            click.echo(f"elp: {warning}", err=True)


def load_main(script: Path | None) -> ModuleType:
    """S3PRL's run_downstream module: the installed one or the clone's (whose file name may differ)."""
    from upstream_elp.host import edits

    name = "s3prl.run_downstream" if script is None else f"s3prl.{script.stem}"
    if name != "s3prl.run_downstream":
        edits.same(name, "s3prl.run_downstream")
    return importlib.import_module(name)


@contextlib.contextmanager
def _arguments(module: ModuleType, argv: list[str]) -> Iterator[None]:
    """Set S3PRL's command line, and clean up its process group."""
    import torch

    before = sys.argv
    sys.argv = [str(module.__file__), *argv]
    try:
        yield
    finally:
        sys.argv = before
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn what the user can fix into one sentence, also from inside a data-loading process."""
    try:
        yield
    except ElpError as error:
        _close_progress_bars()
        raise ElpError(sentence_of(error)) from error
    except (KeyError, OSError) as error:
        reported = _key_of_a_stock_task(error) if isinstance(error, KeyError) else _file_error(error)
        if reported is None:
            raise
        _close_progress_bars()
        raise reported from error
    except RuntimeError as error:
        if not _lost_rank(error):
            raise
        _close_progress_bars()
        from upstream_elp.training.stop import EndedElsewhere

        raise EndedElsewhere from error


def _lost_rank(error: RuntimeError) -> bool:
    """Whether gloo or NCCL reports that another rank is gone."""
    import torch

    return torch.distributed.is_initialized() and any(word in str(error) for word in ("gloo", "NCCL"))


@contextlib.contextmanager
def _frames_released() -> Iterator[None]:
    """Release the frames of a failed run, above all its data loader, so that the loader's processes end.

    These processes ignore signals, and an exception raised in one of them is part of a reference cycle. The loader
    would live until Python exits, and Python's exit waits for the processes.
    """
    try:
        yield
    except BaseException as error:
        for link in chain(error):
            traceback.clear_frames(link.__traceback__)
        raise


def _close_progress_bars() -> None:
    """Close open progress bars, which would otherwise share the sentence's line and be drawn again below it."""
    from tqdm import tqdm

    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


def _key_of_a_stock_task(error: KeyError) -> ElpError | None:
    """The error for a key that one of S3PRL's own tasks misses; None for anything else."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    if Path(last.filename).parent.parent.name != "downstream" or "rc" not in (last.line or ""):
        return None
    return ElpError(
        f"the config key {error.args[0]!r} is missing, which S3PRL's task {Path(last.filename).parent.name} reads "
        f"({last.filename}:{last.lineno}: {last.line}); add it in -c or with -o"
    )


def _file_error(error: OSError) -> ElpError | None:
    """The error for a missing file, a full disk or a failed download; None for anything else."""
    if (download := failed_download(error)) is not None:
        return download
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ElpError(f"{error.strerror}; free some space, then resume from the last checkpoint with -a")
    if error.filename is None or not isinstance(error, (FileNotFoundError, NotADirectoryError, PermissionError)):
        return None
    last = traceback.extract_tb(error.__traceback__)[-1]
    return ElpError(
        f"{error.filename}: {error.strerror}; check the paths in -c, -k and --data "
        f"(needed at {last.filename}:{last.lineno})"
    )


def adopt_main() -> None:
    """Make :mod:`upstream_elp.run` the main program, so that spawned data-loading processes import it and register.

    Otherwise they would run the console script ``elp`` again by its path, without the patches of S3PRL.
    """
    sys.modules["__main__"].__spec__ = importlib.util.find_spec("upstream_elp.run")
