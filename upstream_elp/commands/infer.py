"""``elp infer``: answers of a trained model about audio files."""

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
from upstream_elp.base.errors import AudioError, ElpError, counted
from upstream_elp.base.files import check_writable

if TYPE_CHECKING:
    from upstream_elp.inference import TrainedModel

ADVICE = {
    "resample": "convert the file or give --resample",
    "channels": "convert the file or give --channels mean or --channels first",
}
"""What to do about a file, by the option of reading that refused it."""


@click.command()
@click.argument("place", type=click.Path())
@click.argument("files", nargs=-1, type=click.Path(), metavar="[FILE]...")
@click.option("--pairs", type=click.Path(), help="Speaker verification: a list of lines 'FILE FILE', or of trials.")
@click.option("--root", type=click.Path(), help="What relative paths in --pairs start from; default: here.")
@click.option("--embeddings", is_flag=True, help="Speaker verification: each file's embedding instead of pairs.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="What is printed.")
@click.option("--json", "out", type=click.Path(), help="Write the JSON document into this file too.")
@click.option("--device", help="cpu, cuda or cuda:N; default: what the machine has.")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Default: that of its evaluation.")
@click.option("--batch-size", type=int, default=1, show_default=True, help="Files that are computed at a time.")
@click.option("--backbone", help="The backbone's checkpoint, if it is not where training found it.")
@click.option("--resample", is_flag=True, help="Convert files of another sample rate.")
@click.option("--channels", type=click.Choice(["mean", "first"]), help="Accept files of several channels.")
@click.option("--skip-bad-files", is_flag=True, help="Leave out what cannot be used, and list it at the end.")
def infer(place: str, files: Sequence[str], **options: Any) -> None:
    """Transcripts, emotions, intents or speaker similarity of audio FILEs from PLACE.

    PLACE is a folder that `elp export` wrote, an experiment directory, or a checkpoint. Printed is one line per file:
    its path, a tab, the answer. Speaker verification takes the files two by two (the first with the second, the third
    with the fourth), or the pairs of --pairs, and prints both paths, the cosine and the decision, if the experiment
    recorded the threshold of equal error rate.

    With --batch-size 1 an answer depends on its file alone; in larger batches padding changes many backbones' features
    a little, as in an evaluation with that eval_batch_size.
    """
    pairs, files = _inputs(files, options)
    with contextlib.redirect_stdout(sys.stderr):  # what S3PRL prints while it loads is no answer
        logging.getLogger("s3prl").setLevel(logging.WARNING)
        model = _load(place, options)
        compares = registry.find(model.task).compares
        if not compares and (pairs is not None or options["embeddings"]):
            raise ElpError(
                f"{place} is a model of {model.task}: --pairs and --embeddings are for {registry.comparing()}"
            )
        if compares and not options["embeddings"]:
            pairs, files = pairs or _two_by_two(files), []
    bad: dict[str, str] = {}

    def on_bad(name: str, error: ElpError) -> None:
        bad[name] = str(error.advising(ADVICE) if isinstance(error, AudioError) else error)

    skip = on_bad if options["skip_bad_files"] else None
    told = []
    with _levels_told():
        try:
            for answer in _answers(model, pairs, files, batch_size=options["batch_size"], on_bad=skip):
                told.append(answer.to_dict())
                if options["form"] == "text":
                    _tell(_line(answer))
        except AudioError as error:
            raise error.advising(ADVICE) from None  # which may be the same one
    document = {"task": model.task, "answers": told, "skipped": [{"file": f, "problem": p} for f, p in bad.items()]}
    _finish(document, options, asked=len(files) or len(pairs or []))


@contextlib.contextmanager
def _levels_told() -> Iterator[None]:
    """Say once, after the answers, which files were far too loud, and not at each of them."""
    from upstream_elp.audio.levels import LEVELS, LevelWarning, sentence

    LEVELS.take()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LevelWarning)
        yield
    if loud := LEVELS.take():
        click.echo(f"WARNING: {sentence(loud)}", err=True)


