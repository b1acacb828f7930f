# SPDX-License-Identifier: Apache-2.0
"""The values that a weight of n bits can have, and integer codes for them.

    n >= 2:  alpha * {0, +-1, ..., +-(2^(n-1) - 1)}        n = 1:  alpha * {-1, +1}

Not here: how alpha is chosen (`scale`) and how codes become bits (`pack.bits`).

Paper: Xu et al., "Mixed precision low-bit quantization of neural network language models for speech recognition",
TASLP 2021, section III: symmetric, uniform, no zero point; one bit is the binary special case.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["GRID_BITS", "largest_code", "num_levels", "to_codes", "to_values"]

GRID_BITS = (1, 2, 4, 8)


def largest_code(bits: int) -> int:
    """Return the largest integer code of a width: 1, 1, 7, 127 for 1, 2, 4, 8 bits."""
    if bits not in GRID_BITS:
        raise ValueError(f"no grid of {bits} bits")
    return 1 if bits == 1 else 2 ** (bits - 1) - 1


def num_levels(bits: int) -> int:
    """Return how many values a weight can have: 2, 3, 15, 255 for 1, 2, 4, 8 bits."""
    return 2 if bits == 1 else 2 * largest_code(bits) + 1


def to_codes(weights: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Return the int8 code of the grid value nearest to each weight.

    Of two that are equally near the even one; at 1 bit the sign, +1 for 0.

    Args:
      weights: any shape, float.
      scales: broadcasts with ``weights``; >= 0. Where it is 0 the code is 0 (1 bit: the sign) and the value 0.
    """
    if bits == 1:
        return torch.copysign(torch.ones_like(weights), weights).to(torch.int8)
    largest = largest_code(bits)
    ratio = weights / scales.to(weights.dtype).clamp_min(torch.finfo(weights.dtype).tiny)
    return ratio.round().clamp_(-largest, largest).to(torch.int8)


def to_values(codes: Tensor, scales: Tensor) -> Tensor:
    """Return ``codes * scales`` in float32; exact for scales that float16 holds."""
    return codes.to(torch.float32) * scales.to(torch.float32)
