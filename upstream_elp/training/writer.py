"""TensorBoard's writer, with a memory for the last values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tensorboardX import SummaryWriter


class Writer(SummaryWriter):
    """TensorBoard's writer; it remembers the last value of every scalar."""

    def __init__(self, folder: str, *, purge_step: int | None = None) -> None:
        super().__init__(folder, purge_step=purge_step)
        self.latest: dict[str, float] = {}

    def add_scalar(self, tag: str, scalar_value: Any, *args: Any, **kwargs: Any) -> None:
        """Write and remember a value; see tensorboardX."""
        self.latest[tag] = float(scalar_value)
        super().add_scalar(tag, scalar_value, *args, **kwargs)

    @contextmanager
    def collected(self) -> Iterator[dict[str, float]]:
        """The scalars written within this context."""
        before, self.latest = self.latest, {}
        try:
            yield self.latest
        finally:
            self.latest = {**before, **self.latest}
