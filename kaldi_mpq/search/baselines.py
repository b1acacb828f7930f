# SPDX-License-Identifier: Apache-2.0
"""Widths that no measurement has chosen, or that it has chosen the wrong way round: what a search has to beat.

Not here: the searches.
"""

from __future__ import annotations

import numpy as np

from kaldi_mpq.errors import PrecisionError
from kaldi_mpq.search.measures import Costs
from kaldi_mpq.search.problem import Problem

__all__ = ["mirrored", "random_bits", "uniform_bits"]


def uniform_bits(problem: Problem) -> dict[str, int]:
    """Return the largest width that every group may have and that fits; groups with a single width keep theirs.

    Raises:
      PrecisionError: there is no such width.
    """
    free = [sizes for sizes in problem.bytes.values() if len(sizes) > 1]
    common = set.intersection(*(set(sizes) for sizes in free)) if free else {0}
    for width in sorted(common, reverse=True):
        bits = {name: width if len(sizes) > 1 else next(iter(sizes)) for name, sizes in problem.bytes.items()}
        if problem.file_bytes(bits) <= problem.budget:
            return bits
    raise PrecisionError("no width fits when all parts have it", expected=f"at most {problem.budget} bytes")


def random_bits(problem: Problem, seed: int) -> dict[str, int]:
    """Return random widths that fill the budget: from the smallest, a random group gets one more, while any fits."""
    generator = np.random.default_rng(seed)
    ladders = {name: sorted(sizes) for name, sizes in problem.bytes.items()}
    bits = {name: ladder[0] for name, ladder in ladders.items()}
    room = problem.budget - problem.file_bytes(bits)
    open_groups = [name for name, ladder in ladders.items() if len(ladder) > 1]
    while open_groups:
        name = open_groups[int(generator.integers(len(open_groups)))]
        ladder, sizes = ladders[name], problem.bytes[name]
        following = ladder[ladder.index(bits[name]) + 1]
        if sizes[following] - sizes[bits[name]] > room:
            open_groups.remove(name)
            continue
        room -= sizes[following] - sizes[bits[name]]
        bits[name] = following
        if following == ladder[-1]:
            open_groups.remove(name)
    return bits


def mirrored(problem: Problem, costs: Costs) -> Costs:
    """Return sensitivities in which the most sensitive part (per weight) has those of the least sensitive one.

    Parts are ranked at their smallest width, each among those that may have the same widths; costs are per weight
    before and times the part's own weights after they change places.
    """
    counts = {group.name: group.count for group in problem.groups}
    kinds: dict[tuple[int, ...], list[str]] = {}
    for name, sizes in problem.bytes.items():
        kinds.setdefault(tuple(sizes), []).append(name)
    found: Costs = {}
    for widths, names in kinds.items():
        ranked = sorted(names, key=lambda name: costs[name][min(widths)] / counts[name])
        for name, other in zip(ranked, reversed(ranked)):
            found[name] = {bits: costs[other][bits] / counts[other] * counts[name] for bits in widths}
    return {name: found[name] for name in problem.bytes}
