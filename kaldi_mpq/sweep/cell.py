# SPDX-License-Identifier: Apache-2.0
"""``mpq sweep cell``: search, fit, pack and measure one cell; what is finished is not done again.

`row.json` is written last, so that it is there for finished cells only. Not here: the order of the cells (`run`).
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kaldi_mpq.artefact import read_json, require, sha256_of, stamp, write_json
from kaldi_mpq.errors import ConfigError, PrecisionError
from kaldi_mpq.fit.settings import FitSettings
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.settings import as_plain, build, nearest
from kaldi_mpq.sweep.plan import Cell, cells_of, relevant
from kaldi_mpq.sweep.settings import CellSettings, SweepSettings

__all__ = ["PLAN", "hashes_of", "read_plan", "row_of", "run_cell"]

PLAN = "sweep.json"
_COPIES = ("model.safetensors", "quant.safetensors")


def run_cell(settings: CellSettings) -> str:
    """Run a cell's unfinished steps, write its row, and return it in one line.

    Raises:
      MissingInputError, ConfigError: no sweep has been started there, or it has no such cell.
    """
    sweep = read_plan(settings.out)
    cells = {cell.name: cell for cell in cells_of(sweep)}
    if settings.name not in cells:
        raise ConfigError(
            f"no cell is called {settings.name!r}", where=settings.out, hint=nearest(settings.name, cells)
        )
    cell = cells[settings.name]
    place = sweep.out / "cells" / cell.name
    inputs = hashes_of(sweep)
    row = row_of(sweep, cell, inputs)
    if row is None:
        row = _run_steps(sweep, cell, place, inputs)
    if not cell.keep_weights:
        for name in _COPIES:
            (place / name).unlink(missing_ok=True)
    perplexities = ", ".join(f"{name} perplexity {value:.2f}" for name, value in row["perplexity"].items())
    return f"{cell.name}: {row['bytes']} bytes, {row['ratio']:.2f} times smaller than float32, {perplexities}"


def read_plan(out: Path) -> SweepSettings:
    """Return the settings with which a sweep was started last."""
    require([out / PLAN], hint="mpq sweep writes it")
    return build(SweepSettings, {**read_json(out / PLAN), "out": out}, where=out / PLAN)


def row_of(sweep: SweepSettings, cell: Cell, inputs: dict[str, str]) -> dict[str, Any] | None:
    """Return the row of a finished cell, None of another one.

    Args:
      inputs: of `hashes_of`.
    Raises:
      ConfigError: it was made with other settings, or from another LM.
    """
    path = sweep.out / "cells" / cell.name / "row.json"
    if not path.exists():
        return None
    row = read_json(path)
    changed = _differences(_with_new_defaults(row["made_with"]), {**cell.made_with(), "inputs": inputs})
    if changed:
        raise ConfigError(
            "a finished cell of other settings",
            where=path,
            found=", ".join(changed),
            hint="choose another directory, or remove this cell's and its search's",
        )
    return row


def _run_steps(sweep: SweepSettings, cell: Cell, place: Path, inputs: dict[str, str]) -> dict[str, Any]:
    times = _Times(place / "steps.json")
    place.mkdir(parents=True, exist_ok=True)
    if not _has_searched(cell, inputs):
        from kaldi_mpq.search.run import search_bits

        times.measure("search", lambda: search_bits(cell.search))
    found = read_json(cell.search.out / "search.json")
    if cell.fitting is not None:
        from kaldi_mpq.fit.run import fit_lm

        fitting = cell.fitting
        times.measure("fit", lambda: fit_lm(fitting))
    sizes, perplexities = _measured(cell, sweep, place, times)
    if sizes["bytes"] > found["budget"]:
        raise PrecisionError("the file is larger than the budget", where=place, expected=f"{found['budget']} bytes",
                             found=sizes["bytes"])  # fmt: skip
    row = {
        "cell": cell.name,
        "label": cell.label,
        "method": cell.search.method,
        "budget": cell.budget,
        "fit": cell.fit,
        "seed": cell.seed,
        "budget_bytes": found["budget"],
        **{key: sizes[key] for key in ("bytes", "ratio", "mean_bits", "parameters")},
        "nominal_mean_bits": found.get("nominal_mean_bits"),
        "perplexity": perplexities,
        "seconds": {**times.seconds(), "search": found["seconds"]},
        "restarted": times.restarted(),
        "allocation_gap": found.get("allocation_gap"),
        "sensitivity": found.get("sensitivity"),
        "uniform_sensitivity": found.get("uniform_sensitivity"),
        "made_with": {**cell.made_with(), "inputs": inputs},
        "made_by": stamp("sweep cell", as_plain(sweep), [cell.search.out / "search.json"]),
    }
    write_json(place / "row.json", row)
    return row


def _measured(cell: Cell, sweep: SweepSettings, place: Path, times: _Times) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the sizes of the file on disk and its perplexities, loaded back from it."""
    if (cell.search.out / "model.diffq").exists():  # no file of ours: its own package has written and measured it
        report = read_json(cell.search.out / "ppl.json")
        return read_json(cell.search.out / "size.json"), {name: each["perplexity"] for name, each in report.items()}
    from kaldi_mpq.pack.settings import PackSettings
    from kaldi_mpq.pack.write import pack_lm

    source = cell.search.out if cell.fitting is None else place
    times.measure("pack", lambda: pack_lm(PackSettings(source, place / "model.mpq")))
    perplexities: dict[str, float] = {}
    times.measure("perplexity", lambda: perplexities.update(_perplexities(sweep, cell, place / "model.mpq")))
    return read_json(place / "size.json"), perplexities


