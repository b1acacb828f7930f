# SPDX-License-Identifier: Apache-2.0
"""``mpq sweep``: the cells of a YAML file as jobs, the most telling first, and the table of what has finished.

Not here: the cells (`plan`), what a job does (`cell`), how jobs run (`jobs`), the table (`table`).
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from kaldi_mpq.artefact import read_json, require, write_json
from kaldi_mpq.errors import ConfigError, MpqError
from kaldi_mpq.settings import as_plain, nearest
from kaldi_mpq.sweep.cell import PLAN, hashes_of, row_of
from kaldi_mpq.sweep.jobs import Job, run_jobs
from kaldi_mpq.sweep.plan import Cell, cells_of
from kaldi_mpq.sweep.settings import SweepSettings
from kaldi_mpq.sweep.table import write_tables

__all__ = ["sweep"]

log = logging.getLogger(__name__)
_PICTURE_SECONDS = 60.0  # between drawings while cells finish
_ROOT = Path(__file__).resolve().parent.parent.parent
_RUNNER = _ROOT / "local" / "run_jobs.sh"  # in a checkout


def sweep(settings: SweepSettings) -> str:
    """Run the cells that have no row yet; return the table and a line about it.

    Raises:
      ConfigError, MissingInputError: the file of cells, the LM or the data; nothing has run then.
      MpqError: cells that failed, by name; all others have been run.
    """
    cells = cells_of(settings)
    chosen = _chosen(cells, settings.only)
    if settings.dry_run:
        return "\n".join([*(cell.name for cell in chosen), f"{len(chosen)} cells"])
    require([settings.lm / name for name in ("config.json", "model.safetensors", "words.txt", "ppl.json")])
    require([settings.data / name for name in ("train.ids", "dev.ids", "words.txt")], hint="mpq text makes them")
    inputs = hashes_of(settings)
    waiting = [cell for cell in chosen if row_of(settings, cell, inputs) is None]
    write_json(settings.out / PLAN, as_plain(settings))
    log.info("%d of %d cells are finished", len(chosen) - len(waiting), len(chosen))
    write_tables(settings)
    failed = _Run(settings, cells).jobs(waiting)
    table = write_tables(settings, picture=bool(waiting) or not (settings.out / "pareto.png").exists())
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise MpqError(
            f"{len(failed)} of {len(chosen)} cells failed",
            found=reasons,
            hint="the others are finished; the same command runs these again",
        )
    return f"{table}\n\n{settings.out}: {len(chosen)} cells, table.md, table.tsv, table.json, pareto.png"


class _Run:
    """The jobs of some cells, and what happens as each ends."""

    def __init__(self, settings: SweepSettings, cells: Sequence[Cell]) -> None:
        self.settings = settings
        self.searches = {cell.name: cell.search.out for cell in cells}
        self.done = self.total = 0
        self.drawn = time.monotonic()

    def jobs(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Run cells; return the failed ones with the reason."""
        self.total = len(cells)
        runner = self.settings.cmd
        if runner is None:
            runner = f"bash {_RUNNER}" if _RUNNER.exists() else ""
        return run_jobs([self._job(cell) for cell in cells], runner, self.settings.nj, self._ended)

    def _job(self, cell: Cell) -> Job:
        out = self.settings.out
        # Named in the command, because queues do not hand the environment on.
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        python = ("env", f"PYTHONPATH={path}", sys.executable, "-m", "kaldi_mpq.cli")
        words = (*python, "sweep", "cell", str(out), cell.name)
        after = (*((cell.owner,) if cell.owner else ()), *cell.prototypes)
        return Job(cell.name, words, out / "log" / f"{cell.name}.log", after, lambda: self._blocked(cell))

    def _blocked(self, cell: Cell) -> str | None:
        """Return why a cell cannot run: what it needs from others is not there."""
        if cell.owner and not (cell.search.out / "search.json").exists():
            return f"its search, which {cell.owner} was to run, has no result"
        rows = {name: self.settings.out / "cells" / name / "row.json" for name in cell.prototypes}
        absent = [name for name, row in rows.items() if not row.exists()]
        return f"needs {', '.join(absent)}" if absent else None

    def _ended(self, name: str, reason: str | None) -> None:
        self.done += 1
        if reason is not None:
            log.error("%d of %d: %s failed: %s", self.done, self.total, name, reason)
            return
        row = read_json(self.settings.out / "cells" / name / "row.json")
        perplexities = ", ".join(f"{each} {value:.2f}" for each, value in row["perplexity"].items())
        log.info("%d of %d: %s: %d bytes, perplexity %s", self.done, self.total, name, row["bytes"], perplexities)
        picture = time.monotonic() - self.drawn > _PICTURE_SECONDS
        write_tables(self.settings, picture=picture)
        if picture:
            self.drawn = time.monotonic()


def _chosen(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """Return the cells whose names match, and those that they need."""
    if not only:
        return list(cells)
    names = {cell.name for cell in cells if any(fnmatchcase(cell.name, pattern) for pattern in only)}
    if not names:
        raise ConfigError(
            f"no cell is called {' or '.join(only)}", hint=nearest(only[0], [cell.name for cell in cells])
        )
    needs = {cell.name: (*cell.prototypes, *filter(None, [cell.owner])) for cell in cells}
    more = names
    while more:
        more = {needed for name in more for needed in needs[name]} - names
        names |= more
    return [cell for cell in cells if cell.name in names]
