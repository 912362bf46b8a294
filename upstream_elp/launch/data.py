"""Check a task's data before anything heavy is loaded, for ``elp check`` and at the start of each run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from downstream_heads import registry
from downstream_heads.common.survey import Findings, measure
from upstream_elp.audio.front import STANDARD, FrontEnd
from upstream_elp.audio.headers import Options
from upstream_elp.audio.levels import LevelWarning
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.problems import in_one_line
from upstream_elp.corpora.registry import manifest_for
from upstream_elp.experiment import existing
from upstream_elp.host.override import overridden
from upstream_elp.launch import recipes

if TYPE_CHECKING:
    from upstream_elp.launch.planning import Plan

OTHER_UPSTREAM = FrontEnd(((400, 160),))
"""The assumed front end of S3PRL's own upstreams; the most tolerant (``fbank``'s), so that no valid file is refused."""
SHOWN = 10
SKIPPED = "skipped_files.txt"


def examine(
    task: str,
    config: Mapping[str, Any],
    *,
    splits: Sequence[str] = (),
    variant: str | None = None,
    front: FrontEnd = STANDARD,
    options: Options,
) -> Findings:
    """Find and read the data that a task uses.

    Args:
        task: one of our tasks.
        config: its whole config.
        splits: the splits; empty for ``train``, those in ``runner.eval_dataloaders``, and ``test``.
        variant: ``-v``.
        front: how the upstream turns samples into frames.
        options: how to read the audio.

    Raises:
        ElpError: an invalid key, an unknown split, or a missing corpus.
    """
    about = registry.find(task)
    splits = list(splits) or ["train", *_eval_splits(config), "test"]
    names = list(dict.fromkeys(about.split(split) for split in splits))
    block = config.get("downstream_expert")
    if not isinstance(block, Mapping):
        raise ElpError("config key downstream_expert must be a block with the blocks datarc and modelrc")
    found = about.load("survey")(block, splits=names, variant=variant, front=front)
    return measure(found, options, min_samples=front.min_samples)


def refuse_idle(task: str, config: Mapping[str, Any], *, named: Container[str]) -> None:
    """Refuse options that only matter for the task's corpus, if the data are a user's own.

    The values of the packaged configurations are accepted, unless the user names the keys.

    Args:
        task: one of our tasks.
        config: its whole config.
        named: dotted keys that the user has set, other than in a configuration file.

    Raises:
        ElpError: names the option.
    """
    about = registry.find(task)
    block = config.get("downstream_expert")
    rc = block.get("datarc") if isinstance(block, Mapping) else None
    if not isinstance(rc, Mapping) or (source := manifest_for(rc, about.corpus)) is None:
        return
    for key in about.of_corpus:
        dotted = f"downstream_expert.datarc.{key}"
        if dotted in named or (key in rc and rc[key] not in _packaged(task, key)):
            raise ElpError(
                f"config key {dotted} chooses among the files of {about.corpus} and has no effect on {source}, whose "
                "rows say which split they belong to; remove it"
            )


def _packaged(task: str, key: str) -> list[Any]:
    """The values of a key of ``datarc`` in the packaged configurations of a task."""
    short = registry.find(task).short
    paths = [path for name, path in recipes.names().items() if name == task or name.partition("_")[0] == short]
    return [recipes.read(path)["downstream_expert"]["datarc"].get(key) for path in paths]


def refuse(found: Findings, task: str, *, skip_bad_files: bool = False) -> None:
    """Refuse data that a run could not use.

    Raises:
        ElpError: lists the problems (the first ten, and how many more there are).
    """
    blocking = found.survey.blocking(skip_bad_files=skip_bad_files)
    if not blocking:
        return
    listed = in_one_line(blocking, audio=found.audio, shown=SHOWN)
    count = counted(len(blocking), "problem")
    passed_over = len(blocking) - len(found.survey.blocking(skip_bad_files=True))
    hint = f"; --skip-bad-files skips {passed_over} of them" if passed_over else ""
    raise ElpError(
        f"-d {task}: {count} in {found.survey.root}: {listed} (`elp check -d {task}` lists all and decodes "
        f"the audio{hint})"
    )


def preflight(plan: Plan) -> list[str]:
    """Check the tables and folders that a run needs, and the audio headers in the index.

    Returns:
        Lines to print: the counts of the splits, and problems that do not prevent the run.

    Raises:
        ElpError: lists the problems (the first ten, and how many more there are).
    """
    args, task = plan.args, plan.final.downstream
    if task not in registry.names() or args.mode == "inference":
        return []
    if plan.fresh and args.mode == "train":
        refuse_idle(task, plan.config, named=overridden(args.override, block="config"))
    splits = ["train", *_eval_splits(plan.config)] if args.mode == "train" else [args.evaluate_split]
    look = partial(
        examine,
        task,
        plan.config,
        variant=plan.final.downstream_variant,
        front=_front(plan),
        options=Options(progress=True),
    )
    found = look(splits=splits)
    refuse(found, task, skip_bad_files=plan.settings.skip_bad_files)
    notes = [f"{task} {count}" for count in found.counts]
    passed = len(found.survey.problems)
    if passed:
        first = found.survey.problems[0].text
        what = counted(passed, "problem does", "problems do")
        notes.append(f"{task}: {what} not prevent this run, for example: {first}")
    if found.survey.warnings:
        notes += [f"WARNING: {text}" for text in found.survey.warnings]
        warnings.simplefilter("ignore", LevelWarning)  # otherwise each reading process repeats it
    if plan.fresh and args.mode == "train":
        notes += _of_the_test(task, look)
    return notes


def _front(plan: Plan) -> FrontEnd:
    """How the run's upstream turns samples into frames, before it is built."""
    final = plan.final
    if not final.upstream.startswith("elp_"):
        return OTHER_UPSTREAM
    from upstream_elp.upstream.build import front_end  # imports torch

    return front_end(final.upstream.removeprefix("elp_"), final.upstream_ckpt, backbone=plan.settings.backbone)


def _of_the_test(task: str, look: Callable[..., Findings]) -> list[str]:
    """Problems that an evaluation after the training would meet; better reported before it."""
    try:
        problems = [problem.text for problem in look(splits=["test"]).survey.problems]
    except ElpError as error:
        problems = [str(error)]
    if not problems:
        return []
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems, for example"
    return [f"{task}: an evaluation of test will meet {count}: {problems[0]}"]


def forget_skipped(plan: Plan) -> None:
    """Remove the list of skipped files that an earlier experiment left in this folder."""
    if plan.fresh and plan.args.mode == "train":
        (_folder(plan) / SKIPPED).unlink(missing_ok=True)


def skipped(plan: Plan) -> str:
    """The warning about skipped files; empty if there are none."""
    path = _folder(plan) / SKIPPED
    if not path.is_file():
        return ""
    count = len(path.read_text(encoding="utf-8").splitlines())
    return f"WARNING: {count} files could not be used and were skipped; they are listed in {path}" if count else ""


def _folder(plan: Plan) -> Path:
    return Path(existing.experiment_folder(plan.final))


def _eval_splits(config: Mapping[str, Any]) -> list[str]:
    runner = config.get("runner")
    splits = (runner.get("eval_dataloaders") if isinstance(runner, Mapping) else None) or []
    if isinstance(splits, str) or not all(isinstance(split, str) for split in splits):
        raise ElpError(f"config key runner.eval_dataloaders must be a list of splits, but is {splits!r}")
    return list(splits)
