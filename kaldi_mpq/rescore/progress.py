# SPDX-License-Identifier: Apache-2.0
"""How far rescoring is: a bar on a terminal, a line a minute in a job's log. Not here: what is rescored."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn

__all__ = ["RescoringProgress"]

log = logging.getLogger(__name__)
_LOG_EVERY_SECONDS = 60.0


class RescoringProgress:
    """Shows how many utterances have been rescored, of those that have been read; how many are to come nobody knows.

    Args:
      name: of what is rescored.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._read = self._done = 0
        self._start = self._since = time.monotonic()
        self.bar: Progress | None = None  # on a terminal
        if sys.stderr.isatty():
            counter = TextColumn("{task.completed} of {task.total} utterances read")
            self.bar = Progress(TextColumn("{task.description}"), BarColumn(), counter, transient=True)
            self._task = self.bar.add_task(name, total=0)

    def __enter__(self) -> RescoringProgress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def read(self, count: int) -> None:
        """Count utterances that have been read."""
        self._read += count
        self._show()

    def done(self, count: int) -> None:
        """Count utterances that are over, unchanged ones too."""
        self._done += count
        self._show()

    def _show(self) -> None:
        if self.bar:
            self.bar.update(self._task, completed=self._done, total=self._read)
        now = time.monotonic()
        if now - self._since >= _LOG_EVERY_SECONDS:
            speed = self._done / max(now - self._start, 1e-9)
            log.info("%s: %d of %d utterances read, %.2f a second", self._name, self._done, self._read, speed)
            self._since = now
