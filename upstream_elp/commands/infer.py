"""``elp infer``: apply a trained model to audio files."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from downstream_heads import registry
from upstream_elp.base import texts
from upstream_elp.base.choices import PRECISIONS
from upstream_elp.base.errors import AudioError, ElpError, counted
from upstream_elp.base.files import check_writable
from upstream_elp.base.imports import uncollected

if TYPE_CHECKING:
    from upstream_elp.inference import TrainedModel

ADVICE = {
    "resample": "convert the file or pass --resample",
    "channels": "convert the file or pass --channels mean or --channels first",
}
"""What to do about a refused file, by the reading option that would accept it."""


@click.command()
@click.argument("place", type=click.Path())
@click.argument("files", nargs=-1, type=click.Path(), metavar="[FILE]...")
@click.option(
    "--pairs", type=click.Path(), help="Speaker verification: a text file with 'FILE FILE' or a trial on each line."
)
@click.option(
    "--root", type=click.Path(), help="Folder that relative paths in --pairs start from. [default: the current one]"
)
@click.option(
    "--embeddings", is_flag=True, help="Speaker verification: print each file's embedding instead of comparing pairs."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Output format.")
@click.option("--json", "out", type=click.Path(), help="Write the answers as JSON to this file too.")
@click.option("--device", help="cpu, cuda or cuda:N. [default: cuda if available]")
@click.option("--precision", type=click.Choice(PRECISIONS), help="[default: as in its evaluation]")
@click.option("--batch-size", type=int, default=1, show_default=True, help="Files per batch.")
@click.option("--backbone", help="The backbone's checkpoint, if it has moved since training.")
@click.option("--resample", is_flag=True, help="Resample files with another sample rate.")
@click.option("--channels", type=click.Choice(["mean", "first"]), help="Accept files with several channels.")
@click.option("--skip-bad-files", is_flag=True, help="Skip files that cannot be used and list them at the end.")
def infer(place: str, files: Sequence[str], **options: Any) -> None:
    """Transcribe, classify or compare audio FILEs with the trained model in PLACE.

    PLACE is a folder written by `elp export`, an experiment folder or a checkpoint. Each file gives one line: its
    path, a tab and the answer. Speaker verification compares the first file with the second, the third with the
    fourth and so on, or the pairs in --pairs. It prints both paths, the cosine similarity and, if the experiment
    recorded the threshold of the equal error rate, the decision.

    With --batch-size 1, or if the model was trained with runner.features_of: utterance, an answer depends only on its
    file. Otherwise, in larger batches, padding slightly changes the features of many backbones, as in an evaluation
    with that eval_batch_size.

    Example: elp infer adapters/asr_le speech.wav --resample
    """
    pairs, files = _inputs(files, options)
    with contextlib.redirect_stdout(sys.stderr):  # keep what S3PRL prints while loading out of the answers
        logging.getLogger("s3prl").setLevel(logging.WARNING)
        model = _load(place, options)
        compares = registry.find(model.task).compares
        if not compares and (pairs is not None or options["embeddings"]):
            raise ElpError(
                f"{place} is a model for {model.task}, but --pairs and --embeddings are only for "
                f"{registry.comparing()}; remove them"
            )
        if compares and not options["embeddings"]:
            pairs, files = pairs or _two_by_two(files), []
    bad: dict[str, str] = {}

    def on_bad(name: str, error: ElpError) -> None:
        bad[name] = str(error.advising(ADVICE) if isinstance(error, AudioError) else error)

    skip = on_bad if options["skip_bad_files"] else None
    answers = []
    with _levels_reported():
        try:
            for answer in _answers(model, pairs, files, batch_size=options["batch_size"], on_bad=skip):
                answers.append(answer.to_dict())
                if options["form"] == "text":
                    _print(_line(answer))
        except AudioError as error:
            raise error.advising(ADVICE) from None  # may be the same exception
    document = {"task": model.task, "answers": answers, "skipped": [{"file": f, "problem": p} for f, p in bad.items()]}
    _finish(document, options, asked=len(files) or len(pairs or []))


@contextlib.contextmanager
def _levels_reported() -> Iterator[None]:
    """Report files that were far too loud once, after the answers, instead of one by one."""
    from upstream_elp.audio.levels import LEVELS, LevelWarning, sentence

    LEVELS.take()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LevelWarning)
        yield
    if loud := LEVELS.take():
        click.echo(f"WARNING: {sentence(loud)}", err=True)


def _inputs(files: Sequence[str], options: dict[str, Any]) -> tuple[list[tuple[str, str]] | None, list[str]]:
    """The requested pairs and files; missing ones are reported before anything is loaded."""
    if options["batch_size"] < 1:
        raise ElpError(f"--batch-size must be at least 1, but is {options['batch_size']}")
    if options["pairs"] is None and options["root"] is not None:
        raise ElpError("--root applies only to the paths in --pairs, but --pairs is missing; add it or remove --root")
    if options["pairs"] is not None and (files or options["embeddings"]):
        raise ElpError("--pairs already names the files to compare; remove the FILEs and --embeddings")
    if options["pairs"] is None and not files:
        raise ElpError("no audio file is named; pass at least one FILE after PLACE, or --pairs LIST")
    pairs = None if options["pairs"] is None else _read_pairs(Path(options["pairs"]), options["root"])
    named = [*files, *dict.fromkeys(file for pair in pairs or [] for file in pair)]
    if not options["skip_bad_files"]:
        _check_there(named)
    if options["out"] is not None:
        check_writable(Path(options["out"]), flag="--json")
    return pairs, list(files)


def _check_there(files: Sequence[str]) -> None:
    if folder := next((file for file in files if Path(file).is_dir()), None):
        raise ElpError(f"{folder} is a folder, not an audio file; name the files in it")
    absent = [file for file in files if not Path(file).is_file()]
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise ElpError(f"no such file: {', '.join(absent[:5])}{more}")


def _read_pairs(path: Path, root: str | None) -> list[tuple[str, str]]:
    """The pairs in lines ``FILE FILE``, or ``LABEL FILE FILE`` as in VoxCeleb's trials; labels are ignored."""
    content = texts.read_text(path, name=f"--pairs {path}")
    pairs = []
    for number, line in enumerate(texts.lines(content), start=1):
        fields = line.split("\t") if "\t" in line else line.split()
        if not line.strip():
            continue
        if len(fields) == 3 and fields[0] in ("0", "1"):
            fields = fields[1:]
        if len(fields) != 2:
            raise ElpError(f"--pairs {path}: line {number} must be 'FILE FILE' or a trial, but is {line[:100]!r}")
        pairs.append(tuple(str(Path(root or "", field)) for field in fields))
    if not pairs:
        raise ElpError(f"--pairs {path} contains no pairs; write 'FILE FILE' on each line")
    return pairs


