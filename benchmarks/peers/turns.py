# SPDX-License-Identifier: Apache-2.0
"""Systems take turns, and what a turn says of them. Not here: what they do (`workloads`), their process (`process`)."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peers.process import Worker
from peers.protocol import Skipped
from peers.workloads import System, Workload

__all__ = ["Workers", "ratio_of", "take_turns"]

SHORT = 0.05  # seconds; of shorter runs a turn takes the least of several
MOST_RUNS = 15


class Workers:
    """The processes of all engines, started when they are first needed.

    Args:
      pythons: the interpreter of each engine that is not run by this one.
    """

    def __init__(self, pythons: Mapping[str, Path]) -> None:
        self._pythons = pythons
        self._workers: dict[str, Worker | Skipped] = {}

    def __getitem__(self, system: System) -> Worker:
        engine, key = system.engine, f"{system.engine} {dict(system.environment)}"
        if key not in self._workers:
            try:
                python = self._pythons.get(engine, Path(sys.executable))
                self._workers[key] = Worker(engine, python, system.environment)
            except Skipped as reason:
                self._workers[key] = reason
        found = self._workers[key]
        if isinstance(found, Skipped):
            raise found
        return found

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            if isinstance(worker, Worker):
                worker.close()


def take_turns(workload: Workload, workers: Workers, repeats: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Run every system so many times in turn; return what is found of each.

    Returns:
      By label, ``skipped``, the reason; or ``seconds``, one number a turn (``clock``, or of all the process's threads
      together, ``cpu``), ``speed``, the median in the workload's unit, ``difference``, the largest of the result from
      that of the first system that computes the same, ``limit``, and what the engine says of itself.
    """
    found: dict[str, dict[str, Any]] = {}
    first = None
    for label, system in workload.systems.items():
        result = folder / "result.npy"
        try:
            about = workers[system].prepare(label, {**system.job, "result": str(result)})
        except Skipped as reason:
            found[label] = {"skipped": str(reason)}
            continue
        costs = np.load(result)
        found[label] = {**about, "limit": system.limit, "seconds": [], "clock": [], "cpu": []}
        if system.same:
            first = costs if first is None else first
            found[label]["difference"] = float(np.abs(costs - first).max())
    _run_all(workload, workers, repeats, found)
    for label, row in found.items():
        if "seconds" in row:
            workers[workload.systems[label]].forget(label)
            seconds = statistics.median(row["seconds"])
            row["speed"] = workload.amount / seconds
            row["gmac_per_second"] = 1e-9 * row.get("evaluations", 1) * workload.systems[label].macs / seconds
    return found


def _run_all(workload: Workload, workers: Workers, repeats: int, found: Mapping[str, dict[str, Any]]) -> None:
    for _ in range(repeats):
        for label, row in found.items():
            if "skipped" in row:
                continue
            worker = workers[workload.systems[label]]
            runs = [worker.run(label)]
            while len(runs) < min(MOST_RUNS, SHORT / max(runs[0]["cpu"], 1e-9)):
                runs.append(worker.run(label))
            row["clock"].append(min(run["clock"] for run in runs))
            row["cpu"].append(min(run["cpu"] for run in runs))
            row["seconds"].append(row["clock" if workload.by_clock else "cpu"][-1])


def ratio_of(theirs: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """Return how many times as fast ours is within a turn: the median, the least and the most."""
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)
