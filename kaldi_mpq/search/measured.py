# SPDX-License-Identifier: Apache-2.0
"""The methods that measure how sensitive each part is and then give bits where they are worth most.

    kl        divergence; parts changed one at a time, the others as ``--around`` says
    hessian   Hessian trace times squared rounding error
    inverse   either, the wrong way round

Sensitivities add up only as long as errors are small. Measured (a Transformer of 4 layers at 2 bits): those of single
parts beside a float model sum to 0.042, all of them together diverge by 0.074, and the widths that the sums favour (1
bit for many layers) are worse than 2 bits everywhere. Measured beside parts that are quantized too, the sum predicts
what happens. So ``--around auto`` measures around the uniform widths next to the budget, allocates once for each, and
keeps, of these allocations and the uniform one, that which diverges least as a whole. ``--around float`` is as printed.

Not here: the measuring (`measures`), the choice for given sensitivities (`allocate`).

Paper: Xu et al., TASLP 2021, section V-A and V-B.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from kaldi_mpq.errors import PrecisionError
from kaldi_mpq.search.allocate import allocate
from kaldi_mpq.search.baselines import mirrored, uniform_bits
from kaldi_mpq.search.measures import Costs, Measures
from kaldi_mpq.search.problem import Found, Problem
from kaldi_mpq.search.settings import SearchSettings

__all__ = ["search_hessian", "search_inverse", "search_kl"]

log = logging.getLogger(__name__)
_AS_GOOD_AS = 1.02  # a uniform size this near to the budget is the budget


def search_kl(problem: Problem, settings: SearchSettings) -> Found:
    """Return the widths of the smallest divergence."""
    measures = Measures(problem, settings, "kl")
    found = []
    for around in _surroundings(problem, settings):
        costs = measures.costs(around)
        bits, details = _allocated(problem, costs, costs)
        found.append(({"around": around, **details}, bits, costs))
    uniform = _uniform(problem)
    if uniform and settings.around == "auto":
        found.append(({"around": "uniform"}, uniform, found[0][2]))
    for details, bits, _ in found:
        details["joint_divergence"] = measures.joint_divergence(bits)
        log.info("around %s: divergence %.4g of all parts together", details["around"], details["joint_divergence"])
    chosen, bits, costs = min(found, key=lambda each: each[0]["joint_divergence"])
    details = {**found[0][0], **chosen, "tried": [each for each, *_ in found]}
    if uniform:
        details["uniform_joint_divergence"] = measures.joint_divergence(uniform)
    return Found(bits, details, costs=costs)


def search_hessian(problem: Problem, settings: SearchSettings) -> Found:
    """Return the widths of the smallest sum of trace times squared error."""
    costs = Measures(problem, settings, "hessian").costs()
    return Found(*_allocated(problem, costs, costs), costs=costs)


def search_inverse(problem: Problem, settings: SearchSettings) -> Found:
    """Return the best widths for sensitivities the wrong way round; measured beside float parts."""
    costs = Measures(problem, settings, settings.inverse_of).costs()
    return Found(*_allocated(problem, mirrored(problem, costs), costs))


def _surroundings(problem: Problem, settings: SearchSettings) -> list[str]:
    """Return what the other parts are when one is measured: ``float``, or a width that all of them have."""
    if settings.around != "auto":
        return [settings.around]
    sizes = {}
    for width in sorted({width for each in problem.bytes.values() for width in each if width <= 8}):
        bits = {name: min(each, key=lambda n: (abs(n - width), n)) for name, each in problem.bytes.items()}
        sizes[width] = problem.file_bytes(bits)
    near = [width for width, size in sizes.items() if 1 / _AS_GOOD_AS <= size / problem.budget <= _AS_GOOD_AS]
    below = [width for width, size in sizes.items() if size <= problem.budget]
    above = [width for width, size in sizes.items() if size > problem.budget]
    return [str(width) for width in near[:1] or [*below[-1:], *above[:1]]] or ["float"]


def _allocated(problem: Problem, believed: Costs, true: Costs) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the best widths for the sensitivities ``believed``, and what to tell of them, by the ``true`` ones."""
    began = time.monotonic()
    best = allocate(problem.items(believed), problem.capacity)
    seconds = time.monotonic() - began
    if best.gap > 0:
        log.warning("another choice may cost up to %g less than this one, of %g", best.gap, best.cost)
    uniform = _uniform(problem)
    return best.bits, {
        "allocation_seconds": round(seconds, 3),
        "allocation_gap": best.gap,
        "sensitivity": _total(true, best.bits),
        "uniform_sensitivity": _total(true, uniform) if uniform else None,
    }


def _uniform(problem: Problem) -> dict[str, int] | None:
    """Return the uniform widths that fit, if any do."""
    try:
        return uniform_bits(problem)
    except PrecisionError:
        return None


def _total(costs: Costs, bits: Mapping[str, int]) -> float:
    return sum(costs[name][width] for name, width in bits.items())