def _two_by_two(files: Sequence[str]) -> list[tuple[str, str]]:
    if len(files) % 2:
        raise ElpError(
            f"speaker verification compares pairs, but the number of FILEs is odd ({len(files)}); pass an even number, "
            "--pairs LIST or --embeddings"
        )
    return list(zip(files[::2], files[1::2], strict=True))


def _load(place: str, options: dict[str, Any]) -> TrainedModel:
    with uncollected():
        from upstream_elp import inference

    names = ("backbone", "device", "resample", "channels", "precision")
    return inference.load(place, **{name: options[name] for name in names})


def _answers(
    model: TrainedModel,
    pairs: list[tuple[str, str]] | None,
    files: Sequence[str],
    *,
    batch_size: int,
    on_bad: Callable[[str, ElpError], None] | None,
) -> Iterator[Any]:
    """The answers as they come; those for pairs come after all files are embedded."""
    if pairs:
        yield from model.compare_pairs(pairs, batch_size=batch_size, on_bad=on_bad, progress=_bar)
    else:
        yield from model.answers(_bar(files), batch_size=batch_size, on_bad=on_bad)


def _bar(files: Sequence[str]) -> Iterable[str]:
    """A progress bar on a terminal if there are several files."""
    from tqdm import tqdm

    return tqdm(files, unit="file", dynamic_ncols=True, disable=len(files) < 2 or not sys.stderr.isatty())


def _print(line: str) -> None:
    """Print a line without breaking the progress bar."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        click.echo(line)


def _line(answer: Any) -> str:
    """One line of printable characters, whatever the files and labels are called."""
    names = [answer.first, answer.second] if hasattr(answer, "first") else [answer.file]
    fields = [*names, *str(answer).split("\t")]
    return "\t".join("".join(c if c.isprintable() else repr(c)[1:-1] for c in field) for field in fields)


def _finish(document: dict[str, Any], options: dict[str, Any], *, asked: int) -> None:
    """Print and write the JSON document, and report the skipped files."""
    text = json.dumps(document, indent=2, allow_nan=False)
    if options["form"] == "json":
        click.echo(text)
    if options["out"] is not None:
        _write(Path(options["out"]), f"{text}\n")
    for skipped in document["skipped"]:
        click.echo(f"skipped: {skipped['problem']}", err=True)
    if document["skipped"]:
        done = len(document["answers"])
        click.echo(f"{counted(len(document['skipped']), 'file')} skipped; {done} of {asked} answered", err=True)
        if not done:
            raise ElpError("none of the files could be used; see the reasons above")


def _write(path: Path, text: str) -> None:
    from upstream_elp.base.files import whole_file

    try:
        with whole_file(path, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ElpError(f"--json {path} cannot be written: {error.strerror or error}") from error
