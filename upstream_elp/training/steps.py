"""An optimizer step over one or several batches; it is skipped if it is not finite or does not fit into memory."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import torch

from upstream_elp.base.errors import DivergedError, ElpError
from upstream_elp.training import progress, record
from upstream_elp.training.collectives import rank, ranks, sum_over_ranks
from upstream_elp.training.precision import Outcome
from upstream_elp.training.run_state import RunState

MAX_FAILED_STEPS = 10


class Steps:
    """The optimizer steps of a training.

    Args:
        state: the training.
        runner: S3PRL's runner, which computes features and has the head.
    """

    def __init__(self, state: RunState, runner: Any) -> None:
        self.state = state
        self.runner = runner
        self.accumulate = int(state.block["gradient_accumulate_steps"])
        self.specaug = _specaug(state.config)
        self._looked = False

    def make(self, group: list[Any]) -> None:
        """Make one step over the batches of a group.

        Raises:
            DivergedError: too many steps in a row were skipped because they were not finite.
            ElpError: too many were skipped for another reason, or one does not fit into memory while other ranks train.
        """
        state = self.state
        state.position.step += 1
        state.in_step = True
        kept = self._statistics()
        outcome = Outcome(made=False)
        try:
            for number, batch in enumerate(group):
                with self._synchronized(number == len(group) - 1):
                    self.backward(batch)
            self._look_at_gradients()
            outcome = self._update()
        except torch.OutOfMemoryError as error:
            outcome = self._out_of_memory(batch, error)
        finally:
            if not outcome.made:
                with torch.no_grad():
                    for buffer, value in kept:
                        buffer.copy_(value)
        state.mark, state.in_step = None, False
        state.optimizer.zero_grad(set_to_none=True)
        state.rates = record.rates(state.optimizer)
        if state.scheduler is not None:
            state.scheduler.step()
        self._note(outcome)

    def backward(self, batch: Any) -> None:
        """Add the gradients of one batch."""
        state, (wavs, *others) = self.state, batch
        features = self.runner.features(wavs, state.split)
        if self.specaug is not None:
            features, _ = self.specaug(features)
        loss = self.runner.downstream.model(state.split, features, *others, records=state.position.records)
        state.loss += float(loss.detach()) / self.accumulate
        state.position.utterances += len(wavs)
        state.precision.scaler.scale(loss / self.accumulate).backward()

    def _statistics(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The buffers that a forward pass may change, such as batch norm's means, and their values before the step."""
        modules = (module for model in self.state.trained for module in model.modules() if module.training)
        return [(buffer, buffer.clone()) for module in modules for buffer in module.buffers(recurse=False)]

    def _synchronized(self, last: bool) -> contextlib.AbstractContextManager:
        """Exchange gradients between ranks once per step, at its last batch."""
        stack = contextlib.ExitStack()
        if not last:
            for model in self.state.trained:
                if hasattr(model, "no_sync"):
                    stack.enter_context(model.no_sync())
        return stack

    def _out_of_memory(self, batch: Any, error: torch.OutOfMemoryError) -> Outcome:
        waves = ", ".join(str(len(wav)) for wav in batch[0])
        if torch.distributed.is_initialized():  # the other ranks wait for this one's gradients
            raise ElpError(
                f"rank {rank()} is out of memory at step {self.state.position.step} with waves of {waves} samples; try "
                "smaller batches or runner.gradient_checkpointing"
            ) from error
        torch.cuda.empty_cache()
        return Outcome(made=False, problem=f"out of memory with waves of {waves} samples")

    def _look_at_gradients(self) -> None:
        """Warn about missing gradients once, before the first update."""
        if self.state.leads and not self._looked and (sentence := progress.unreached(self.state)):
            self.state.bar.write(f"elp: {sentence}", file=sys.stderr)
        self._looked = True

    def _update(self) -> Outcome:
        """Clip and step; the outcome is the same on every rank."""
        state = self.state
        state.precision.scaler.unscale_(state.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(state.parameters, state.block["gradient_clipping"])
        state.norm = float(norm)
        state.loss = sum_over_ranks(state.loss, state.device) / ranks()
        state.mark = None
        return state.precision.step(state.optimizer, loss=state.loss, norm=state.norm)

    def _note(self, outcome: Outcome) -> None:
        """Count skipped steps; too many in a row end the run with a checkpoint."""
        state, position, problem = self.state, self.state.position, outcome.problem
        position.in_a_row = position.in_a_row + 1 if problem else 0
        if problem is None:
            position.overflows += not outcome.made
            return
        position.skipped += 1
        allowed = int(state.block.get("max_failed_steps", MAX_FAILED_STEPS))
        if state.leads:
            sentence = f"step {position.step} is skipped: {problem} ({position.in_a_row} in a row)"
            state.bar.write(f"elp: {sentence}", file=sys.stderr)
        if position.in_a_row >= allowed:
            name = f"states-{position.step}.ckpt"
            record.save(state, [name])
            raise (ElpError if outcome.finite else DivergedError)(
                f"{allowed} steps in a row were skipped, the last one because {problem}; try a lower learning rate or "
                "smaller batches, check the data, or raise runner.max_failed_steps, and resume from "
                f"{state.folder / name}"
            )


def _specaug(config: dict[str, Any]) -> Any:
    if not config.get("specaug"):
        return None
    from s3prl.downstream.specaug import SpecAug

    return SpecAug(**config["specaug"])
