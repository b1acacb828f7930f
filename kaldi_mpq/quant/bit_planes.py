# SPDX-License-Identifier: Apache-2.0
"""A matrix as soft bit planes under a soft bit mask: continuous sparsification of bits, in one tensor per weight.

With f(s) = sigmoid(beta s), a unit's weights are

    W^ = g2 A [V(W / A) - V(-W / A)] + (1 - g2) a1 [f(W / a1) - f(-W / a1)]
    V(x) = sum_b m_b 2^-b f(s_b),    s_b = 2^b r_b - 1,    r_0 = x + h,    r_(b+1) = r_b - 2^-b f(s_b),    b = 0 .. 6

m_b is 1 for b = 0, g4 for b = 1, 2 and g4 g8 for b = 3 .. 6; each gate g is in [0, 1] and belongs to the whole unit.
Gates (0, ., .), (1, 0, .), (1, 1, 0), (1, 1, 1) leave 1, 2, 4, 8 bits: a sign and 0, 1, 3, 7 planes. A is the worth of
the highest plane: alpha_2, 4 alpha_4, 64 alpha_8 at 2, 4, 8 bits; h is half the worth of the lowest plane over A: 1/2,
1/8, 1/128. Between widths both follow the gates, A geometrically, h linearly. As beta grows every f becomes 0 or 1 and,
with gates of 0 and 1, W^ becomes exactly the nearest value of the grid alpha_n {0, +-1, .., +-L} or alpha_1 {-1, +1}.

The planes are functions of one weight instead of trained tensors of their own (16 per weight in the paper's code). They
are made in parts that fit the processor's cache, and made again in the backward pass. Not here: what sets the gates.

Paper: Xiao et al., "CSQ: growing mixed-precision quantization scheme with bi-level continuous sparsification", 2022
(arXiv 2212.02770): W = s sum_b 2^b / (2^n - 1) [f(p_b) - f(q_b)] f(M_b); p and q are here s_b(W) and s_b(-W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from kaldi_mpq.precision import Unit
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import GRID_BITS, largest_code
from kaldi_mpq.quant.quantized import Quantized, quantize
from kaldi_mpq.quant.rounding import learned_scale, row_chunks
from kaldi_mpq.quant.scale import positive_scales, unit_scales

__all__ = ["SoftPlanes", "soft_planes", "width_shares"]

_PLANES = 7
_CLOSED = 1e-4  # a gate below this leaves its planes out


def width_shares(gates: Tensor) -> Tensor:
    """Return (..., 4) shares of 1, 2, 4 and 8 bits, which sum to 1, given (..., 3) gates g2, g4, g8."""
    g2, g4, g8 = gates.unbind(-1)
    return torch.stack([1.0 - g2, g2 * (1.0 - g4), g2 * g4 * (1.0 - g8), g2 * g4 * g8], dim=-1)


def soft_planes(weight: Tensor, scales: Tensor, gates: Tensor, beta: float) -> Tensor:
    """Return the W^ of the module's docstring, differentiable in everything but beta.

    Args:
      weight: (R, C).
      scales: (4, R, 1) or (4, R, C): alpha_1, alpha_2, alpha_4, alpha_8; > 0.
      gates: (R, 3): g2, g4, g8 of each row.
      beta: > 0.
    """
    return _SoftPlanes.apply(weight, scales, gates, float(beta))


class SoftPlanes(nn.Module):
    """Parametrization of one matrix; set ``gates``, (U, 3), and ``beta`` before every pass.

    Args:
      weight: (R, C) starting values; scales start at the error-minimising ones of each width.
      units: the U units that tile the matrix, in order.
      granularity: which weights share a scale.
    """

    def __init__(self, weight: Tensor, units: Sequence[Unit], granularity: Granularity) -> None:
        super().__init__()
        self.units, self.granularity = list(units), granularity
        self.gates: Tensor | None = None
        self.kept: Sequence[bool] = [False] * len(self.units)  # units that stay in floating point
        self.beta = 1.0
        counts = [granularity.counts(unit.stop - unit.start, unit.columns).flatten() for unit in units]
        scales, gains = [], []
        for width in GRID_BITS:
            best = [unit_scales(weight[unit.start : unit.stop], width, granularity).flatten() for unit in units]
            scales.append(positive_scales(torch.cat(best)))
            gains.append((torch.cat(counts) * largest_code(width)).rsqrt())
        device = weight.device
        self.log_scale = nn.Parameter(torch.cat(scales).log().to(device))  # flat, lest it be taken for a matrix
        self.register_buffer("gain", torch.cat(gains).to(device), persistent=False)
        owner = torch.arange(len(units)).repeat_interleave(torch.tensor([unit.stop - unit.start for unit in units]))
        self.register_buffer("owner", owner.to(device), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the (R, C) matrix that the model computes with."""
        if self.gates is None:
            raise RuntimeError("no gates were set")
        scales = learned_scale(self.log_scale, self.gain).view(len(GRID_BITS), -1)
        if self.granularity.kind == "tensor":
            expanded = scales[:, self.owner][:, :, None]
        else:
            rows, columns = weight.shape
            expanded = torch.stack([self.granularity.expand(each.view(rows, -1), columns) for each in scales])
        soft = soft_planes(weight, expanded, self.gates.to(weight.dtype)[self.owner], self.beta)
        if any(self.kept):
            kept = torch.tensor(list(self.kept), device=weight.device)[self.owner]
            soft = torch.where(kept[:, None], weight, soft)
        return soft

    @torch.no_grad()
    def quantized(self, weight: Tensor, bits: Sequence[int]) -> dict[str, Quantized]:
        """Return the units of ``weight`` with every plane 0 or 1, at the scales of now.

        Args:
          bits: of each unit; those of 16 and 32 bits are left out.
        """
        scales = self.log_scale.exp().view(len(GRID_BITS), -1)
        shapes = [self.granularity.shape(unit.stop - unit.start, unit.columns) for unit in self.units]
        parts = scales.split([rows * columns for rows, columns in shapes], dim=1)
        return {
            unit.name: quantize(
                weight[unit.start : unit.stop], width, self.granularity, part[GRID_BITS.index(width)].view(shape)
            )
            for unit, width, part, shape in zip(self.units, bits, parts, shapes)
            if width in GRID_BITS
        }


