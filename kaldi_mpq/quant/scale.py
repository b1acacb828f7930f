# SPDX-License-Identifier: Apache-2.0
"""The scale of a group of weights that makes their squared rounding error smallest.

    min over alpha, V of  ||w - alpha V||^2,   V in the grid's codes;   for a given V the best alpha is  w'V / V'V,
    and the error that is left is  ||w||^2 - (w'V)^2 / V'V.

1 bit: alpha = mean |w|, exactly. 2 and 4 bits: every V that is the rounding of w under some alpha is looked at once, in
the order in which weights pass from one code to the next as alpha falls (a sort), so the minimum is exact. 8 bits and
groups too large to sort: a grid of alphas, then the alternation of the paper. Not here: scales that training learns.

Paper: Xu et al., TASLP 2021, section IV, the quantizer update of ADMM (alternation; its start, alpha = 1, replaced: a
language model's weights are near 0.05 and would all round to 0). 1 bit: Rastegari et al., "XNOR-Net", 2016, eq. (6).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import largest_code

__all__ = ["absmax_scale", "best_scale", "mean_scale", "positive_scales", "refine_scale", "unit_scales"]

_SORTED_AT_ONCE = 1 << 20  # breakpoints sorted together: some 50 MB
_LARGEST_SORT = 1 << 24  # breakpoints of one group: some 700 MB


def unit_scales(matrix: Tensor, bits: int, granularity: Granularity) -> Tensor:
    """Return the error-minimising scales of a unit, float32, in the shape that its granularity gives."""
    scales = matrix.new_zeros(granularity.shape(*matrix.shape), dtype=torch.float32)
    for columns, groups in granularity.groups(matrix.detach().to(torch.float32)):
        scales[:, columns] = best_scale(groups, bits).view(len(scales), -1)
    return scales


def positive_scales(scales: Tensor) -> Tensor:
    """Return scales, those of all-zero groups replaced by the mean of the others, so that training can move them."""
    used = scales > 0
    mean = scales[used].mean() if bool(used.any()) else scales.new_tensor(1e-3)
    return torch.where(used, scales, mean)


def best_scale(groups: Tensor, bits: int) -> Tensor:
    """Return (G,) scales with the smallest squared error; 0 for a group of zeros.

    Args:
      groups: (G, m) float32 weights, each row with a scale of its own.
    """
    magnitudes = groups.abs()
    if bits == 1:
        return magnitudes.mean(dim=1)
    breakpoints = groups.shape[1] * largest_code(bits)
    if bits < 8 and breakpoints <= _LARGEST_SORT:
        step = max(1, _SORTED_AT_ONCE // breakpoints)
        return torch.cat([_exact_scale(chunk, largest_code(bits)) for chunk in magnitudes.split(step)])
    return _searched_scale(magnitudes, bits)


def absmax_scale(groups: Tensor, bits: int) -> Tensor:
    """Return (G,) scales that put the largest magnitude on the last level."""
    return groups.abs().amax(dim=1) / largest_code(bits)


def mean_scale(groups: Tensor, bits: int) -> Tensor:
    """Return (G,) scales 2 mean|w| / sqrt(largest code), LSQ's start; mean|w| at 1 bit."""
    mean = groups.abs().mean(dim=1)
    return mean if bits == 1 else 2.0 * mean / largest_code(bits) ** 0.5


def refine_scale(groups: Tensor, scale: Tensor, bits: int, iterations: int, rounded: Tensor | None = None) -> Tensor:
    """Return (G,) scales after alternating V = round(x / alpha) and alpha = w'V / V'V; the error never rises.

    Args:
      groups: (G, m) the w of the error.
      scale: (G,) where to start, > 0.
      iterations: at most; ends when no scale changes.
      rounded: (G, m) the x that is rounded, for ADMM as printed; default: w, and only then the error never rises.
    """
    source = groups if rounded is None else rounded
    for _ in range(iterations):
        codes = _round(source, scale[:, None], bits)
        refined = _solve(groups, codes, scale)
        if torch.equal(refined, scale):
            break
        scale = refined
    return scale


def _round(x: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Return float codes; the float twin of `grid.to_codes`, for sums."""
    if bits == 1:
        return torch.where(x < 0, -1.0, 1.0)
    largest = largest_code(bits)
    return (x / scale.clamp_min(torch.finfo(x.dtype).tiny)).round_().clamp_(-largest, largest)


def _solve(w: Tensor, codes: Tensor, fallback: Tensor) -> Tensor:
    """Return w'V / V'V of each row, the fallback where every code is 0 or the quotient is not above 0."""
    scale = (w * codes).sum(dim=1) / codes.square().sum(dim=1)
    return torch.where(scale > 0, scale, fallback)


def _exact_scale(magnitudes: Tensor, largest: int) -> Tensor:
    """Return the best scales of (G, m) magnitudes by going through all roundings: m * largest of them per group."""
    code = torch.arange(1, largest + 1, device=magnitudes.device, dtype=magnitudes.dtype)
    # As alpha falls below x / (j - 1/2), the code of x goes from j - 1 to j: w'V grows by x and V'V by 2 j - 1.
    thresholds = (magnitudes[:, :, None] / (code - 0.5)).flatten(1)
    thresholds, order = thresholds.sort(dim=1, descending=True)
    passed = (code - 0.5)[order % largest]
    dot = (thresholds * passed).to(torch.float64).cumsum_(dim=1)
    norm = (2.0 * passed).to(torch.float64).cumsum_(dim=1)
    best = (dot.square() / norm).argmax(dim=1, keepdim=True)
    return (dot.gather(1, best) / norm.gather(1, best)).squeeze(1).to(magnitudes.dtype)


def _searched_scale(magnitudes: Tensor, bits: int) -> Tensor:
    """Return scales that are no worse than abs-max, mean-based and a grid of fractions of abs-max, refined."""
    absmax = absmax_scale(magnitudes, bits)
    factors = torch.logspace(-1.5, 0.0, 24).tolist() if bits < 8 else torch.linspace(0.4, 1.0, 13).tolist()
    best = mean_scale(magnitudes, bits)
    most = torch.full_like(best, -1.0)
    for candidate in [best, *(factor * absmax for factor in factors)]:
        codes = _round(magnitudes, candidate[:, None], bits)
        # ||w||^2 - ||w - alpha V||^2 of this very alpha, so that the promise to beat it holds for it.
        gained = 2.0 * candidate * (magnitudes * codes).sum(dim=1) - candidate.square() * codes.square().sum(dim=1)
        better = gained > most
        best, most = torch.where(better, candidate, best), torch.where(better, gained, most)
    return refine_scale(magnitudes, best, bits, iterations=10)
