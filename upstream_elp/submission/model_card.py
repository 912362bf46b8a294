"""Model cards: what an adapter is, how it was trained and measured, and how to load it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from downstream_heads import registry
from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import write_text
from upstream_elp.corpora.tables import is_table
from upstream_elp.experiment.logs import read_logs
from upstream_elp.statistics import Interval
from upstream_elp.upstream.adapter_folder import AdapterFolder, read_adapter_folder
from upstream_elp.upstream.head_folder import CONFIG_FILE as HEAD_CONFIG
from upstream_elp.upstream.head_folder import has_head

CARD = "README.md"


@dataclass(frozen=True)
class Facts:
    """What a folder does not say about itself.

    Attributes:
        license: identifier of its licence, such as `mit`; None leaves it open.
        name: title of the card.
        data: what it was trained on.
        tests: lines of `metrics.jsonl` about test sets.
    """

    license: str | None = None
    name: str = "adapter"
    data: str | None = None
    tests: tuple[Mapping[str, Any], ...] = ()


def facts_of(
    expdir: Path, *, task: str | None, name: str, license: str | None, places: Iterable[str | None] = ()
) -> Facts:
    """Collect the facts of a run: its corpus or own data, and its evaluations of checkpoints.

    Args:
        expdir: the run's folder.
        task: its task.
        name: title of the card.
        license: identifier of the licence.
        places: where its data were; a manifest means own data.
    """
    about = registry.tasks().get(task or "")
    tests = tuple(read_logs(expdir).tests) if expdir.is_dir() else ()
    own = next((Path(place).name for place in places if place and is_table(Path(place))), None)
    corpus = about.corpus if about else None
    return Facts(license=license, name=name, data=f"own data ({own})" if own else corpus, tests=tests)


def write_card(folder: Path, facts: Facts) -> Path:
    """Write the model card of an adapter folder.

    Raises:
        ElpError: it is not an adapter folder, or already has a card.
    """
    path = folder / CARD
    if path.exists():
        raise ElpError(f"{path} already exists and may have been edited; remove it to write a new model card")
    return write_text(path, adapter_card(read_adapter_folder(folder), facts, with_head=has_head(folder)))


def adapter_card(content: AdapterFolder, facts: Facts, *, with_head: bool) -> str:
    """Return the model card of one adapter, in Markdown behind a YAML header."""
    config, count = content.config.to_dict(), sum(tensor.numel() for tensor in content.tensors.values())
    rows = [
        ("backbone", _backbone(content)),
        ("preset", str(content.config.name)),
        ("trained parameters in the backbone", f"{count:,}"),
        ("trained on", facts.data or "not recorded"),
        ("contains a head", f"yes ({HEAD_CONFIG})" if with_head else "no"),
        ("licence", facts.license or "not chosen yet"),
    ]
    sections = [
        _header([content], facts),
        f"# {facts.name}\n\nAn adapter for a frozen speech model, trained with s3prl-elp.",
        _table(("", ""), rows),
        f"## Results\n\n{_results(facts)}",
        f"## Use\n\n{_use(content, with_head)}",
        f"## Configuration\n\n```yaml\n{yaml.safe_dump(config, sort_keys=False).rstrip()}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def hub_card(contents: Mapping[str, AdapterFolder], facts: Facts) -> str:
    """Return the model card of a repository in the hidden set's layout."""
    rows = [
        (task, str(content.config.name), f"{sum(tensor.numel() for tensor in content.tensors.values()):,}")
        for task, content in contents.items()
    ]
    text = (
        "An upstream in the layout of SUPERB's hidden set: a frozen backbone (`model.pt`, or the folder `backbone`) "
        "and adapters. A task with an adapter has its own key in the result; the others take `hidden_states`.\n\n"
        "SUPERB's challenge allows no labelled data before the evaluation. Adapters that were trained on labels break "
        "this rule, so share this "
        "repository, but do not enter it there."
    )
    load = '```python\nfrom expert import UpstreamExpert\n\nmodel = UpstreamExpert("model.pt")\n```'
    sections = [
        _header(list(contents.values()), facts),
        f"# {facts.name}\n\n{text}",
        _table(("task", "preset", "parameters"), rows),
        f"Backbone: {_backbone(next(iter(contents.values())))}",
        f"## Use\n\n`pip install -r requirements.txt`, then:\n\n{load}",
    ]
    return "\n\n".join(sections) + "\n"


def _header(contents: list[AdapterFolder], facts: Facts) -> str:
    """Return the YAML header that Hugging Face's hub reads."""
    names = {name.removeprefix("hf:") for content in contents if (name := content.backbone) and name.startswith("hf:")}
    header: dict[str, Any] = {"license": facts.license} if facts.license else {}
    header |= {"base_model": sorted(names), "base_model_relation": "adapter"} if names else {}
    header |= {"library_name": "s3prl-elp", "tags": ["speech", "adapter", "s3prl"]}
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---"


def _backbone(content: AdapterFolder) -> str:
    name = content.backbone or "a local checkpoint"
    return f"{name} ({content.family}, sha256 of its tensors `{content.fingerprint.sha256}`)"


def _results(facts: Facts) -> str:
    rows = [
        (line["split"], registry.metric(name).title, _measured(line, name, value))
        for line in facts.tests
        for name, value in line["metrics"].items()
        if name != "loss"
    ]
    return _table(("split", "metric", "value"), rows) if rows else "This run was not evaluated on a test set."


def _measured(line: Mapping[str, Any], name: str, value: float | None) -> str:
    """Return a value with its interval over speakers, if there is one."""
    unit = registry.metric(name).unit
    shown = "not finite" if value is None else f"{value:.2f}{f' {unit}' if unit else ''}"
    known = Interval.from_dict((line.get("intervals") or {}).get(name))
    return f"{shown} {known.margin}" if known else shown


def _use(content: AdapterFolder, with_head: bool) -> str:
    backbone = "" if content.backbone else ', backbone="backbone.pt"'
    call = f'model = upstream_elp.load_adapters({{"mine": "FOLDER"}}{backbone})'
    if with_head:
        call = f'model = upstream_elp.load("FOLDER"{backbone})\nprint(model("speech.wav"))'
    train = "In S3PRL: `elp run -m train -u elp_local -k FOLDER -d TASK`."
    return f"```python\nimport upstream_elp\n\n{call}\n```\n\n{train}"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
