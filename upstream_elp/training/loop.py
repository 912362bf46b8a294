"""The training loop: S3PRL's flags, blocks and files, and a run that can stop at any step and resume exactly.

It does what S3PRL's ``Runner.train`` does (downstream/runner.py). In addition, it keeps random states and the position
in the epoch, skips steps that are not finite, stops on signals, and writes checkpoints that survive a kill.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from upstream_elp.base import randomness
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment import saving
from upstream_elp.experiment.existing import going_on
from upstream_elp.training import ending, progress, record, rescue, stock_metrics, trackers
from upstream_elp.training.batches import Epoch
from upstream_elp.training.collectives import rank, ranks, sum_over_ranks, wait_for_all
from upstream_elp.training.preparation import prepare
from upstream_elp.training.run_state import RunState
from upstream_elp.training.steps import Steps
from upstream_elp.training.stop import Stopped, StopRequest, noted
from upstream_elp.training.writer import Writer

STOPPED = 143
"""Exit status after a signal, as a shell reports SIGTERM: the run has neither finished nor failed."""


def train(runner: Any) -> None:
    """Train to ``total_steps``.

    Args:
        runner: S3PRL's runner with its entries upstream, featurizer and downstream built.

    Raises:
        ElpError: too many skipped steps in a row, a checkpoint that cannot be written, or another run in the same
            folder.
        SystemExit: after a signal, when a checkpoint has been written.
    """
    leads = rank() == 0
    with saving.alone_in(Path(runner.args.expdir)) if leads else contextlib.nullcontext():
        state = prepare(runner)
        if state.position.step >= state.total and not state.position.pending:
            _nothing_left(state)
            return
        with (
            noted() as request,
            contextlib.closing(state.meter),
            _logger(state) as state.logger,
            _bar(state) as state.bar,
        ):
            runner.request = request
            state.began = state.position.step
            state.set_mark()
            with rescue.kept(state, request):
                Training(state, runner, request).run()
        if leads:
            tqdm.write(ending.report(state))
        wait_for_all(state.device)


def _nothing_left(state: RunState) -> None:
    """Report that no step is left; a finished run's report is kept, as this process knows less."""
    reached = f"from step {state.position.step}, and runner.total_steps is {state.total}"
    more = "raise it with -o config.runner.total_steps=N to continue"
    if not state.args.past_exp:
        raise ElpError(f"-i {state.args.init_ckpt} is {reached}, so nothing is left to train; {more}")
    if state.leads:
        tqdm.write(f"elp: all {state.total} steps are done; {more}", file=sys.stderr)
        tqdm.write(ending.report_again(state))


def _logger(state: RunState) -> contextlib.AbstractContextManager:
    if not state.leads:
        return contextlib.nullcontext()
    args = state.args
    facts = {"task": args.downstream, "upstream": args.upstream, "adapter": args.upstream_model_config, **state.config}
    found = trackers.start(state.block.get("trackers", ()), state.folder, config=facts)
    return contextlib.closing(Writer(str(state.folder), purge_step=state.position.step + 1, trackers=found))


def _bar(state: RunState) -> tqdm:
    options = {"desc": "train", "dynamic_ncols": True, "file": sys.stderr, "disable": not state.leads}
    return tqdm(total=state.total, initial=state.position.step, **options)


