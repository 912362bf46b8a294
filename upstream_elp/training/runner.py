"""S3PRL's runner with our training loop, and an evaluation that does not change the training's random states."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from upstream_elp.backbones.structure import unwrapped
from upstream_elp.base import settings
from upstream_elp.base.errors import ElpError
from upstream_elp.experiment import asked, origin
from upstream_elp.experiment.checkpoint import Checkpoint
from upstream_elp.host.mend import follows
from upstream_elp.host.override import overridden

if TYPE_CHECKING:
    from upstream_elp.caching.features import FrozenFeatures, OneByOne
    from upstream_elp.training.stop import StopRequest


UPSTREAM_SWITCHES = {"gradient_checkpointing": "checkpoint_layers", "fused_attention": "fuse_attention"}
"""Keys of ``runner`` that may be true, and what each of them calls."""


def use_our_loop(runner: ModuleType) -> None:
    """Replace ``runner.Runner`` with a subclass that trains and evaluates with :mod:`upstream_elp.training`."""
    runner.Runner = type("Runner", (OurRunner, runner.Runner), {"__module__": runner.__name__})


class OurRunner:
    """A mixin in front of S3PRL's runner, which still builds the models."""

    def __init__(self, args: Any, config: dict[str, Any]) -> None:
        from upstream_elp.training.precision import Precision

        self.precision = Precision(config["runner"], args.device)
        self.request: StopRequest | None = None
        super().__init__(args, config)
        for key, method in UPSTREAM_SWITCHES.items():
            if config["runner"].get(key):
                call_upstream(self.upstream.model, method, key=key)

    @functools.cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint to resume from or to take weights from; empty for a new run."""
        return Checkpoint.from_mapping(self.init_ckpt)

    def _get_upstream(self) -> Any:
        """Build the upstream as the checkpoint to resume from says, and check that it is the same one."""
        args = self.args
        goes_on = bool(args.past_exp) and self.checkpoint.origin is not None
        named, insisted = args.upstream_model_config, "upstream_model_config" in overridden(args.override)
        if goes_on and not insisted:
            args.upstream_model_config = origin.configuration(dataclasses.replace(self.checkpoint, args=args))
        elif args.upstream.startswith("elp_"):
            args.upstream_model_config = asked.configuration(named)
        try:
            entry = super()._get_upstream()
        finally:
            args.upstream_model_config = named
        if goes_on:
            origin.check(unwrapped(entry.model), self.checkpoint, where=args.init_ckpt, config=not insisted)
        return entry

    def _get_downstream(self) -> Any:
        """Build the head with the shortest wave that the upstream accepts, as S3PRL passes only the upstream's rate."""
        shortest = getattr(unwrapped(self.upstream.model), "min_samples", None)
        if shortest is None:
            return super()._get_downstream()
        self.args.min_samples = shortest  # S3PRL passes all flags on; this is not a flag, so remove it
        try:
            return super()._get_downstream()
        finally:
            del self.args.min_samples

    @functools.cached_property
    def frozen(self) -> FrozenFeatures | OneByOne | None:
        """How features are computed if not as batches in every step: see ``runner.cache`` and ``features_of``."""
        from upstream_elp.caching.choice import Wish
        from upstream_elp.caching.setup import features_of

        found = features_of(
            Wish.of(self.config["runner"]),
            unwrapped(self.upstream.model),
            unwrapped(self.downstream.model),
            device=self.args.device,
            trained=self.upstream.trainable,
            selection=self.args.upstream_feature_selection,
            per_frame=bool(self.config.get("specaug")) or unwrapped(self.featurizer.model).normalize,
            precision=self.precision.name,
        )
        if found is not None and not follows():
            tqdm.write(f"elp: features: {found}", file=sys.stderr)
        return found

    def features(self, wavs: Sequence[Any], split: str | None) -> list[torch.Tensor]:
        """The head's input for a batch of waves: float32, (frames, dim) each.

        Args:
            wavs: arrays or tensors of shape (samples,), on the CPU.
            split: the split that they belong to; None for other files.
        """
        from upstream_elp.training.waves import waves_on

        frozen, featurizer = self.frozen, self.featurizer.model
        with self.precision.autocast():
            if frozen is not None:
                features = frozen(self._states, featurizer, wavs, split)
            else:
                wavs = waves_on(wavs, self.args.device)
                features = featurizer(wavs, self._states(wavs))
        return [feature.float() for feature in features]

    @contextlib.contextmanager
    def _keeping(self) -> Any:
        """Write the features that were computed since the last shard, also after an error."""
        try:
            yield
        finally:
            if (frozen := self.__dict__.get("frozen")) is not None:
                frozen.flush()

    def _states(self, wavs: list[torch.Tensor]) -> dict[str, Any]:
        """The upstream's output, with gradients if it is trained."""
        with contextlib.nullcontext() if self.upstream.trainable else torch.no_grad():
            return self.upstream.model(wavs)

    def train(self) -> None:
        """Train; see :func:`upstream_elp.training.loop.train`."""
        if settings.current().fill_cache:
            from upstream_elp.training import filling

            return filling.fill(self)
        if settings.current().stock_loop:
            return super().train()
        from upstream_elp.training import loop

        _ = self.frozen  # now, so that what cannot work is refused before the first step
        with self._keeping():
            loop.train(self)
        if self.args.push_to_hf_hub:
            self.push_to_huggingface_hub()
        return None

    def evaluate(self, split: str | None = None, logger: Any = None, global_step: int = 0) -> list[str]:
        """Evaluate a split as S3PRL does, in the precision of the training and in one process only.

        Raises:
            Stopped: during training, if the run has been asked to stop.
        """
        if logger is None and follows():  # S3PRL's main calls this on every rank, and each would write results
            return []
        if logger is None:
            unwrapped(self.downstream.model).evaluated_step = self.checkpoint.step
        if settings.current().stock_loop:
            return super().evaluate(split, logger, global_step)
        from upstream_elp.base import randomness
        from upstream_elp.experiment import report

        with contextlib.ExitStack() as stack:
            stack.enter_context(randomness.preserved(self.args.device))
            stack.enter_context(_eval_mode([entry.model for entry in self.all_entries]))
            writer = logger or stack.enter_context(_throwaway_logger())
            if logger is None:
                stack.enter_context(self._keeping())
            _seed(self.args.seed)
            names = self._evaluate(split or self.args.evaluate_split, writer, global_step)
        if logger is None:  # `-m evaluate`
            report.add_tests(self.args.expdir)
        return names

    def inference(self) -> None:
        """Infer as S3PRL does, in one process and in the precision of the training."""
        if follows():
            return
        if settings.current().stock_loop:
            super().inference()
            return
        head, path = unwrapped(self.downstream.model), Path(self.args.evaluate_split)
        if not hasattr(head, "inference"):
            raise ElpError(f"-m inference does not work with the task {self.args.downstream}; use -m evaluate")
        wav = head.load_audio(path) if hasattr(head, "load_audio") else _load_audio(path)
        with torch.no_grad(), _eval_mode([entry.model for entry in self.all_entries]):
            head.inference(self.features([wav.reshape(-1)], None), [path.stem])

    def _evaluate(self, split: str, logger: Any, global_step: int) -> list[str]:
        from upstream_elp.training import stock_metrics
        from upstream_elp.training.batches import Undisturbed, check_split
        from upstream_elp.training.stop import Stopped, held
        from upstream_elp.training.waves import pin_for

        expert = self.downstream.model
        check_split(unwrapped(expert), split)
        loader = pin_for(expert.get_dataloader(split), self.args.device)
        if isinstance(loader, DataLoader):
            loader.worker_init_fn = Undisturbed(loader.worker_init_fn)
        batches = max(1, round(len(loader) * float(self.config["runner"].get("evaluate_ratio", 1))))
        records: dict[str, list] = defaultdict(list)
        batch_ids, utterances = [], 0
        with held():
            items = iter(loader)
        bar = tqdm(items, total=batches, desc=split, dynamic_ncols=True, leave=False)
        with torch.no_grad(), bar as shown:
            for batch_id, (wavs, *others) in enumerate(shown):
                if batch_id >= batches:
                    break
                if self.request is not None and self.request.signal is not None:
                    raise Stopped
                expert(split, self.features(wavs, split), *others, records=records, batch_id=batch_id)
                batch_ids.append(batch_id)
                utterances += len(wavs)
        of = None
        if self.args.mode != "train" and self.args.init_ckpt:  # without one, the task trains nothing
            of = {"checkpoint": Path(self.args.init_ckpt).name, "checkpoint_step": self.checkpoint.step}
        names = stock_metrics.log_records(
            unwrapped(expert),
            split,
            folder=Path(self.args.expdir),
            items=utterances,
            of=of,
            records=records,
            logger=logger,
            global_step=global_step,
            batch_ids=batch_ids,
            total_batch_num=len(loader),
        )
        return names if isinstance(names, list) else []


