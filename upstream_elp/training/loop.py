"""The training loop: S3PRL's flags, blocks and files, and a run that can be stopped at any step and taken up exactly.

It does what S3PRL's ``Runner.train`` does (downstream/runner.py), and beyond that keeps random states and the position
in the epoch, skips what is not finite, ends on signals, and writes checkpoints that survive a kill.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from upstream_elp.backbones.structure import unwrapped
from upstream_elp.base import randomness
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment import origin, saving
from upstream_elp.experiment.existing import going_on
from upstream_elp.experiment.logs import METRICS_LOG, TRAIN_LOG
from upstream_elp.training import ending, optimization, progress, record, rescue, stock_metrics
from upstream_elp.training.batches import Epoch, check_split
from upstream_elp.training.optimizers import Trainable
from upstream_elp.training.position import Position
from upstream_elp.training.precision import Outcome, Precision
from upstream_elp.training.stop import Stopped, StopRequest, noted

STOPPED = 143
"""Exit status after a signal, as a shell gives it for SIGTERM: not done, and not failed either."""
MAX_FAILED_STEPS = 10


class Training:
    """One run of training.

    Args:
        runner: S3PRL's runner with its entries upstream, featurizer and downstream built.
    """

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self.args, self.config = runner.args, runner.config
        self.block: dict[str, Any] = self.config["runner"]
        self.folder = Path(self.args.expdir)
        self.device = torch.device(self.args.device)
        self.leads = _rank() == 0
        self.position = Position()
        self.precision: Precision = runner.precision
        self._random: list[dict[str, Any]] | None = None
        self._group: list[Any] = []
        """Batches of the step that is being filled; empty whenever a checkpoint is written."""
        self.loss, self._norm = 0.0, math.nan
        """Of the step under way, and its gradient's norm before clipping."""
        self._since = time.monotonic()
        """The last line of the log, or the start."""
        self._looked = False
        self._failure: Exception | None = None
        """What ended an evaluation or a log line; it is raised when the state has been saved."""
        self.began = 0
        """The step at which this process took the training up."""
        self.saved: int | None = None
        """The step of the last checkpoint to go on from that this process has written."""
        self.mark: rescue.Mark | None = None
        """Where the training can go back to if something ends it now; None while a step changes what is trained."""
        self.in_step = False
        self.origin = origin.origin(unwrapped(runner.upstream.model), trained=runner.upstream.trainable)

    @property
    def unlogged_seconds(self) -> float:
        """Since the last line of the log, or the start."""
        return time.monotonic() - self._since

    # --- before and after ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to ``total_steps``.

        Raises:
            ElpError: too many steps in a row that cannot be made, a checkpoint that cannot be written, or another run
                in the same folder.
            SystemExit: after a signal, with a checkpoint written.
        """
        with saving.alone_in(self.folder) if self.leads else contextlib.nullcontext():
            self._prepare()
            if self.position.step >= self.total and not self.position.pending:
                self._nothing_left()
                return
            with noted() as request, self._logger() as self.logger, self._bar() as self.bar:
                self.runner.request = request
                self.began, self.mark = self.position.step, rescue.Mark.of(self)
                with rescue.kept(self, request):
                    self._catch_up(request)
                    while self.position.step < self.total:
                        self._epoch(request)
            if self.leads:
                tqdm.write(ending.report(self))

    def _nothing_left(self) -> None:
        """Tell that there is no step to make; the report of a finished run stays, as this process knows less."""
        reached = f"of step {self.position.step}, and runner.total_steps is {self.total}"
        more = "raise it with -o config.runner.total_steps=N to go on"
        if not self.args.past_exp:
            raise ElpError(f"-i {self.args.init_ckpt} is {reached}: nothing is left to train; {more}")
        if self.leads:
            tqdm.write(f"elp: all {self.total} steps are done; {more}", file=sys.stderr)
            tqdm.write(ending.report_again(self))

    def _prepare(self) -> None:
        """Set modes, build optimizer and scheduler, and go on where a checkpoint says."""
        trained: list[nn.Module] = []
        for entry in self.runner.all_entries:
            if entry.trainable:
                trained.append(entry.model.train().to(self.device))
            else:
                entry.model.eval()
        self.trained = trained
        self.parameters = [p for model in trained for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ElpError("nothing is trained: neither the upstream nor the head has a trainable tensor")
        self.total = int(self.block["total_steps"])
        self.accumulate = int(self.block["gradient_accumulate_steps"])
        self.split = self.block.get("train_dataloader", "train")
        for split in (self.split, *self.block["eval_dataloaders"]):
            check_split(unwrapped(self.runner.downstream.model), split)
        self.optimizer = optimization.build_optimizer(self.runner, [Trainable(model) for model in trained])
        self.scheduler = optimization.build_schedule(self.runner, self.optimizer)
        self.specaug = self._specaug()
        if self.leads:
            saving.clean_up(self.folder)
            saving.check_room(self.folder, sum(p.numel() for p in self.parameters))
        self._go_on(self.runner.init_ckpt)
        if self.leads and not self.position.step:
            saving.rehearse(record.states(self, [randomness.capture(self.device)]), self.folder)
        if self.device.type == "cuda":  # the report's peak is this training's, also in a process that did more
            torch.cuda.reset_peak_memory_stats(self.device)

    def _specaug(self) -> Any:
        if not self.config.get("specaug"):
            return None
        from s3prl.downstream.specaug import SpecAug

        return SpecAug(**self.config["specaug"])

    def _go_on(self, states: dict[str, Any]) -> None:
        """Take up a checkpoint's position and random states; S3PRL's own know the epoch alone."""
        self.position = position = Position.of(states)
        if not self.args.past_exp:  # -i: another run's evaluations are not this one's
            position.pending = []
        if states.get("Scaler"):
            self.precision.scaler.load_state_dict(states["Scaler"])
        if self.leads:
            head = unwrapped(self.runner.downstream.model)
            if hasattr(head, "forget_best") and not any(self.folder.glob("*-best.ckpt")):
                head.forget_best()  # the score is that of another folder's run
            # also at step 0: a run that was killed before its first checkpoint has left lines
            for name in (TRAIN_LOG, METRICS_LOG):
                saving.forget_later_lines(self.folder / name, position.step)
        random = states.get("Random") or []
        self._random = random if len(random) == record.ranks() else None  # -i takes any checkpoint

    def _logger(self) -> contextlib.AbstractContextManager:
        if not self.leads:
            return contextlib.nullcontext()
        return contextlib.closing(progress.Writer(str(self.folder), purge_step=self.position.step + 1))

    def _bar(self) -> tqdm:
        step = self.position.step
        return tqdm(
            total=self.total, initial=step, desc="train", dynamic_ncols=True, file=sys.stderr, disable=not self.leads
        )

    def _catch_up(self, request: StopRequest) -> None:
        """Make the evaluations that a signal broke off, and write the checkpoint as it would have been."""
        if not self.position.pending:
            return
        splits, self.position.pending = self.position.pending, []
        names = self._evaluated(splits)
        self.save([*names, f"states-{self.position.step}.ckpt"], random=self._random)
        self._raise_failure()
        if request.agreed(self.device):
            raise self._stopped(request)

    # --- steps --------------------------------------------------------------------------------------------------

    def _epoch(self, request: StopRequest) -> None:
        position = self.position
        epoch = Epoch(
            self.runner.downstream.model, self.split, epoch=position.epoch, seed=self.args.seed, start=position.batch
        )
        self.batches = epoch.total
        if self._random is not None:  # only now, since building models and loaders draws random numbers
            randomness.restore(self._random[_rank()], self.device)
            self._random = None
        batches = iter(epoch)
        while group := self._read(batches):
            request.agreed(self.device)  # that every rank has its batches, before they wait for each other's gradients
            self._step(group)
            self._after_step()
            if request.agreed(self.device):
                if not self._due("save_step"):
                    self.save([f"states-{position.step}.ckpt"])
                raise self._stopped(request)
            if position.step >= self.total:
                return
        if position.batch == 0:
            raise ElpError(f"the split {self.split!r} gives no batch; check the data and the batch size")
        position.epoch += 1  # what is left over goes into the next epoch's first step
        position.batch = 0

    def _read(self, batches: Iterator[Any]) -> list[Any]:
        """The batches of one step; none if the epoch ends before."""
        position = self.position
        for batch in batches:
            self._group.append(batch)
            position.batch_ids.append(position.batch)
            position.batch += 1
            if len(self._group) == self.accumulate:
                group, self._group = self._group, []
                return group
        return []

    def _step(self, group: list[Any]) -> None:
        """One optimizer step over the batches of a group; left out if it is not finite or does not fit."""
        position = self.position
        position.step += 1
        self.in_step = True
        kept = self._statistics()
        outcome = Outcome(made=False)
        try:
            for number, batch in enumerate(group):
                with self._synchronized(number == len(group) - 1):
                    self._backward(batch)
            self._look_at_gradients()
            outcome = self._update()
        except torch.OutOfMemoryError as error:
            waves = ", ".join(str(len(wav)) for wav in batch[0])
            outcome = Outcome(made=False, problem=f"out of memory with waves of {waves} samples")
            if torch.distributed.is_initialized():  # the other ranks wait for this one's gradients
                raise ElpError(
                    f"rank {_rank()} is out of memory at step {position.step} with waves of {waves} samples; try "
                    "smaller batches or runner.gradient_checkpointing"
                ) from error
            torch.cuda.empty_cache()
        finally:
            if not outcome.made:
                with torch.no_grad():
                    for buffer, value in kept:
                        buffer.copy_(value)
        self.mark, self.in_step = None, False
        self.optimizer.zero_grad(set_to_none=True)
        self.rates = record.rates(self.optimizer)
        if self.scheduler is not None:
            self.scheduler.step()
        self._note(outcome)

    def _statistics(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Buffers that a forward pass may change, such as batch norm's means, and their values before the step."""
        modules = (module for model in self.trained for module in model.modules() if module.training)
        return [(buffer, buffer.clone()) for module in modules for buffer in module.buffers(recurse=False)]

    def _backward(self, batch: Any) -> None:
        wavs, *others = batch
        wavs = [torch.as_tensor(wav, dtype=torch.float32).to(self.device) for wav in wavs]
        features = self.runner.features(wavs)
        if self.specaug is not None:
            features, _ = self.specaug(features)
        loss = self.runner.downstream.model(self.split, features, *others, records=self.position.records)
        self.loss += float(loss.detach()) / self.accumulate
        self.position.utterances += len(wavs)
        self.precision.scaler.scale(loss / self.accumulate).backward()

    def _look_at_gradients(self) -> None:
        """Once, before the first update."""
        if self.leads and not self._looked and (sentence := progress.unreached(self)):
            self.bar.write(f"elp: {sentence}", file=sys.stderr)
        self._looked = True

    def _update(self) -> Outcome:
        """Clip and step; what became of it is the same on every rank."""
        self.precision.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.block["gradient_clipping"])
        self._norm = float(norm)
        self.loss = record.sum_over_ranks(self.loss, self.device) / record.ranks()
        self.mark = None
        return self.precision.step(self.optimizer, loss=self.loss, norm=self._norm)

    def _note(self, outcome: Outcome) -> None:
        """Count steps that were left out; too many in a row end the run, with a checkpoint of what there is."""
        position, problem = self.position, outcome.problem
        position.in_a_row = position.in_a_row + 1 if problem else 0
        if problem is None:
            position.overflows += not outcome.made
            return
        position.skipped += 1
        allowed = int(self.block.get("max_failed_steps", MAX_FAILED_STEPS))
        told = f"step {position.step} is left out: {problem} ({position.in_a_row} in a row)"
        if self.leads:
            self.bar.write(f"elp: {told}", file=sys.stderr)
        if position.in_a_row >= allowed:
            name = f"states-{position.step}.ckpt"
            self.save([name])
            raise ElpError(
                f"{allowed} steps in a row could not be made, the last one since {problem}; {self.folder / name} is "
                "what there is. Try a lower learning rate or smaller batches, look at the data, or raise "
                "runner.max_failed_steps"
            )

    def _synchronized(self, last: bool) -> contextlib.AbstractContextManager:
        """Ranks exchange gradients once per step, at its last batch."""
        stack = contextlib.ExitStack()
        if not last:
            for model in self.trained:
                if hasattr(model, "no_sync"):
                    stack.enter_context(model.no_sync())
        return stack

    # --- what a step leaves behind ------------------------------------------------------------------------------

    def _after_step(self) -> None:
        """Log, evaluate and save, where the block says so; only the leader writes."""
        position, block = self.position, self.block
        self.bar.update(1)
        if self.leads and (position.step % progress.EVERY == 0 or position.step % block["log_step"] == 0):
            self.bar.set_postfix(progress.figures(self))
        if position.step % block["log_step"] == 0:
            self._log()
        self.loss = 0.0
        names = self._evaluated(block["eval_dataloaders"]) if self._due("eval_step") else []
        if self._due("save_step") or self._failure is not None:
            names.append(f"states-{position.step}.ckpt")
        if self._due("save_step") or self._due("eval_step"):
            self.save(names)
        self._raise_failure()
        self.mark = rescue.Mark.of(self)

    def _due(self, key: str) -> bool:
        """Whether this step evaluates or saves; the last one is always saved."""
        last = key == "save_step" and self.position.step == self.total
        return last or self.position.step % self.block[key] == 0

    def _evaluated(self, splits: list[str]) -> list[str]:
        """Evaluate, the leader alone; returns the names under which the state shall be saved.

        What ends an evaluation, such as a bad file, must not take the steps before with it: the resumed run makes it.
        """
        names: list[str] = []
        if self._failure is not None:
            self.position.pending = [*splits]
            return names
        for number, split in enumerate(splits if self.leads else []):
            try:
                names += self.runner.evaluate(split, self.logger, self.position.step)
            except Exception as error:
                self.position.pending = splits[number:]
                self._failure = None if isinstance(error, Stopped) else error
                break
        return names

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self.mark = rescue.Mark.of(self)
            raise self._failure

    def _log(self) -> None:
        """Write a line; if that fails, what it would have told goes into the resumed run's next one."""
        position = self.position
        utterances = int(record.sum_over_ranks(position.utterances, self.device))
        try:
            self._write_line(utterances)
        except Exception as error:
            self._failure = error
            return
        position.records, position.batch_ids, position.utterances = defaultdict(list), [], 0

    def _write_line(self, utterances: int) -> None:
        position = self.position
        if self.leads:
            stock_metrics.log_records(
                unwrapped(self.runner.downstream.model),
                self.split,
                folder=self.folder,
                items=position.utterances,
                records=position.records,
                logger=self.logger,
                global_step=position.step,
                batch_ids=position.batch_ids,
                total_batch_num=self.batches,
            )
            seconds = time.monotonic() - self._since
            record.append_line(self, loss=self.loss, norm=self._norm, utterances=utterances, seconds=seconds)
            self._since = time.monotonic()

    def save(self, names: list[str], *, random: list[dict[str, Any]] | None = None) -> None:
        """Write the checkpoints; every rank must call it, since each one's random states are kept.

        Args:
            names: of the files.
            random: each rank's random states; those of now if left out.
        """
        if random is None:
            random = record.gathered(randomness.capture(self.device))
        if not self.leads or not names:
            return
        states = record.states(self, random)
        written = saving.write(states, self.folder, names, max_keep=int(self.block["max_keep"]))
        self.saved = self.position.step if any(name.startswith("states-") for name in names) else self.saved
        self.bar.write(f"elp: saved {', '.join(path.name for path in written)} in {self.folder}", file=sys.stderr)

    def _stopped(self, request: StopRequest) -> SystemExit:
        if self.leads:
            self.bar.write(
                f"elp: stopped by {request.name} after step {self.position.step} of {self.total}; go on with "
                f"{going_on(self.folder, record.ranks())}",
                file=sys.stderr,
            )
        return SystemExit(STOPPED)


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