def _inputs(files: Sequence[str], options: dict[str, Any]) -> tuple[list[tuple[str, str]] | None, list[str]]:
    """The pairs and the files that were asked for; what is not there is told before anything is loaded."""
    if options["batch_size"] < 1:
        raise ElpError(f"--batch-size {options['batch_size']}: it must be at least 1")
    if options["pairs"] is None and options["root"] is not None:
        raise ElpError("--root says where the paths of --pairs start; leave it out without --pairs")
    if options["pairs"] is not None and (files or options["embeddings"]):
        raise ElpError("--pairs names the files to compare; leave the FILEs and --embeddings out")
    if options["pairs"] is None and not files:
        raise ElpError("no audio file is named; give at least one FILE after PLACE, or --pairs LIST")
    pairs = None if options["pairs"] is None else _read_pairs(Path(options["pairs"]), options["root"])
    named = [*files, *dict.fromkeys(file for pair in pairs or [] for file in pair)]
    if not options["skip_bad_files"]:
        _check_there(named)
    if options["out"] is not None:
        check_writable(Path(options["out"]), flag="--json")
    return pairs, list(files)


def _check_there(files: Sequence[str]) -> None:
    if folder := next((file for file in files if Path(file).is_dir()), None):
        raise ElpError(f"{folder} is a folder, but audio files are expected; name the files in it")
    absent = [file for file in files if not Path(file).is_file()]
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise ElpError(f"no such file: {', '.join(absent[:5])}{more}")


def _read_pairs(path: Path, root: str | None) -> list[tuple[str, str]]:
    """Lines ``FILE FILE``, or ``LABEL FILE FILE`` as in VoxCeleb's trials, whose label is not looked at."""
    content = texts.read_text(path, name=f"--pairs {path}")
    pairs = []
    for number, line in enumerate(texts.lines(content), start=1):
        fields = line.split("\t") if "\t" in line else line.split()
        if not line.strip():
            continue
        if len(fields) == 3 and fields[0] in ("0", "1"):
            fields = fields[1:]
        if len(fields) != 2:
            raise ElpError(f"line {number} of --pairs {path} is {line[:100]!r}; it must be 'FILE FILE' or a trial")
        pairs.append(tuple(str(Path(root or "", field)) for field in fields))
    if not pairs:
        raise ElpError(f"--pairs {path} names no pair")
    return pairs


def _two_by_two(files: Sequence[str]) -> list[tuple[str, str]]:
    if len(files) % 2:
        raise ElpError(
            f"speaker verification compares pairs, but an odd number of FILEs is named ({len(files)}): give an even "
            "number, --pairs LIST, or --embeddings"
        )
    return list(zip(files[::2], files[1::2], strict=True))


def _load(place: str, options: dict[str, Any]) -> TrainedModel:
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
    """Answers as they come; those of pairs when all files are embedded."""
    if pairs:
        yield from model.compare_pairs(pairs, batch_size=batch_size, on_bad=on_bad, progress=_bar)
    else:
        yield from model.answers(_bar(files), batch_size=batch_size, on_bad=on_bad)


def _bar(files: Sequence[str]) -> Iterable[str]:
    """A progress bar on a terminal, where there are several files."""
    from tqdm import tqdm

    return tqdm(files, unit="file", dynamic_ncols=True, disable=len(files) < 2 or not sys.stderr.isatty())


def _tell(line: str) -> None:
    """Print a line, past the progress bar."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        click.echo(line)


def _line(answer: Any) -> str:
    """One line of plain characters, whatever files and labels are called."""
    names = [answer.first, answer.second] if hasattr(answer, "first") else [answer.file]
    fields = [*names, *str(answer).split("\t")]
    return "\t".join("".join(c if c.isprintable() else repr(c)[1:-1] for c in field) for field in fields)


def _finish(document: dict[str, Any], options: dict[str, Any], *, asked: int) -> None:
    """Print and write the JSON document, and say what was left out."""
    text = json.dumps(document, indent=2, allow_nan=False)
    if options["form"] == "json":
        click.echo(text)
    if options["out"] is not None:
        _write(Path(options["out"]), f"{text}\n")
    for skipped in document["skipped"]:
        click.echo(f"skipped: {skipped['problem']}", err=True)
    if document["skipped"]:
        done = len(document["answers"])
        click.echo(f"{counted(len(document['skipped']), 'file')} skipped; {done} of {asked} answers given", err=True)
        if not done:
            raise ElpError("none of the files could be used")


def _write(path: Path, text: str) -> None:
    from upstream_elp.base.files import whole_file

    try:
        with whole_file(path, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ElpError(f"--json {path}: cannot be written ({error.strerror or error})") from error
