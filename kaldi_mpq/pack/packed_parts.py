# SPDX-License-Identifier: Apache-2.0
"""Matrices and vectors out of a packed file, laid out for the kernels.

Not here: which of them make a model (`packed_load`), and what is in a file (`format`, `read`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kaldi_mpq.errors import ModelFileError, MpqError
from kaldi_mpq.native import packed
from kaldi_mpq.pack.read import StoredTensors
from kaldi_mpq.precision import FLOAT_BITS, PrecisionMap, Unit

__all__ = ["Grid", "PackedParts"]

Grid = Mapping[str, Any]  # how a matrix sees what it is multiplied with: arguments of `native.packed.Matrix`


class PackedParts:
    """What is in one file; methods raise ModelFileError for what is missing, damaged or does not fit.

    Args:
      units: of all matrices.
      kernels: see `native.packed.Matrix`.
    """

    def __init__(
        self, stored: StoredTensors, precision: PrecisionMap, units: Sequence[Unit], kernels: str, path: str | Path
    ) -> None:
        self._stored, self._precision = stored, precision
        self._units, self._kernels, self._path = units, kernels, path

    def vector(self, name: str, count: int) -> np.ndarray:
        """Return a tensor of so many numbers, in float32."""
        return self._stored.rest(name, (count,))

    def number(self, name: str) -> float:
        """Return the clip of a grid of activations."""
        found = float(self._stored.rest(name, (1,))[0])
        if found <= 0:
            raise self.misfit(name, "a number above 0", found)
        return found

    def matrix(self, names: Sequence[str], grid: Grid) -> packed.Matrix:
        """Return the matrices of these names, one under another, which see what they are multiplied with alike."""
        units = [unit for name in names for unit in self._units_of(name)]
        granularity = self._stored.granularity()
        block = granularity.block if granularity.kind == "block" else 0
        matrix = packed.Matrix(units[0].columns, block=block, kernels=self._kernels, **grid)
        for unit in units:
            try:
                self._add(matrix, unit)
            except ModelFileError:
                raise
            except MpqError as error:
                raise ModelFileError(f"unit {unit.name} is damaged", where=self._path, found=str(error)) from error
        return matrix

    def misfit(self, what: str, expected: str, found: Any) -> ModelFileError:
        """Return an error that names the file."""
        return ModelFileError(f"bad {what}", where=self._path, expected=expected, found=found)

    def _units_of(self, name: str) -> list[Unit]:
        return sorted((unit for unit in self._units if unit.parameter == name), key=lambda unit: unit.start)

    def _add(self, matrix: packed.Matrix, unit: Unit) -> None:
        bits = self._precision[unit.name]
        if bits in FLOAT_BITS:
            matrix.add_values(self._stored.values(unit, bits))
            return
        codes, scales = self._stored.codes(unit)
        rows = np.broadcast_to(scales.astype(np.float32), (unit.stop - unit.start, scales.shape[1]))
        matrix.add_codes(bits, codes, np.ascontiguousarray(rows))