class Training:
    """The loop over epochs and steps, with logging, evaluation and saving.

    Args:
        state: the training, ready to begin.
        runner: S3PRL's runner, which evaluates and has the head.
        request: whether to stop.
    """

    def __init__(self, state: RunState, runner: Any, request: StopRequest) -> None:
        self.state = state
        self.runner = runner
        self.request = request
        self.steps = Steps(state, runner)
        self._group: list[Any] = []
        """Batches read so far for the next step; empty whenever a checkpoint is written."""
        self._failure: Exception | None = None
        """An error in an evaluation or a log line, to be raised after the state has been saved."""

    def run(self) -> None:
        """Make pending evaluations, then train to the last step."""
        self._catch_up()
        while self.state.position.step < self.state.total:
            self._epoch()

    def _catch_up(self) -> None:
        """Make the evaluations that a signal interrupted, and write the checkpoint that would have followed."""
        state, position = self.state, self.state.position
        if not position.pending:
            return
        splits, position.pending = position.pending, []
        names = self._evaluated(splits)
        record.save(state, [*names, f"states-{position.step}.ckpt"], random=state.random)
        self._raise_failure()
        if self.request.agreed(state.device):
            raise self._stopped()

    # --- steps --------------------------------------------------------------------------------------------------

    def _epoch(self) -> None:
        state, position = self.state, self.state.position
        head = self.runner.downstream.model
        epoch = Epoch(
            head,
            state.split,
            epoch=position.epoch,
            seed=state.args.seed,
            start=position.batch,
            device=state.device,
        )
        self.batches = epoch.total
        if state.random is not None:  # only now, since building models and loaders draws random numbers
            randomness.restore(state.random[rank()], state.device)
            state.random = None
        batches = iter(epoch)
        while group := self._read(batches):
            # make sure that every rank has its batches before they wait for each other's gradients
            self.request.agreed(state.device)
            self.steps.make(group)
            self._after_step()
            if self.request.agreed(state.device):
                if not self._due("save_step"):
                    record.save(state, [f"states-{position.step}.ckpt"])
                raise self._stopped()
            if position.step >= state.total:
                return
        if position.batch == 0:
            raise ElpError(f"the split {state.split!r} has no batches; check the data and the batch size")
        position.epoch += 1  # batches left over go into the next epoch's first step
        position.batch = 0

    def _read(self, batches: Iterator[Any]) -> list[Any]:
        """The batches of one step; empty if the epoch ends first."""
        position = self.state.position
        for batch in batches:
            self._group.append(batch)
            position.batch_ids.append(position.batch)
            position.batch += 1
            if len(self._group) == self.steps.accumulate:
                group, self._group = self._group, []
                return group
        return []

    # --- after a step -------------------------------------------------------------------------------------------

    def _after_step(self) -> None:
        """Log, evaluate and save if the runner block says so; only the leader writes."""
        state, position, block = self.state, self.state.position, self.state.block
        state.bar.update(1)
        if state.leads and (position.step % progress.EVERY == 0 or position.step % block["log_step"] == 0):
            state.bar.set_postfix(progress.figures(state))
        if position.step % block["log_step"] == 0:
            self._log()
        state.loss = 0.0
        names = self._evaluated(block["eval_dataloaders"]) if self._due("eval_step") else []
        if self._due("save_step") or self._failure is not None:
            names.append(f"states-{position.step}.ckpt")
        if self._due("save_step") or self._due("eval_step"):
            record.save(state, names)
        self._raise_failure()
        state.set_mark()

    def _due(self, key: str) -> bool:
        """Whether to evaluate or save after this step; the last step is always saved."""
        step = self.state.position.step
        last = key == "save_step" and step == self.state.total
        return last or step % self.state.block[key] == 0

    def _evaluated(self, splits: list[str]) -> list[str]:
        """Evaluate in the leader only; return the names under which the state is to be saved.

        An error in an evaluation, such as a bad file, must not lose the steps before it: the resumed run repeats the
        evaluation.
        """
        state = self.state
        names: list[str] = []
        if self._failure is not None:
            state.position.pending = [*splits]
            return names
        for number, split in enumerate(splits if state.leads else []):
            try:
                names += self.runner.evaluate(split, state.logger, state.position.step)
            except Exception as error:
                state.position.pending = splits[number:]
                self._failure = None if isinstance(error, Stopped) else error
                break
        return names

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self.state.set_mark()
            raise self._failure

    def _log(self) -> None:
        """Write a log line; if that fails, its contents go into the next line of the resumed run."""
        position = self.state.position
        utterances = int(sum_over_ranks(position.utterances, self.state.device))
        try:
            if self.state.leads:
                self._write_line(utterances)
        except Exception as error:
            self._failure = error
            return
        position.records, position.batch_ids, position.utterances = defaultdict(list), [], 0

    def _write_line(self, utterances: int) -> None:
        state, position = self.state, self.state.position
        stock_metrics.log_records(
            state.head,
            state.split,
            folder=state.folder,
            items=position.utterances,
            records=position.records,
            logger=state.logger,
            global_step=position.step,
            batch_ids=position.batch_ids,
            total_batch_num=self.batches,
        )
        record.append_line(state, utterances=utterances)
        state.logged_at = time.monotonic()

    def _stopped(self) -> SystemExit:
        state = self.state
        if state.leads:
            state.bar.write(
                f"elp: stopped by {self.request.name} after step {state.position.step} of {state.total}; resume with "
                f"{going_on(state.folder, ranks())}",
                file=sys.stderr,
            )
        return SystemExit(STOPPED)
