# SPDX-License-Identifier: Apache-2.0
"""From shares of widths to one width per unit, within the budget. Not here: where the shares come from (`nas`, `csq`).

First the widths of the greatest product of shares that fit, exactly (`allocate`): the largest share of every unit where
these fit together. Then what is left of the budget is given out, always to the unit whose next width fits and costs the
product least: at equal training more bits never lose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from kaldi_mpq.search.allocate import Item, allocate

__all__ = ["choose_widths", "most_likely"]

_LEAST = 1e-12  # of a share, for its logarithm


def most_likely(items: Sequence[Item], widths: Sequence[int], shares: Tensor) -> dict[str, int]:
    """Return the width with the largest share of each unit, whatever it takes."""
    costs = [_costs(item, widths, row) for item, row in zip(items, shares.tolist())]
    return {item.name: min(item.bits, key=dict(zip(item.bits, each)).get) for item, each in zip(items, costs)}


def choose_widths(items: Sequence[Item], widths: Sequence[int], shares: Tensor, capacity: int) -> dict[str, int]:
    """Return a width per unit; together they take at most ``capacity`` bytes.

    Args:
      items: widths and bytes of the U units; their costs are not looked at.
      widths: the K widths.
      shares: (U, K), each row's sum is 1.
      capacity: bytes for all units.
    Raises:
      PrecisionError: even the smallest widths take more.
    """
    priced = [replace(item, costs=_costs(item, widths, row)) for item, row in zip(items, shares.tolist())]
    chosen = dict(allocate(priced, capacity).bits)
    left = capacity - sum(_bytes(item, chosen[item.name]) for item in priced)
    while True:
        raises = [found for item in priced if (found := _next_width(item, chosen[item.name], left))]
        if not raises:
            return chosen
        _, extra, name, bits = min(raises)
        chosen[name] = bits
        left -= extra


def _next_width(item: Item, bits: int, left: int) -> tuple[float, int, str, int] | None:
    """Return log-share lost, bytes added, unit and width of a unit's next larger width, if it fits."""
    larger = sorted(other for other in item.bits if other > bits)
    if not larger:
        return None
    extra = _bytes(item, larger[0]) - _bytes(item, bits)
    if extra > left:
        return None
    lost = item.costs[item.bits.index(larger[0])] - item.costs[item.bits.index(bits)]
    return lost, extra, item.name, larger[0]


def _costs(item: Item, widths: Sequence[int], row: Sequence[float]) -> tuple[float, ...]:
    return tuple(-math.log(max(row[widths.index(bits)], _LEAST)) for bits in item.bits)


def _bytes(item: Item, bits: int) -> int:
    return item.bytes[item.bits.index(bits)]
