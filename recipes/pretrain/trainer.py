"""The state of a pretraining run: model, heads, optimizer and step, in one process or several."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from batches import Batch
from losses import Heads
from model import build_backbone, compile_backbone, hidden_states, joined, new_checkpoint, parts
from torch import Tensor, nn

from upstream_elp.base.errors import ElpError
from upstream_elp.base.files import whole_file

STATE = "state.pt"
BAD_STEPS = 20  # steps in a row whose gradient is not finite


def join_processes() -> tuple[int, int]:
    """Return this process's rank and their number, and connect them if ``torchrun`` started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return 0, 1
    dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


class Trainer:
    """One step at a time.

    Args:
        config: the settings of the run, which its checkpoint repeats.
        classes: number of classes by target.
        device: where to train.
    """

    def __init__(self, config: dict[str, Any], classes: dict[str, int], device: torch.device) -> None:
        torch.manual_seed(config["seed"])
        self.config, self.device, self.step, self.bad = config, device, 0, 0
        checkpoint = new_checkpoint(config["size"], config["family"], seed=config["seed"])
        self.described, weights = parts(checkpoint)
        self.backbone = build_backbone(checkpoint).to(device).train()
        dim = weights["mask_emb"].numel()
        self.heads = Heads(dim, classes).to(device)
        self.parameters = [*self.backbone.parameters(), *self.heads.parameters()]
        decayed = [weight for weight in self.parameters if weight.ndim > 1]
        others = [weight for weight in self.parameters if weight.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config["lr"], betas=(0.9, 0.98), eps=1e-6)
        if config["compile"]:
            compile_backbone(self.backbone)

    def rate(self) -> float:
        """Return the learning rate: a linear rise, a constant part, and a linear fall to 2 %."""
        total, warm = self.config["steps"], min(self.config["warmup"], self.config["steps"] // 5 + 1)
        fall = self.config["decay_from"]
        left = (1 - self.step / total) / (1 - fall)
        return self.config["lr"] * min(1.0, (self.step + 1) / warm, max(0.02, left))

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and the accuracies of a batch."""
        bf16 = self.config["precision"] == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            states = hidden_states(self.backbone, batch.waves, batch.mask)
            return self.heads(states, batch)

    def advance(self, batch: Batch) -> tuple[float, dict[str, Tensor]]:
        """Train one step, which is skipped if a gradient is not finite; return the loss and the accuracies.

        Raises:
            ElpError: many steps in a row were skipped.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        loss, accuracies = self.losses(batch.to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._average_gradients()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config["clip"])
        if math.isfinite(float(norm)):
            self.optimizer.step()
            self.bad = 0
        else:
            self.bad += 1
            if self.bad >= BAD_STEPS:
                raise ElpError(f"the gradient was not finite in {BAD_STEPS} steps in a row; lower --lr or use fp32")
        self.step += 1
        return float(loss.detach()), accuracies

    def _average_gradients(self) -> None:
        """Average over the processes; all have gradients for the same weights."""
        if not dist.is_initialized():
            return
        found = [weight.grad for weight in self.parameters if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in found])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for gradient, part in zip(found, flat.split([gradient.numel() for gradient in found]), strict=True):
            gradient.copy_(part.view_as(gradient))

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> dict[str, float]:
        """Return the mean accuracies of batches."""
        found = [self.losses(batch.to(self.device))[1] for batch in batches]
        return {name: float(torch.stack([row[name] for row in found]).mean()) for name in found[0]}

    def checkpoint(self) -> dict[str, Any]:
        """Return the backbone in S3PRL's format."""
        weights = {name: tensor.detach().cpu() for name, tensor in self.backbone.state_dict().items()}
        return joined(self.described, weights)

    def save(self, path: Path) -> None:
        """Write everything that a resumed run needs, in one step."""
        content = {
            "config": self.config, "step": self.step, "bad": self.bad, "backbone": self.backbone.state_dict(),
            "heads": self.heads.state_dict(), "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        with whole_file(path, "wb") as file:
            torch.save(content, file)

    def load(self, path: Path) -> None:
        """Continue from a file that :meth:`save` wrote.

        Raises:
            ElpError: it belongs to a run with other settings.
        """
        content = torch.load(path, map_location=self.device, weights_only=True)
        for key, value in self.config.items():
            if content["config"].get(key) != value:
                raise ElpError(
                    f"--{key.replace('_', '-')} must stay {content['config'].get(key)!r} in {path}, but is {value!r}"
                )
        self.step, self.bad = content["step"], content["bad"]
        self.backbone.load_state_dict(content["backbone"])
        self.heads.load_state_dict(content["heads"])
        self.optimizer.load_state_dict(content["optimizer"])


def save_backbone(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint in S3PRL's format, in one step."""
    with whole_file(path, "wb") as file:
        torch.save(checkpoint, file)
