# SPDX-License-Identifier: Apache-2.0
"""The units of a model that a precision map speaks of. Not here: how wide they should be (`search`)."""

from __future__ import annotations

import re

from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.precision import PrecisionMap, Unit

__all__ = ["SPLITS", "matching_units"]

SPLITS = ("gate", "matrix")
_BLOCK = re.compile(r"\.rows(\d+)-(\d+)$")


def matching_units(model: LanguageModel, precision: PrecisionMap) -> list[Unit]:
    """Return the model's units under the split that the map names: each gate of an LSTM, whole matrices, row blocks.

    Raises:
      PrecisionError: the map fits none.
    """
    blocks = [match for match in map(_BLOCK.search, precision.bits) if match]
    rows = max((int(match[2]) - int(match[1]) for match in blocks), default=0)
    for split in (*SPLITS, f"rows{rows}") if rows > 0 else SPLITS:
        units = model.units(split)
        if {unit.name for unit in units} == set(precision.bits):
            return units
    units = model.units(SPLITS[0])
    precision.check_covers(unit.name for unit in units)
    return units
