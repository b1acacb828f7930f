# SPDX-License-Identifier: Apache-2.0
"""Rounding that training can pass through, with scales that training learns.

Forward:   w_hat = alpha * clip(round(w / alpha), -L, L)        (1 bit: alpha * sign(w))
Backward:  d w_hat / d w     = 1 where |w / alpha| <= L, else 0  (1 bit: 1)
           d w_hat / d alpha = round(w / alpha) - w / alpha where |w / alpha| <= L, else sign(w) L   (1 bit: sign(w))
           times 1 / sqrt(count * L), so that a scale moves, for its size, about as fast as the weights under it.

A scale is kept as its logarithm: it stays positive, and an optimiser with a step of fixed size (Adam) changes each by
the same fraction whatever its magnitude. The logarithm's gradient is the one above over alpha, so that a step of
plain gradient descent on it changes alpha, to first order, as the paper's step does.

Not here: which weights of a model (`fake_quant`).

Paper: Esser et al., "Learned step size quantization", 2020, eq. (1)-(5) and section 2.2 (gradient scale).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kaldi_mpq.quant.grid import largest_code

__all__ = ["learned_scale", "round_through", "row_chunks"]

_CHUNK = 1 << 16  # weights handled at a time on a CPU: the passes over them stay within its cache


def learned_scale(log_scale: Tensor, gain: Tensor) -> Tensor:
    """Return exp(log_scale), any shape; its gradient is the scale's times ``gain`` over the scale.

    Args:
      log_scale: logarithms of scales.
      gain: 1 / sqrt(count * L) of each scale; broadcasts with ``log_scale``.
    """
    return _LearnedScale.apply(log_scale, gain)


def round_through(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Return ``weight`` rounded to its grid, with the gradients of the module's docstring but for the factor.

    Args:
      weight: (R, C).
      scale: (R, 1) or (R, C), > 0.
      bits: 1, 2, 4 or 8.
    """
    return _RoundThrough.apply(weight, scale, bits)


class _LearnedScale(Function):
    @staticmethod
    def forward(ctx: Any, log_scale: Tensor, gain: Tensor) -> Tensor:
        scale = log_scale.exp()
        ctx.save_for_backward(scale, gain)
        return scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        scale, gain = ctx.saved_tensors
        return grad * gain / scale, None


class _RoundThrough(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor, bits: int) -> Tensor:
        ctx.bits = bits
        rounded = torch.empty_like(weight)
        for rows in row_chunks(weight):
            w, alpha, out = weight[rows], scale[rows], rounded[rows]
            if bits == 1:
                torch.copysign(alpha, w, out=out)
            else:
                largest = largest_code(bits)
                torch.div(w, alpha, out=out).round_().clamp_(-largest, largest).mul_(alpha)
        ctx.save_for_backward(weight, scale, rounded)
        return rounded

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        weight, scale, rounded = ctx.saved_tensors
        grad = grad.contiguous()
        passed = grad if ctx.bits == 1 else torch.empty_like(grad)
        slope = torch.empty_like(scale) if ctx.needs_input_grad[1] else None
        for rows in row_chunks(weight):
            w, alpha, g = weight[rows], scale[rows], grad[rows]
            slopes = g * rounded[rows]  # times alpha: g * (round(w / alpha) - w / alpha [inside])
            if ctx.bits > 1:
                largest = largest_code(ctx.bits)
                # What hardtanh's gradient lets through; the same with a mask of booleans takes five times as long.
                passed[rows] = torch.ops.aten.hardtanh_backward(g, w / alpha, -largest, largest)
                slopes.addcmul_(passed[rows], w, value=-1)
            if slope is not None:
                total = slopes if scale.shape[1] > 1 else slopes.sum(dim=1, keepdim=True)
                torch.div(total, alpha, out=slope[rows])
        return passed, slope, None


def row_chunks(matrix: Tensor) -> Iterator[slice]:
    """Yield row ranges that cover a matrix: one on an accelerator, cache-sized ones on a CPU."""
    rows, columns = matrix.shape
    step = rows if matrix.device.type != "cpu" else max(1, _CHUNK // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
