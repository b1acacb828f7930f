# SPDX-License-Identifier: Apache-2.0
"""The units of a model that a precision map speaks of. Not here: how wide they should be (`search`)."""

from __future__ import annotations

from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.precision import PrecisionMap, Unit

__all__ = ["SPLITS", "matching_units"]

SPLITS = ("gate", "matrix")


def matching_units(model: LanguageModel, precision: PrecisionMap) -> list[Unit]:
    """Return the model's units under the split that the map names: each gate of an LSTM, or whole matrices.

    Raises:
      PrecisionError: the map fits neither.
    """
    for split in SPLITS:
        units = model.units(split)
        if {unit.name for unit in units} == set(precision.bits):
            return units
    units = model.units(SPLITS[0])
    precision.check_covers(unit.name for unit in units)
    return units