def _perplexities(sweep: SweepSettings, cell: Cell, path: Path) -> dict[str, float]:
    """Return the perplexity of a packed file on every text but the training text."""
    from kaldi_mpq.lm.perplexity import perplexity
    from kaldi_mpq.lm.processes import choose_device
    from kaldi_mpq.pack.load import open_lm
    from kaldi_mpq.text.corpus import Corpus

    model = open_lm(path).to(choose_device(sweep.device))
    context = cell.fitting.context if cell.fitting is not None else cell.search.context
    texts = [text for text in sorted(sweep.data.glob("*.ids")) if text.stem != "train"]
    return {text.stem: perplexity(model, Corpus.load(text), context=context).value for text in texts}


def _has_searched(cell: Cell, inputs: dict[str, str]) -> bool:
    """Whether the search's result is there, made with the same settings from the same files."""
    path = cell.search.out / "search.json"
    if not path.exists() or (not (cell.search.out / "precision.json").exists() and cell.fitting is not None):
        return False
    made_by = read_json(path)["made_by"]
    names = cell.made_with()["search"]
    same = all(made_by["settings"].get(name) == value for name, value in names.items())
    return same and inputs["lm"] in made_by["inputs"].values()


def hashes_of(sweep: SweepSettings) -> dict[str, str]:
    """Return the hashes of the files that every cell is made from."""
    weights, text = sweep.lm / "model.safetensors", sweep.data / "train.ids"
    require([weights, text])
    return {"lm": sha256_of(weights), "train": sha256_of(text)}


def _with_new_defaults(made_with: dict[str, Any]) -> dict[str, Any]:
    """Return a row's settings with the defaults of those that came up after it was made."""
    defaults = {
        name: relevant({field.name: field.default for field in dataclasses.fields(cls)})
        for name, cls in (("search", SearchSettings), ("fit", FitSettings))
    }
    plain = json.loads(json.dumps(defaults, default=lambda value: None))  # tuples as lists; required settings as none
    return {name: {**plain.get(name, {}), **values} for name, values in made_with.items()}


def _differences(theirs: Any, ours: Any, name: str = "") -> list[str]:
    """Return ``setting: old, now new`` of everything that differs."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return [
            each
            for key in sorted({*theirs, *ours})
            for each in _differences(theirs.get(key), ours.get(key), f"{name} {key}".strip())
        ]
    return [] if theirs == ours else [f"{name}: {theirs}, now {ours}"]


class _Times:
    """Seconds of each step and how often it was begun, in a file that outlives an interruption."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps: dict[str, dict[str, float]] = read_json(path) if path.exists() else {}

    def measure(self, name: str, step: Callable[[], Any]) -> None:
        """Take the time of a step; of one that was begun before, that of its last part."""
        entry = self.steps.setdefault(name, {"begun": 0, "seconds": 0.0})
        entry["begun"] += 1
        self._save()
        began = time.monotonic()
        step()
        entry["seconds"] = round(time.monotonic() - began, 3)
        self._save()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each step."""
        return {name: entry["seconds"] for name, entry in self.steps.items()}

    def restarted(self) -> bool:
        """Whether a step was interrupted, so that its seconds are those of its last part."""
        return any(entry["begun"] > 1 for entry in self.steps.values())

    def _save(self) -> None:
        write_json(self.path, self.steps)
