"""``elp prepare``: check a corpus in its official layout and write the tables that the tasks read."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from upstream_elp.audio.headers import Options
from upstream_elp.base.errors import ElpError, counted
from upstream_elp.corpora import files, fluent, iemocap, librilight, librispeech, voxceleb1
from upstream_elp.corpora.listing import Report

Folder = click.Path(file_okay=False, path_type=Path)


class CorpusGroup(click.Group):
    """A group that answers an unknown corpus with the list of the known ones."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple:
        if args and args[0] not in self.commands:
            ctx.fail(f"unknown corpus {args[0]!r}; the corpora are: {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=CorpusGroup, context_settings={"help_option_names": ["-h", "--help"]})
def prepare() -> None:
    """Check a corpus in its official layout and write the tables that the tasks read.

    Every problem of the corpus is reported in one run, each in one sentence; then no table is written and the exit
    status is 2. Headers already read are remembered: a run that was stopped continues where it was.
    """


def _shared(skip: bool) -> Callable[[Callable], Callable]:
    """Return a decorator with the arguments and options that every corpus has.

    Args:
        skip: whether single broken files can be left out for this corpus.
    """

    def decorate(function: Callable) -> Callable:
        decorators = [
            click.argument("root", type=Folder),
            click.argument("out", type=Folder, required=False),
            click.option("--jobs", type=click.IntRange(min=1), default=8, show_default=True, help="Reading threads."),
            click.option(
                "--decode", is_flag=True, help="Decode every sample too: finds damaged and cut-off files; slow."
            ),
            click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON on standard output."),
        ]
        if skip:
            text = "Write the tables without the files that have problems."
            decorators.append(click.option("--skip-broken", is_flag=True, help=text))
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _run(
    corpus: str,
    make: Callable[..., Report],
    root: Path,
    out: Path | None,
    *,
    as_json: bool,
    jobs: int,
    decode: bool,
    skip_broken: bool | None = None,
    **chosen: object,
) -> None:
    """Prepare one corpus, print and keep the report, and end with status 2 where problems forbid the tables.

    ``skip_broken`` is None for a corpus that has no such option.
    """
    can_skip, skip_broken = skip_broken is not None, bool(skip_broken)
    out = files.default_out(corpus, root) if out is None else out
    report = make(root, out, options=Options(jobs=jobs, decode=decode, skip_broken=skip_broken), **chosen)
    values = report.to_dict(skip_broken=skip_broken)
    kept = files.write_json(out / f"{corpus}-report.json", values)
    click.echo(json.dumps(values, indent=1, ensure_ascii=False) if as_json else report.to_text())
    if report.blocked(skip_broken=skip_broken):
        helps = can_skip and any(problem.skippable for problem in report.problems)
        more = "; --skip-broken leaves out single files" if helps else ""
        count = counted(len(report.problems), "problem")
        raise ElpError(f"{root}: {count}, no table was written; the whole list is in {kept}{more}")
    if not as_json and report.problems:
        click.echo(f"left out {counted(len(report.broken()), 'file')} with problems")


@prepare.command("librispeech", short_help="Length tables of LibriSpeech's splits.")
@click.option("--split", "splits", multiple=True, type=click.Choice(librispeech.SPLITS), help="One split; repeatable.")
@_shared(skip=True)
def _librispeech(root: Path, out: Path | None, splits: Iterable[str], **options: object) -> None:
    """Check LibriSpeech in ROOT (holds train-clean-100, dev-clean, ...) and write OUT/len_for_bucket/SPLIT.csv.

    Get it from openslr.org/12. Without --split, all splits that are there. OUT defaults to a folder of its own below
    $ELP_CACHE or ~/.cache/s3prl-elp.
    """
    _run("librispeech", librispeech.prepare, root, out, splits=splits, **options)


@prepare.command("librilight", short_help="Length tables of Libri-light's 10 min, 1 h and 10 h sets.")
@click.option("--split", "splits", multiple=True, type=click.Choice(list(librilight.SUBSETS)), help="Repeatable.")
@_shared(skip=True)
def _librilight(root: Path, out: Path | None, splits: Iterable[str], **options: object) -> None:
    """Check Libri-light's labelled sets in ROOT (holds librispeech_finetuning) and write OUT/len_for_bucket/SUBSET.csv.

    The archive is dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz. Unpack it into the LibriSpeech
    folder: then one root and one OUT serve training on 10h and testing on dev-clean.
    """
    _run("librilight", librilight.prepare, root, out, splits=splits, **options)


@prepare.command("voxceleb1", short_help="VoxCeleb1's folders and trial lists.")
@click.option("--trials", multiple=True, type=click.Path(path_type=Path), help="A trial list; repeatable.")
@_shared(skip=False)
def _voxceleb1(root: Path, out: Path | None, trials: Iterable[Path], **options: object) -> None:
    """Check VoxCeleb1 in ROOT (holds dev/wav and test/wav) and its trial lists, which are written to OUT in one form.

    Without --trials, the published names in ROOT or ROOT/meta: voxceleb1_test_v2.txt (SUPERB), voxceleb1_test.txt,
    veri_test.txt, veri_test2.txt.
    """
    _run("voxceleb1", voxceleb1.prepare, root, out, trials=trials, **options)


@prepare.command("iemocap", short_help="Metadata of IEMOCAP's five folds.")
@_shared(skip=True)
def _iemocap(root: Path, out: Path | None, **options: object) -> None:
    """Check IEMOCAP in ROOT (holds Session1 to Session5) and write OUT/meta_data/SessionN/{train,test}_meta_data.json.

    The labels are neutral, happy (with excited), angry and sad; each fold tests on one session.
    """
    _run("iemocap", iemocap.prepare, root, out, **options)


@prepare.command("fluent-speech-commands", short_help="Fluent Speech Commands' tables and audio.")
@_shared(skip=False)
def _fluent(root: Path, out: Path | None, **options: object) -> None:
    """Check Fluent Speech Commands in ROOT (holds data and wavs): tables, audio, speakers and slot values.

    The tasks read the corpus' own tables; OUT/slots.json only lists the slot values in the order of their class
    numbers.
    """
    _run("fluent-speech-commands", fluent.prepare, root, out, **options)
