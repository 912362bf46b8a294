"""``elp submit``: pack predictions for SUPERB's public set, or adapters in the layout of the hidden set."""

from __future__ import annotations

from pathlib import Path

import click

from upstream_elp.base.errors import ElpError, counted
from upstream_elp.base.files import check_writable
from upstream_elp.commands.folders import use_data

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("out", metavar="[OUT.zip]", type=FOLDER, required=False)
@click.option("--asr", type=FOLDER, help="Folder of an ASR run, evaluated on test-clean.")
@click.option("--asr-lm", type=FOLDER, help="Folder of an ASR run of S3PRL, evaluated with its language model.")
@click.option("--sv", type=FOLDER, help="Folder of an SV run, evaluated on test.")
@click.option("--ic", type=FOLDER, help="Folder of an IC run, evaluated on test.")
@click.option("--er", type=FOLDER, nargs=5, help="Folders of five ER runs, one of each fold, evaluated on test.")
@click.option("--data", type=FOLDER, help="Folder of corpora, to know the test sets. [default: $ELP_DATA]")
@click.option("--truth", type=FOLDER, help="Folder of true answers, named as runs write them, instead of corpora.")
@click.option("--form", type=FOLDER, help="Fields of the site's form. [default: form.yaml next to OUT.zip]")
@click.option("--macs/--no-macs", default=True, help="Count MACs for the form. [default: yes]")
@click.option("--backbone", help="The backbone's checkpoint; needed for --hf, or if it has moved since training.")
@click.option("--hf", type=FOLDER, help="Write the hidden set's layout to this folder instead of a zip.")
@click.option("--adapter", "adapters", multiple=True, metavar="TASK=FOLDER", help="Adapter for --hf; repeatable.")
@click.option("--license", "license_", help="Licence in the model card of --hf, such as mit.")
def submit(
    out: Path | None,
    asr: Path | None,
    asr_lm: Path | None,
    sv: Path | None,
    ic: Path | None,
    er: tuple[Path, ...] | None,
    data: Path | None,
    truth: Path | None,
    form: Path | None,
    macs: bool,
    backbone: str | None,
    hf: Path | None,
    adapters: tuple[str, ...],
    license_: str | None,
) -> None:
    """Pack the predictions of runs, of ours or of S3PRL's own tasks, into OUT.zip for SUPERB's public set.

    Any of the tasks may be there. Every file is checked: it must answer the whole test set, each key once and no other,
    in the site's encoding and form. The same predictions always give the same bytes.

    The fields of the site's form are in form.yaml. It is written with all that can be computed from the runs; fill in
    the rest, and run the command again to check it. What you wrote is kept.

    With --hf, a repository in the layout of SUPERB's hidden set is written instead: exported adapters on one backbone,
    each under the organisers' key of its task, loaded and checked in a new process without a network.

    Example: elp submit submission.zip --asr result/asr --sv result/sv --data /corpora
    """
    single = {"asr": asr, "asr_lm": asr_lm, "sv": sv, "ic": ic}
    folders = {**{task: [folder] for task, folder in single.items() if folder}, "er": list(er or ())}
    if hf is not None:
        if out is not None or any(folders.values()):
            raise ElpError("--hf writes a folder of adapters and no zip; remove OUT.zip and the folders of runs")
        _write_hub(hf, adapters, backbone, license_)
        return
    if out is None or adapters or license_:
        wrong = "needs OUT.zip" if out is None else "takes --adapter and --license only with --hf"
        raise ElpError(f"elp submit {wrong}; pass OUT.zip and the folders of runs, or --hf and adapters")
    form = form or out.with_name("form.yaml")
    for path, flag in ((out, "OUT.zip"), (form, "--form")):
        check_writable(path, flag=flag)
    if out.suffix != ".zip":
        raise ElpError(f"OUT.zip must end in .zip, as the site refuses other files, but is {out}; rename it")
    use_data(data)
    _pack(out, folders, truth, form, macs, backbone)


def _pack(
    out: Path, folders: dict[str, list[Path]], truth: Path | None, form: Path, macs: bool, backbone: str | None
) -> None:
    """Check predictions, pack them and fill the form."""
    from upstream_elp.submission import archive
    from upstream_elp.submission.form import read_form
    from upstream_elp.submission.lines import checked
    from upstream_elp.submission.truth import comparability

    files = archive.collect(folders)
    if not files:
        raise ElpError("at least one run must be named, but none is; pass --asr, --asr-lm, --sv, --er or --ic")
    known = read_form(form) if form.exists() else {}
    truths = archive.truths_of(files, truth)
    try:
        contents = {part: path.read_bytes() for part, path in files.items()}
    except OSError as error:
        raise ElpError(f"{error.filename} cannot be read ({error.strerror}); check its permissions") from error
    expected = {part: found.answers for part, found in truths.items()}
    answers = checked(contents, expected, names={part: str(path) for part, path in files.items()})
    size = archive.pack(out, contents)
    for part, path in files.items():
        click.echo(f"{part.path}: {counted(len(answers[part]), 'key')} from {path}")
    click.echo(f"{out}: {size / 2**20:.2f} MiB")
    if other := comparability(truths):
        click.echo(f"note: {other}")
    _fill(form, known, {part.task: path.parent for part, path in reversed(files.items())}, macs, backbone)


def _write_hub(out: Path, adapters: tuple[str, ...], backbone: str | None, license_: str | None) -> None:
    """Write and check the hidden set's layout."""
    from upstream_elp.submission.hub_layout import parse_adapters, validate, write_hub_folder
    from upstream_elp.submission.model_card import Facts

    if backbone is None:
        raise ElpError("--hf needs the backbone, as the repository contains it, but has none; pass --backbone FILE")
    write_hub_folder(out, parse_adapters(adapters), Path(backbone), card=Facts(license=license_, name=out.name))
    for task, found in validate(out).items():
        click.echo(
            f"{task}: {counted(found['states'], 'state')} of {found['dim']} features; in a batch, they change by up to "
            f"{found['change']:.1e} of their standard deviation"
        )
    click.echo(f"{out}: loads without a network")


def _fill(path: Path, known: dict[str, str], runs: dict[str, Path], macs: bool, backbone: str | None) -> None:
    """Write the form with what was known, computed values and defaults, and name the fields that are empty."""
    from upstream_elp.submission import form
    from upstream_elp.submission.computed import compute

    wanted = macs and not all(known.get(key) for key in form.COUNTED)
    ordered = {task: runs[task] for task in ("asr", "asr_lm", "sv", "er", "ic") if task in runs}
    computed = compute(ordered, backbone=backbone, macs=wanted)
    values = form.check_form(form.filled(known, computed.fields), where=str(path))
    form.write_form(path, values, computed.remarks)
    empty = form.empty_fields(values)
    click.echo(f"{path}: fill in {', '.join(empty)}" if empty else f"{path}: complete")
