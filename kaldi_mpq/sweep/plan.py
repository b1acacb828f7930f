# SPDX-License-Identifier: Apache-2.0
"""Blocks of a sweep's YAML file become cells: which search, which fit, which seed, in which order, after which others.

    - {method: kl, budget: [uniform_bits=2, ratio=16], fit: [ste, round]}

is 2 x 2 cells for each seed. All cells of the first seed come before those of the second one, and within a seed they
come as the file has them: whoever writes it puts the telling ones first. Everything is checked before anything runs.
Not here: running them (`run`, `cell`).
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.fit.settings import FitSettings
from kaldi_mpq.search.settings import METHODS, SearchSettings
from kaldi_mpq.settings import as_plain, build, nearest
from kaldi_mpq.sweep.settings import SweepSettings

__all__ = ["OWN", "Cell", "cells_of", "relevant"]

OWN = "own"  # the fit of methods that train the weights themselves
_TRAIN_THEMSELVES = ("csq", "diffq")
_FITS = {name: {"method": name} for name in ("ste", "round", "admm")}
_BUDGETS = {"uniform_bits": "{}bit", "ratio": "ratio{}", "mean_bits": "mean{}", "budget": "{}bytes"}
_OURS = ("lm", "out", "data", "seed", "device", "threads", "plot")  # options of the verbs that the sweep sets itself
_PROTOTYPE_BITS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Cell:
    """One point of the table.

    Args:
      name: of its directory, unlike any other's.
      label: method, and options of the block that are not the sweep's.
      budget: as the file has it: ``ratio=16``.
      fit: name of the fit.
      seed: of search and fit.
      search: settings of ``mpq search``; cells that share them share their directory.
      fitting: settings of ``mpq fit``; None where the search has trained the weights.
      owner: the cell that runs the search, which this one waits for; None: this one.
      prototypes: cells whose weights the search needs.
      keep_weights: keep the float32 copies.
    """

    name: str
    label: str
    budget: str
    fit: str
    seed: int
    search: SearchSettings
    fitting: FitSettings | None
    owner: str | None = None
    prototypes: tuple[str, ...] = ()
    keep_weights: bool = False

    def made_with(self) -> dict[str, Any]:
        """Return the settings that decide what comes out, JSON-ready."""
        found: dict[str, Any] = {"search": relevant(as_plain(self.search))}
        if self.fitting is not None:
            found["fit"] = relevant(as_plain(self.fitting))
        return found


def cells_of(settings: SweepSettings) -> list[Cell]:
    """Return the cells in the order in which they are to be run.

    Raises:
      ConfigError: an option that no verb has, a fit that is not there, a cell that is there twice, prototypes that no
        cell makes.
    """
    ranked = []
    for number, block in enumerate(settings.cells):
        where = f"cells, block {number + 1}"
        for position, values in enumerate(_combinations(block, settings, where)):
            rank = settings.seeds.index(values["seed"]) if values["seed"] in settings.seeds else len(settings.seeds)
            ranked.append(((rank, number, position), _cell(values, settings, where), values.get("prototypes")))
    ranked.sort(key=lambda entry: entry[0])
    cells = [cell for _, cell, _ in ranked]
    names = [cell.name for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"the cell {name} is there twice", where="cells")
    known = dict(zip(names, cells))
    with_prototypes = [_with_prototypes(cell, fit, known, settings) for _, cell, fit in ranked]
    needed = {name for cell in with_prototypes for name in cell.prototypes}
    owners: dict[Any, str] = {}
    found = []
    for cell in with_prototypes:
        owner = owners.setdefault(cell.search.out, cell.name)
        keep = settings.keep_weights or cell.name in needed
        found.append(replace(cell, owner=None if owner == cell.name else owner, keep_weights=keep))
    return found


def _combinations(block: Mapping[str, Any], settings: SweepSettings, where: str) -> Iterator[dict[str, Any]]:
    """Yield one mapping per cell of a block; the seed varies slowest, then what the block names first."""
    valid = {field.name for field in dataclasses.fields(SearchSettings)} - {*_OURS, *_BUDGETS}
    valid |= {"budget", "fit", "seed"}
    unknown = [key for key in block if key not in valid]
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r}", where=where, hint=nearest(unknown[0], valid))
    for key in ("method", "budget"):
        if key not in block:
            raise ConfigError(f"no {key}", where=where, expected="{method: kl, budget: ratio=16, fit: ste}")
    own = set(_listed(block["method"])) <= set(_TRAIN_THEMSELVES)
    whole = {"seed": list(settings.seeds), "fit": OWN if own else next(iter(_fits(settings))), **block}
    keys = ["seed", *(key for key in whole if key != "seed")]
    axes = [[whole[key]] if _is_tuple(key) else _listed(whole[key]) for key in keys]
    for values in itertools.product(*axes):
        yield dict(zip(keys, values))


def _cell(values: Mapping[str, Any], settings: SweepSettings, where: str) -> Cell:
    """Return a cell, its search not yet with prototypes."""
    budget, (kind, amount) = str(values["budget"]), _budget(values["budget"], where)
    options = {
        key: each for key, each in values.items() if key not in ("budget", "fit", "seed", "prototypes", "method")
    }
    method, fit, seed = str(values["method"]), str(values["fit"]), values["seed"]
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}", where=where, hint=nearest(method, METHODS))
    variant = {**options, **({"prototypes": values["prototypes"]} if values.get("prototypes") else {})}
    name = "_".join([method, _BUDGETS[kind].format(amount), *(f"{key}-{each}" for key, each in variant.items())])
    name = re.sub(r"[^A-Za-z0-9_.=-]+", "-", f"{name}_s{seed}")
    shared = {"lm": settings.lm, "data": settings.data, "device": settings.device, "threads": settings.threads}
    search = build(
        SearchSettings,
        {
            **(settings.search or {}),
            **options,
            **shared,
            "method": method,
            kind: amount,
            "seed": seed,
            "out": settings.out / "search" / name,
        },
        where=where,
    )
    label = " ".join([method, *(f"{key}={each}" for key, each in variant.items())])
    fitting = None
    cell_name = f"{name}_{fit}"
    if fit == OWN and method not in _TRAIN_THEMSELVES:
        raise ConfigError(
            f"{method} does not train the weights itself", where=where, hint=f"fit: {', '.join(_fits(settings))}"
        )
    if fit != OWN:
        fits = _fits(settings)
        if fit not in fits:
            raise ConfigError(f"no fit is called {fit!r}", where=where, hint=nearest(fit, [*fits, OWN]))
        fitting = build(
            FitSettings,
            {
                **_fit_options(fits[fit], fit),
                **shared,
                "seed": seed,
                "out": settings.out / "cells" / cell_name,
                "precision": search.out / "precision.json",
                "granularity": search.granularity,
                "block": search.block,
            },
            where=f"fits, {fit}",
        )
    return Cell(cell_name, label, budget, fit, seed, search, fitting)


def _with_prototypes(cell: Cell, fit: str | None, known: Mapping[str, Cell], settings: SweepSettings) -> Cell:
    """Return the cell with its search's prototypes: the uniform cells of a fit and the same seed."""
    if not fit:
        return cell
    names = {
        bits: f"uniform_{bits}bit_s{cell.seed}_{fit}" for bits in cell.search.candidates if bits in _PROTOTYPE_BITS
    }
    missing = [name for name in names.values() if name not in known]
    if missing:
        raise ConfigError(
            f"{cell.name}: prototypes that no cell makes",
            where="cells",
            expected=", ".join(missing),
            hint=f"{{method: uniform, budget: [uniform_bits=1, ...], fit: {fit}}}",
        )
    places = tuple(f"{bits}={settings.out / 'cells' / name}" for bits, name in names.items())
    return replace(cell, search=replace(cell.search, prototypes=places), prototypes=tuple(names.values()))


