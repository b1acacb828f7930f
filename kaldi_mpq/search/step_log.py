# SPDX-License-Identifier: Apache-2.0
"""What a search thought at some of its steps: a file of one JSON object per line. Not here: the training's own log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaldi_mpq.artefact import writing

__all__ = ["StepLog"]


class StepLog:
    """Lines ``{"stage": ., "step": ., ...}``; what an interrupted run had written beyond its checkpoint is replaced.

    Args:
      path: the file.
      entries: how many steps of a stage to log, about.
    """

    def __init__(self, path: str | Path, entries: int = 100) -> None:
        self.path, self.entries = Path(path), entries
        self._followed: set[str] = set()

    def is_due(self, step: int, total: int) -> bool:
        """Whether a step (from 1) of ``total`` is one to log; the last one is."""
        return step == total or step % max(1, total // self.entries) == 0

    def write(self, stage: str, step: int, entry: Mapping[str, Any]) -> None:
        """Add a line."""
        if stage not in self._followed:
            self._forget(stage, step)
            self._followed.add(stage)
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"stage": stage, "step": step, **entry}) + "\n")

    def _forget(self, stage: str, step: int) -> None:
        """Drop the stage's lines from a step on."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not _is_of(line, stage, step)]
        with writing(self.path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")


def _is_of(line: str, stage: str, step: int) -> bool:
    try:
        entry = json.loads(line)
        return entry["stage"] == stage and entry["step"] >= step
    except (ValueError, KeyError, TypeError):
        return True  # cut short by the interruption
