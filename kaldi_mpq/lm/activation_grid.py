# SPDX-License-Identifier: Apache-2.0
"""Activations on a grid of few bits, for models whose weights are on grids too; training goes straight through.

    x^ = a / L * round(clip(x L / a, -L, L)),   L = 2^(n-1) - 1: symmetric, and 0 is a level

The clip a is fixed where the range is known (hidden vectors of an LSTM: 1), else it learns: its gradient is that of the
values beyond it. It starts where the first values that are seen have the smallest squared error.

Not here: which activations (`lstm`, `transformer`), and grids of weights (`quant`).

Paper: Choi et al., "PACT: parameterized clipping activation for quantized neural networks", 2018, eq. (1)-(3); Fasoli
et al., "4-bit quantization of LSTM-based speech recognition models", 2021 (fixed clips, zero alignment).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

__all__ = ["ActivationGrid", "activation_grid", "calibrating"]

_CANDIDATES = torch.linspace(0.1, 1.0, 37)  # of the largest value


class ActivationGrid(nn.Module):
    """The grid of one place in a model.

    Args:
      bits: n, 2 to 8.
      clip: a, if it is fixed; None: it is a parameter.
    """

    def __init__(self, bits: int, clip: float | None = None) -> None:
        super().__init__()
        self.largest = 2 ** (bits - 1) - 1
        self.fixed = clip
        self.clip = nn.Parameter(torch.ones(1)) if clip is None else None
        self.calibrating = False

    def forward(self, x: Tensor) -> Tensor:
        """Return values on the grid, of the same shape."""
        if self.clip is None:
            clip = x.new_full((1,), self.fixed)
        else:
            if self.calibrating:
                self.clip.data.copy_(_best_clip(x.detach(), self.largest))
            clip = self.clip
        return _Round.apply(x, clip, self.largest)


def activation_grid(bits: int, clip: float | None = None) -> nn.Module:
    """Return a grid, or what leaves values as they are where there are no bits."""
    return ActivationGrid(bits, clip) if bits else nn.Identity()


@contextmanager
def calibrating(model: nn.Module) -> Iterator[None]:
    """Let the clips of a model start from the values that are seen in the block."""
    grids = [module for module in model.modules() if isinstance(module, ActivationGrid)]
    for grid in grids:
        grid.calibrating = True
    try:
        yield
    finally:
        for grid in grids:
            grid.calibrating = False


@torch.no_grad()
def _best_clip(x: Tensor, largest: int) -> Tensor:
    """Return the clip, (1,), with the smallest squared error on values."""
    top = x.abs().max().clamp(min=1e-6)
    clips = top * _CANDIDATES.to(x.device)
    errors = torch.stack([(_on_grid(x, clip, largest) - x).square().sum() for clip in clips])
    return clips[errors.argmin()][None]


def _on_grid(x: Tensor, clip: Tensor, largest: int) -> Tensor:
    return (x * (largest / clip)).clamp(-largest, largest).round() * (clip / largest)


class _Round(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, clip: Tensor, largest: int) -> Tensor:
        ctx.save_for_backward(x, clip)
        return _on_grid(x, clip, largest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, clip = ctx.saved_tensors
        inside = x.abs() <= clip
        slope = (grad * x.sign()).masked_fill(inside, 0.0).sum()[None] if ctx.needs_input_grad[1] else None
        return grad * inside, slope, None
