"""The fields of the form that follow from the runs: parameters, stride and MACs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from upstream_elp.audio.formats import SAMPLE_RATE
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from upstream_elp.experiment.layer_weights import count_components
from upstream_elp.inference.rebuild import rebuild
from upstream_elp.launch.registry import register
from upstream_elp.submission.macs import superb_macs

_TASK_PARTS = ("head", "featurizer")
CONSTRAINED, UNCONSTRAINED = "1", "3"


@dataclass
class Computed:
    """Fields by name, and what is worth knowing about them."""

    fields: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def compute(runs: Mapping[str, Path], *, backbone: str | None = None, macs: bool = True) -> Computed:
    """Compute the fields of the form from the checkpoints of runs.

    Args:
        runs: the folder of each task's run; one fold is enough for ER.
        backbone: where the backbone is, if it has moved since training.
        macs: whether to count MACs, which takes some seconds for a model of Base size.

    Returns:
        The fields that could be computed; the remarks name the reasons for the others.
    """
    found = Computed()
    checkpoints: dict[str, Checkpoint] = {}
    for task, folder in runs.items():
        try:
            checkpoints[task] = load_checkpoint(find_checkpoint(folder))
        except ElpError as error:
            found.remarks.append(f"{task}: not counted, as {error}")
    if not checkpoints:
        return found
    tuned = _count(found, checkpoints)
    task, checkpoint = next(iter(checkpoints.items()))
    try:
        upstream = build(checkpoint, str(runs[task]), backbone)
    except ElpError as error:
        found.remarks.append(f"paramShared, stride and MACs: not computed, as {error}")
        return found
    everything = sum(parameter.numel() for parameter in upstream.parameters())
    found.fields["paramShared"] = str(everything - tuned[task])
    rate = upstream.get_downsample_rates("hidden_states")
    found.fields["stride"] = str(round(1000 * rate / SAMPLE_RATE))
    if macs:
        found.fields |= {name: str(count) for name, count in superb_macs(upstream).items()}
        found.remarks.append(
            f"MACs: half the FLOPs that torch.utils.flop_counter counts, of the upstream of {task} with its adapters"
        )
    return found


def _count(found: Computed, checkpoints: Mapping[str, Checkpoint]) -> dict[str, int]:
    """Fill in the parameters that checkpoints contain; return those in each task's upstream."""
    tuned, heads = {}, {}
    for task, checkpoint in checkpoints.items():
        parts = count_components(checkpoint)
        heads[task] = sum(parts.get(name, 0) for name in _TASK_PARTS)
        tuned[task] = sum(parts.values()) - heads[task]
    each = ", ".join(f"{task} {count:,}" for task, count in heads.items())
    found.remarks.append(f"taskSpecParam: heads and layer weights of {each}")
    if len(set(tuned.values())) > 1:
        each = ", ".join(f"{task} {count:,}" for task, count in tuned.items())
        found.remarks.append(f"fineTunedParam: the largest of {each}")
    found.fields["taskSpecParam"] = str(sum(heads.values()))
    found.fields["fineTunedParam"] = str(max(tuned.values()))
    found.fields["task"] = UNCONSTRAINED if any(tuned.values()) else CONSTRAINED
    return tuned


def build(checkpoint: Checkpoint, where: str, backbone: str | None) -> nn.Module:
    """Build the upstream of a run, ours or one of S3PRL's own.

    Raises:
        ElpError: it cannot be built, such as for want of its file.
    """
    args = checkpoint.args
    if str(args.upstream).startswith("elp_"):
        return rebuild(checkpoint, where, backbone).eval()
    register()
    from s3prl import hub

    try:
        make = getattr(hub, args.upstream)
        return make(ckpt=backbone or args.upstream_ckpt, model_config=args.upstream_model_config).eval()
    except Exception as error:  # any upstream of S3PRL's may fail in its own way, and the form can be filled by hand
        raise ElpError(f"the upstream {args.upstream} of {where} cannot be built ({error})") from error
