"""The quickstart as a plan of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from downstream_heads import registry
from upstream_elp.adapters.config import is_file, load_config, preset_names, recipes_dir
from upstream_elp.base.errors import ElpError
from upstream_elp.base.values import did_you_mean
from upstream_elp.sweep.plan import Plan, parse_plan

TASKS = {name: task for name, task in registry.tasks().items() if task.quick is not None}
SYNTHESISED = tuple(name for name, task in TASKS.items() if task.synthesised)
"""The tasks whose corpora ``elp mini-superb`` makes."""
UPSTREAMS = {"fbank": "fbank_scaled"}
"""Methods that are upstreams without a backbone."""
METHODS = ("fbank", "weighted_sum", "lora_qv8", "full_finetune", "elp_zero")
"""The last starts first: each then begins from the frozen features that the ones behind it have kept."""
BASELINE = "weighted_sum"
FAST_METHODS = ("fbank", "weighted_sum", "elp_zero")
FAST_TASKS = ("elp_er", "elp_ic")
"""Those whose runs are the shortest."""


def make_plan(
    *,
    tasks: Sequence[str],
    methods: Sequence[str],
    backbone: Path,
    data: Path,
    steps: int | None,
    seed: int,
    note: str = "",
) -> Plan:
    """The plan of the quickstart.

    Args:
        tasks: full names of tasks.
        methods: names of :data:`UPSTREAMS`, presets or YAML files.
        backbone: the frozen model.
        data: folder of the corpora.
        steps: optimizer steps per run; None for the number in the task's recipe.
        seed: ``--seed``.
        note: what was measured, for the report.
    """
    ordered = sorted(methods, key=lambda name: -METHODS.index(name) if name in METHODS else 1)
    raw: dict[str, Any] = {
        "data": str(data),
        "methods": [{"upstream": UPSTREAMS[name], "name": name} if name in UPSTREAMS else name for name in ordered],
        "backbones": [str(backbone)],
        "seeds": [seed],
        "include": [_block(task, steps) for task in tasks],
        **({"description": note} if note else {}),
        **({"compare": {"baseline": BASELINE}} if BASELINE in methods else {}),
    }
    return parse_plan(raw, where="elp quickstart", name="quickstart")


def _block(task: str, steps: int | None) -> dict[str, Any]:
    recipe = recipes_dir() / "tasks" / TASKS[task].quick
    runner: dict[str, Any] = {"eval_dataloaders": []}  # nothing is chosen on dev: the last step is tested
    if steps is not None:
        runner |= {"total_steps": steps, "eval_step": steps, "save_step": steps, "log_step": max(1, steps // 12)}
    settings = {f"runner.{key}": value for key, value in runner.items()}
    return {"tasks": [task], "config": recipe.stem, "set": settings}


def check_names(tasks: Sequence[str], methods: Sequence[str]) -> list[str]:
    """Check tasks and methods, and return the tasks' full names.

    Raises:
        ElpError: an unknown task or preset, none at all, or one that is there twice.
    """
    tasks = [registry.whole_name(name) for name in tasks]
    known = {"--tasks": list(TASKS), "--methods": [*UPSTREAMS, *preset_names()]}
    for flag, names in (("--tasks", tasks), ("--methods", methods)):
        if not names:
            raise ElpError(f"{flag} is empty; choose from {', '.join(known[flag])}")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ElpError(f"{flag} must name each of them once, but {twice[0]} is there twice; remove one")
    for name in tasks:
        if name not in TASKS:
            raise ElpError(f"unknown task {name!r}; the tasks are: {', '.join(TASKS)}")
    for method in methods:
        if method in UPSTREAMS:
            continue
        if method not in known["--methods"] and not is_file(method) and len(Path(method).parts) < 2:
            hint = did_you_mean(method, known["--methods"]) or f"choose from {', '.join(known['--methods'])}"
            raise ElpError(f"--methods must be presets, YAML files or fbank, but {method!r} is none of these; {hint}")
        load_config(method)
    return tasks


def check_synthesised(tasks: Sequence[str]) -> None:
    """Refuse tasks whose corpora cannot be synthesised.

    Raises:
        ElpError: naming these tasks.
    """
    if lacking := [name for name in tasks if not TASKS[name].synthesised]:
        raise ElpError(
            f"--tasks {','.join(lacking)}: mini-SUPERB does not include the corpus; pass real corpora with --data, or "
            f"choose from {', '.join(SYNTHESISED)}"
        )


def check_places(data: Path | None, backbone: Path | None) -> None:
    """Raise an :class:`ElpError` if the corpora or the backbone are missing; None is not checked."""
    from upstream_elp.backbones.huggingface_files import is_hugging_face_folder

    if data is not None and not data.is_dir():
        raise ElpError(f"--data {data}: no such folder; name the folder with the corpora (see docs/real-corpora.md)")
    if backbone is not None and not (backbone.is_file() or is_hugging_face_folder(backbone)):
        raise ElpError(f"--backbone {backbone}: no such checkpoint, or folder in Hugging Face's format")
