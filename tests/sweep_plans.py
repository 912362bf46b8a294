"""Plans for tests: small valid ones, written to files."""

from pathlib import Path

import yaml

from tests.toys import tiny_backbone

SHORT = {
    "runner.total_steps": 4, "runner.eval_step": 2, "runner.save_step": 2, "runner.log_step": 1,
    "downstream_expert.modelrc.projector_dim": 8, "downstream_expert.datarc.train_batch_size": 2,
}  # fmt: skip


def content(data, **changes):
    """The content of a valid plan with some keys changed; a key that is None is removed."""
    plan = {
        "data": str(data),
        "tasks": ["ic"],
        "methods": ["weighted_sum", "le"],
        "backbones": [str(tiny_backbone())],
        "seeds": [0],
        "config": "{task}_quick",
        "set": dict(SHORT),
        **changes,
    }
    return {key: value for key, value in plan.items() if value is not None}


def write(folder: Path, data, *, file="plan.yaml", **changes) -> Path:
    """Write such a plan."""
    path = folder / file
    path.write_text(yaml.safe_dump(content(data, **changes)))
    return path
