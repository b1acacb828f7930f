# SPDX-License-Identifier: Apache-2.0
"""How far a training is: a bar on a terminal, a line a minute in a log file. Not here: what is trained."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["TrainingProgress"]

log = logging.getLogger(__name__)
_LOG_EVERY_SECONDS = 60.0


class TrainingProgress:
    """Shows steps done, mean loss and words per second of a training of ``total`` steps."""

    def __init__(self, total: int, done: int, *, quiet: bool) -> None:
        self.total, self.done, self.quiet = total, done, quiet
        self._bar = None
        if sys.stderr.isatty() and not quiet:
            counter = TextColumn("{task.completed}/{task.total}")
            description = TextColumn("{task.description}")
            self._bar = Progress(description, BarColumn(), counter, TimeRemainingColumn(), transient=True)
            self._task = self._bar.add_task("training", total=total, completed=done)
        self._since = self._start = time.monotonic()
        self._tokens = 0
        self._all_tokens = 0
        self._loss = 0.0

    def __enter__(self) -> TrainingProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, loss: float, tokens: int) -> None:
        """Count one step with its mean loss in nats per token."""
        self.done += 1
        self._loss += loss * tokens
        self._tokens += tokens
        self._all_tokens += tokens
        passed = time.monotonic() - self._since
        mean = self._loss / max(self._tokens, 1)
        if self._bar:
            self._bar.update(self._task, completed=self.done, description=f"loss {mean:.3f}")
        if passed >= _LOG_EVERY_SECONDS and not self.quiet:
            log.info("step %d/%d: loss %.3f, %.0f tokens/s", self.done, self.total, mean, self._tokens / passed)
            self._since, self._tokens, self._loss = time.monotonic(), 0, 0.0

    @property
    def tokens_per_second(self) -> float:
        """Mean speed so far."""
        return self._all_tokens / max(time.monotonic() - self._start, 1e-9)