class _SoftPlanes(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scales: Tensor, gates: Tensor, beta: float) -> Tensor:
        ctx.beta = beta
        soft = torch.empty_like(weight)
        for rows in row_chunks(weight):
            soft[rows] = _compose(weight[rows], scales[:, rows], gates[rows], beta)
        ctx.save_for_backward(weight, scales, gates)
        return soft

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        inputs = ctx.saved_tensors
        slopes = [torch.empty_like(each) for each in inputs]
        weight, scales, gates = inputs
        for rows in row_chunks(weight):
            leaves = [each.detach().requires_grad_() for each in (weight[rows], scales[:, rows], gates[rows])]
            with torch.enable_grad():
                soft = _compose(*leaves, ctx.beta)
            found = torch.autograd.grad(soft, leaves, grad[rows], allow_unused=True)
            for slope, place, part in zip(slopes, (rows, (slice(None), rows), rows), found):
                slope[place] = 0.0 if part is None else part
        return (*slopes, None)


def _compose(weight: Tensor, scales: Tensor, gates: Tensor, beta: float) -> Tensor:
    """Return the W^ of some rows."""
    g2, g4, g8 = (gate[:, None] for gate in gates.unbind(-1))
    binary = scales[0] * torch.tanh(0.5 * beta * weight / scales[0])  # f(x) - f(-x) is tanh(x / 2)
    if not bool((g2 > 0).any()):
        return binary
    of4, of8 = g4 * (1.0 - g8), g4 * g8
    tops = (scales[1].log(), (4.0 * scales[2]).log(), (64.0 * scales[3]).log())
    top = ((1.0 - g4) * tops[0] + of4 * tops[1] + of8 * tops[2]).exp()
    half = 0.5 * ((1.0 - g4) + of4 / 4.0 + of8 / 64.0)
    masks = [None, *[g4] * 2, *[of8] * 4]
    if float(of8.detach().max()) < _CLOSED:
        masks = masks[:3] if float(g4.detach().max()) >= _CLOSED else masks[:1]
    x = weight / top
    planes = top * (_planes(x + half, masks, beta) - _planes(half - x, masks, beta))
    return binary + g2 * (planes - binary)


def _planes(residual: Tensor, masks: Sequence[Tensor | None], beta: float) -> Tensor:
    """Return the sum of planes that successive approximation of ``residual`` switches on, softly."""
    total = torch.zeros_like(residual)
    for b, mask in enumerate(masks):
        worth = 0.5**b
        plane = worth * torch.sigmoid((beta / worth) * residual - beta)
        total = total + (plane if mask is None else mask * plane)
        residual = residual - plane
    return total
