"""TensorBoard's writer, with a memory for the last values; other trackers get the same scalars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tensorboardX import SummaryWriter

from upstream_elp.training.trackers import Tracker


class Writer(SummaryWriter):
    """TensorBoard's writer; it remembers the last value of every scalar.

    Args:
        folder: of the event files.
        purge_step: from this step on, values of an earlier process are replaced.
        trackers: get the same scalars, and end with this writer.
    """

    def __init__(self, folder: str, *, purge_step: int | None = None, trackers: Sequence[Tracker] = ()) -> None:
        super().__init__(folder, purge_step=purge_step)
        self.latest: dict[str, float] = {}
        self.trackers = trackers

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None, *args: Any, **kw: Any) -> None:
        """Write and remember a value; see tensorboardX."""
        self.latest[tag] = float(scalar_value)
        super().add_scalar(tag, scalar_value, global_step, *args, **kw)
        for tracker in self.trackers:
            tracker.log(tag, self.latest[tag], global_step or 0)

    def close(self) -> None:
        """End the file and the trackers."""
        super().close()
        for tracker in self.trackers:
            tracker.close()

    @contextmanager
    def collected(self) -> Iterator[dict[str, float]]:
        """The scalars written within this context."""
        before, self.latest = self.latest, {}
        try:
            yield self.latest
        finally:
            self.latest = {**before, **self.latest}
