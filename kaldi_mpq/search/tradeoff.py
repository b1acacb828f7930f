# SPDX-License-Identifier: Apache-2.0
"""What other budgets would give, by the sensitivities that have been measured: the best sum at each size of the file.

Sums of single sensitivities, not perplexities: these come from `mpq sweep`. Not here: the picture (`plot`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kaldi_mpq.search.allocate import allocate
from kaldi_mpq.search.measures import Costs
from kaldi_mpq.search.problem import Problem

__all__ = ["Tradeoff", "tradeoff"]

_POINTS, _MANY_GROUPS = 24, 100  # with more groups than that, a third of the points: each is an allocation


@dataclass(frozen=True)
class Tradeoff:
    """Pairs of the file's bytes and the sum of sensitivities.

    Args:
      best: of the best allocation under budgets from the smallest file to the largest, in this order.
      uniform: bits -> the pair with these bits everywhere.
    """

    best: tuple[tuple[int, float], ...]
    uniform: dict[int, tuple[int, float]]


def tradeoff(problem: Problem, costs: Costs) -> Tradeoff:
    """Return the best sums of sensitivities at budgets a constant factor apart, and those of uniform widths."""
    items = problem.items(costs)
    smallest, largest = (problem.fixed_bytes + sum(pick(item.bytes) for item in items) for pick in (min, max))
    points = _POINTS if len(items) <= _MANY_GROUPS else _POINTS // 3
    best = []
    for budget in np.geomspace(smallest, largest, points).round().astype(int).tolist():
        found = allocate(items, max(budget, smallest) - problem.fixed_bytes)
        best.append((problem.fixed_bytes + found.bytes, found.cost))
    common = set.intersection(*(set(sizes) for sizes in problem.bytes.values()))
    uniform = {
        bits: (problem.file_bytes(dict.fromkeys(problem.bytes, bits)), sum(costs[name][bits] for name in problem.bytes))
        for bits in sorted(common)
    }
    return Tradeoff(tuple(dict.fromkeys(best)), uniform)
