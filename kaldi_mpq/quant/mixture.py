# SPDX-License-Identifier: Apache-2.0
"""A matrix seen as a mixture of its versions at several widths: one weight, a scale per width, shares per unit.

    W^ = sum_n  p_n f_n(W),     f_n: rounding to the grid of n bits with that width's scales

    d W^ / d W       = sum_n p_n d f_n / d W          (straight through, as in `rounding`)
    d W^ / d alpha_n = p_n d f_n / d alpha_n
    d W^ / d p_n     = f_n(W)

The rounded versions are never kept: they are made, used and dropped in parts that fit the processor's cache, forward
and again backward, so that a supernet takes one matrix more than a model of one width. Not here: what sets the shares.

Paper: Xu et al., TASLP 2021, section V-C, whose mixture of a layer's outputs this is wherever the output is linear in
the weights: sum_n p_n (f_n(W) x) = (sum_n p_n f_n(W)) x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from kaldi_mpq.precision import FLOAT_BITS, Unit
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import largest_code
from kaldi_mpq.quant.rounding import learned_scale, row_chunks
from kaldi_mpq.quant.scale import positive_scales, unit_scales

__all__ = ["MixedWidths", "mix_through"]


def mix_through(weight: Tensor, scales: Tensor, shares: Tensor, bits: Sequence[int]) -> Tensor:
    """Return the mixture of a matrix's versions, with the gradients of the module's docstring.

    Args:
      weight: (R, C).
      scales: (K, R, 1) or (K, R, C), > 0; those of floating-point widths are not looked at.
      shares: (R, K), what part of each row's mixture each width is; widths without a share cost nothing.
      bits: the K widths; 16 and 32 stand for the weight itself.
    """
    return _MixThrough.apply(weight, scales, shares, tuple(bits))


class MixedWidths(nn.Module):
    """Parametrization of one matrix; set ``shares``, (U, K), before every pass.

    Args:
      weight: (R, C) starting values; scales start at the error-minimising ones of each width.
      units: the U units that tile the matrix, in order.
      bits: the K widths.
      granularity: which weights share a scale.
    """

    def __init__(self, weight: Tensor, units: Sequence[Unit], bits: Sequence[int], granularity: Granularity) -> None:
        super().__init__()
        self.units, self.bits, self.granularity = list(units), tuple(bits), granularity
        self.shares: Tensor | None = None
        gridded = [width for width in self.bits if width not in FLOAT_BITS]
        scales, gains = [], []
        for width in gridded:
            best = [unit_scales(weight[unit.start : unit.stop], width, granularity).flatten() for unit in units]
            scales.append(positive_scales(torch.cat(best)))
            gains.append((self._counts() * largest_code(width)).rsqrt())
        device = weight.device
        self.log_scale = nn.Parameter(torch.cat(scales).log().to(device)) if scales else None  # flat: no matrix
        self.register_buffer("gain", torch.cat(gains).to(device) if gains else None, persistent=False)
        owner = torch.arange(len(units)).repeat_interleave(torch.tensor([unit.stop - unit.start for unit in units]))
        self.register_buffer("owner", owner.to(device), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the (R, C) mixture."""
        if self.shares is None:
            raise RuntimeError("no shares were set")
        shares = self.shares.to(weight.dtype)[self.owner]
        return mix_through(weight, self._expanded_scales(weight), shares, self.bits)

    def _counts(self) -> Tensor:
        counts = [self.granularity.counts(unit.stop - unit.start, unit.columns) for unit in self.units]
        return torch.cat([each.flatten() for each in counts])

    def _expanded_scales(self, weight: Tensor) -> Tensor:
        """Return the flat scales as (K, R, 1) or (K, R, C)."""
        if self.log_scale is None:
            return weight.new_ones(len(self.bits), len(weight), 1)
        per_width = iter(learned_scale(self.log_scale, self.gain).chunk(len(self.bits) - self._floats()))
        rows = len(weight)
        expanded = []
        for width in self.bits:
            if width in FLOAT_BITS:
                expanded.append(None)
            elif self.granularity.kind == "tensor":
                expanded.append(next(per_width)[self.owner][:, None])
            else:
                expanded.append(self.granularity.expand(next(per_width).view(rows, -1), weight.shape[1]))
        like = next(scale for scale in expanded if scale is not None)
        return torch.stack([torch.ones_like(like) if scale is None else scale for scale in expanded])

    def _floats(self) -> int:
        return sum(width in FLOAT_BITS for width in self.bits)


class _MixThrough(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scales: Tensor, shares: Tensor, bits: tuple[int, ...]) -> Tensor:
        ctx.bits = bits
        mixed = torch.empty_like(weight)
        for rows in row_chunks(weight):
            part = torch.zeros_like(weight[rows])
            for k in _in_use(shares[rows]):
                part.addcmul_(_rounded(weight[rows], scales[k, rows], bits[k]), shares[rows, k, None])
            mixed[rows] = part
        ctx.save_for_backward(weight, scales, shares)
        return mixed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        weight, scales, shares = ctx.saved_tensors
        for_weight, for_scales, for_shares = ctx.needs_input_grad[:3]
        passed = torch.zeros_like(weight) if for_weight else None
        slope = torch.zeros_like(scales) if for_scales else None
        merit = torch.zeros_like(shares) if for_shares else None
        for rows in row_chunks(weight):
            w, g = weight[rows], grad[rows]
            used = _in_use(shares[rows])
            for k in range(len(ctx.bits)) if for_shares else used:
                alpha, share, width = scales[k, rows], shares[rows, k, None], ctx.bits[k]
                rounded = _rounded(w, alpha, width)
                if merit is not None:
                    merit[rows, k] = (g * rounded).sum(dim=1)
                if k in used and (for_weight or for_scales):
                    _add_gradients(w, g * share, alpha, rounded, width, passed, slope, k, rows)
        return passed, slope, merit, None


def _add_gradients(
    w: Tensor,
    g: Tensor,
    alpha: Tensor,
    rounded: Tensor,
    width: int,
    passed: Tensor | None,
    slope: Tensor | None,
    k: int,
    rows: slice,
) -> None:
    """Add one width's part of the gradients of some rows; ``g`` is the gradient times the width's share."""
    if width in FLOAT_BITS:
        if passed is not None:
            passed[rows] += g
        return
    inside = g
    if width > 1:
        inside = torch.ops.aten.hardtanh_backward(g.contiguous(), w / alpha, -largest_code(width), largest_code(width))
    if passed is not None:
        passed[rows] += inside
    if slope is not None:
        slopes = g * rounded
        if width > 1:
            slopes.addcmul_(inside, w, value=-1)
        slope[k, rows] = (slopes if alpha.shape[1] > 1 else slopes.sum(dim=1, keepdim=True)) / alpha


def _rounded(w: Tensor, alpha: Tensor, width: int) -> Tensor:
    """Return rows on the grid of one width."""
    if width in FLOAT_BITS:
        return w
    if width == 1:
        return torch.copysign(alpha, w)
    largest = largest_code(width)
    return torch.div(w, alpha).round_().clamp_(-largest, largest).mul_(alpha)


def _in_use(shares: Tensor) -> list[int]:
    """Return the widths that have a share of some row."""
    return torch.nonzero((shares != 0).any(dim=0)).flatten().tolist()
