# SPDX-License-Identifier: Apache-2.0
"""What finished cells have measured, seeds of one method, budget and fit together. Not here: its looks (`table`)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaldi_mpq.artefact import read_json
from kaldi_mpq.errors import MpqError
from kaldi_mpq.sweep.settings import SweepSettings

__all__ = ["FLOAT", "NGRAM", "Entry", "entries_of"]

FLOAT, NGRAM = "float", "n-gram"  # methods of the reference rows


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Args:
      lm: name of the float LM.
      label, budget, fit: what the seeds have in common; the two references have no budget and no fit.
      seeds: of its cells.
      bytes: of the largest of the files, on disk.
      budget_bytes: that they were allowed.
      ratio: to float32, of that file.
      mean_bits: per parameter, of that file.
      perplexities: set -> one value for each seed.
      seconds: mean of search and fit together; None if unknown.
      restarted: one of them was interrupted: the seconds are too few.
      gap: the largest allocation gap, None where nothing was allocated.
    """

    lm: str
    label: str
    budget: str = ""
    fit: str = ""
    seeds: tuple[int, ...] = ()
    bytes: int | None = None
    budget_bytes: int | None = None
    ratio: float | None = None
    mean_bits: float | None = None
    perplexities: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    seconds: float | None = None
    restarted: bool = False
    gap: float | None = None

    def mean(self, name: str) -> float | None:
        """Return the mean perplexity on a set, None if it was not measured."""
        values = self.perplexities.get(name)
        return statistics.fmean(values) if values else None

    def spread(self, name: str) -> float | None:
        """Return the standard deviation over seeds, None for less than two."""
        values = self.perplexities.get(name, ())
        return statistics.stdev(values) if len(values) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """Return the line as JSON-ready values, with mean and spread of each set."""
        sets = {
            name: {"values": list(values), "mean": self.mean(name), "spread": self.spread(name)}
            for name, values in self.perplexities.items()
        }
        plain = {name: value for name, value in vars(self).items() if name != "perplexities"}
        return {**plain, "seeds": list(self.seeds), "perplexities": sets}


def entries_of(sweep: SweepSettings) -> list[Entry]:
    """Return the references and what has finished: largest budget first, then the best perplexity.

    Raises:
      MpqError: a row that is none.
    """
    name = sweep.lm.name
    found = [entry for entry in (_ngram(sweep, name), _float(sweep, name)) if entry is not None]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for path in sorted((sweep.out / "cells").glob("*/row.json")):
        row = read_json(path)
        try:
            groups.setdefault((row["label"], row["budget"], row["fit"]), []).append(row)
        except (KeyError, TypeError) as error:
            raise MpqError("not a row of mpq sweep", where=path, found=repr(error), hint="remove it") from error
    entries = [_entry(name, *key, rows) for key, rows in groups.items()]
    return found + sorted(entries, key=lambda entry: (-(entry.budget_bytes or 0), _worst_last(entry)))


def _entry(lm: str, label: str, budget: str, fit: str, rows: Sequence[Mapping[str, Any]]) -> Entry:
    rows = sorted(rows, key=lambda row: row["seed"])
    largest = max(rows, key=lambda row: row["bytes"])
    gaps = [row["allocation_gap"] for row in rows if row["allocation_gap"] is not None]
    return Entry(
        lm,
        label,
        budget,
        fit,
        tuple(row["seed"] for row in rows),
        largest["bytes"],
        largest["budget_bytes"],
        largest["ratio"],
        largest["mean_bits"],
        {name: tuple(row["perplexity"][name] for row in rows) for name in rows[0]["perplexity"]},
        statistics.fmean(row["seconds"].get("search", 0.0) + row["seconds"].get("fit", 0.0) for row in rows),
        any(row["restarted"] for row in rows),
        max(gaps, default=None),
    )


def _float(sweep: SweepSettings, name: str) -> Entry | None:
    weights, report = sweep.lm / "model.safetensors", sweep.lm / "ppl.json"
    if not (weights.exists() and report.exists()):
        return None
    return Entry(name, FLOAT, bytes=weights.stat().st_size, ratio=1.0, mean_bits=32.0, perplexities=_report(report))


def _ngram(sweep: SweepSettings, name: str) -> Entry | None:
    if sweep.ngram is None or not (sweep.ngram / "ppl.json").exists():
        return None
    model = next((path for path in (sweep.ngram / "old_lm", sweep.ngram / "lm.arpa.gz") if path.exists()), None)
    size = model.stat().st_size if model is not None else None
    return Entry(name, NGRAM, bytes=size, perplexities=_report(sweep.ngram / "ppl.json"))


def _report(path: Path) -> dict[str, tuple[float, ...]]:
    return {name: (float(each["perplexity"]),) for name, each in read_json(path).items() if isinstance(each, dict)}


def _worst_last(entry: Entry) -> tuple[float, ...]:
    return tuple(entry.mean(name) or math.inf for name in _by_importance(entry.perplexities))


def _by_importance(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (name == "dev", name))
