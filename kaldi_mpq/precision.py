# SPDX-License-Identifier: Apache-2.0
"""A bit width for every part of a model: data that `search` writes, `fit` trains to and `pack` stores.

Not here: what the parts of a model are (`quant.units`) and how a width is chosen (`search`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.artefact import read_json, write_json
from kaldi_mpq.errors import PrecisionError

__all__ = ["CANDIDATE_BITS", "FLOAT_BITS", "PrecisionMap", "Unit"]

FLOAT_BITS = (16, 32)
CANDIDATE_BITS = (1, 2, 4, 8, *FLOAT_BITS)


@dataclass(frozen=True)
class Unit:
    """A part of a model that has a bit width of its own: rows ``start`` to ``stop`` of one weight matrix.

    Args:
      name: what a precision map calls it, for example ``layers.0.ih.forget``.
      parameter: the matrix, as in the model's ``named_parameters``; its units tile its rows in order.
      start, stop: the rows, 0 <= start < stop <= rows of the matrix.
      columns: columns of the matrix.
    """

    name: str
    parameter: str
    start: int
    stop: int
    columns: int

    @property
    def count(self) -> int:
        """Number of weights."""
        return (self.stop - self.start) * self.columns


@dataclass(frozen=True)
class PrecisionMap:
    """Bits per weight of each unit of a model, in the model's order of units.

    Args:
      bits: unit name -> 1, 2, 4 or 8 (quantized), 16 or 32 (kept in floating point).
    Raises:
      PrecisionError: a width is not a candidate.
    """

    bits: Mapping[str, int]

    def __post_init__(self) -> None:
        for unit, width in self.bits.items():
            if isinstance(width, bool) or width not in CANDIDATE_BITS:
                raise PrecisionError(f"unit {unit}: bad bit width", expected=f"one of {CANDIDATE_BITS}", found=width)

    def __getitem__(self, unit: str) -> int:
        return self.bits[unit]

    @classmethod
    def uniform(cls, units: Iterable[str], bits: int) -> PrecisionMap:
        """Return the map that gives every unit the same width."""
        return cls(dict.fromkeys(units, bits))

    @classmethod
    def read(cls, path: str | Path) -> PrecisionMap:
        """Read the JSON object ``{unit: bits}``.

        Raises:
          MissingInputError, PrecisionError: no such file, or not such an object.
        """
        value = read_json(path)
        if not isinstance(value, dict):
            raise PrecisionError(
                "not a precision map", where=path, expected='{"unit": bits, ...}', found=type(value).__name__
            )
        return cls(value)

    def write(self, path: str | Path) -> None:
        """Write the map as a JSON object, whole or not at all."""
        write_json(path, dict(self.bits))

    def check_covers(self, units: Iterable[str]) -> None:
        """Raise PrecisionError unless the map names exactly ``units``."""
        wanted = list(units)
        unknown = [unit for unit in self.bits if unit not in set(wanted)]
        missing = [unit for unit in wanted if unit not in self.bits]
        if unknown or missing:
            raise PrecisionError(
                "the precision map does not fit the model",
                expected=f"units {', '.join(wanted)}",
                found=f"unknown: {', '.join(unknown) or 'none'}; missing: {', '.join(missing) or 'none'}",
            )