def _budget(given: Any, where: str) -> tuple[str, Any]:
    """Return the setting of ``mpq search`` and its value."""
    kind, equals, amount = str(given).partition("=")
    if not equals:
        kind, amount = "budget", kind
    try:
        number = float(amount)
    except ValueError:
        number = 0.0
    if kind not in _BUDGETS or not number > 0:
        raise ConfigError(
            "bad budget",
            where=where,
            expected="a number of bytes, ratio=16, mean_bits=2.5 or uniform_bits=2",
            found=given,
        )
    return kind, int(number) if number.is_integer() else number


def _fits(settings: SweepSettings) -> Mapping[str, Any]:
    return settings.fits or _FITS


def _fit_options(options: Any, name: str) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise ConfigError(
            "not options of mpq fit", where=f"fits, {name}", expected="{method: ste, epochs: 2}", found=options
        )
    taken = [key for key in options if key in (*_OURS, "precision", "bits", "granularity", "block")]
    if taken:
        raise ConfigError(f"{taken[0]} is set by the sweep", where=f"fits, {name}", hint="granularity: under search")
    return dict(options)


@cache
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(SearchSettings)


def _is_tuple(key: str) -> bool:
    """Whether a setting of ``mpq search`` is a list by itself."""
    return typing.get_origin(_hints().get(key)) is tuple and key != "prototypes"


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def relevant(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without where files are and what computes them."""
    left_out = {
        "lm",
        "out",
        "data",
        "precision",
        "device",
        "threads",
        "plot",
        "checkpoint_minutes",
        "prototypes",
        "reuse",
    }
    return {name: value for name, value in plain.items() if name not in left_out}