def call_upstream(upstream: torch.nn.Module, method: str, *, key: str) -> None:
    """Call a method of our upstream that the key of ``runner`` switches on.

    Raises:
        ElpError: if the upstream is not one of ours.
    """
    model = unwrapped(upstream)
    if not hasattr(model, "injection"):
        raise ElpError(f"runner.{key} works only with elp_* upstreams; choose one with -u, or remove it")
    getattr(model, method)()


def _load_audio(path: Path) -> torch.Tensor:
    """Read a file for a task without a reader of its own; like S3PRL, accept 16 kHz only."""
    import torchaudio
    from s3prl.upstream.interfaces import SAMPLE_RATE

    wav, rate = torchaudio.load(str(path))
    if rate != SAMPLE_RATE:
        raise ElpError(f"-t {path} must have {SAMPLE_RATE} samples per second, but has {rate}; convert the file")
    return wav


@contextlib.contextmanager
def _eval_mode(models: list[torch.nn.Module]) -> Any:
    modes = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)


@contextlib.contextmanager
def _throwaway_logger() -> Any:
    from upstream_elp.training.writer import Writer

    folder = tempfile.mkdtemp()
    writer = Writer(folder)
    try:
        yield writer
    finally:
        writer.close()
        shutil.rmtree(folder, ignore_errors=True)


def _seed(seed: int) -> None:
    """Seed as S3PRL does before every evaluation, so that all see the same random numbers."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
