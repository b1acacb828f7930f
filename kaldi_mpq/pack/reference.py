# SPDX-License-Identifier: Apache-2.0
"""The layers of `native.packed` as modules of torch: the same bytes, the same whole numbers, slowly, on any device.

They are what the kernels are tested against, and compute packed models on GPUs and with any torch. Not here: files
(`packed_load`), and speed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kaldi_mpq.quant.grid import largest_code

__all__ = ["PackedBlock", "PackedMatrix", "PackedUnit", "from_arrays", "lstm_cell", "seen"]


class PackedUnit(nn.Module):
    """Rows of a matrix: packed codes times scales, or floats.

    Args:
      bits: 1, 2, 4 or 8; 16 or 32 for floats.
      columns: C.
      data: (bytes,) uint8 as `bits.pack_codes` writes them; or (R, C) float16 or float32.
      scales: (R, segments) float32; None for floats.
    """

    def __init__(self, bits: int, columns: int, data: Tensor, scales: Tensor | None = None) -> None:
        super().__init__()
        self.bits, self.columns = bits, columns
        self.register_buffer("data", data)
        self.register_buffer("scales", scales)

    def codes(self) -> Tensor:
        """Return the (R, C) int8 codes."""
        places = torch.arange(0, 8, self.bits, device=self.data.device)
        fields = (self.data.to(torch.int32)[:, None] >> places) & (2**self.bits - 1)
        fields = fields.flatten()[: len(self.scales) * self.columns].reshape(-1, self.columns)
        codes = 2 * fields - 1 if self.bits == 1 else fields - (fields >= 2 ** (self.bits - 1)) * 2**self.bits
        return codes.to(torch.int8)

    def weights(self, block: int) -> Tensor:
        """Return the (R, C) weights in float64; ``block`` columns share a scale, 0: all of a row."""
        if self.scales is None:
            return self.data.to(torch.float64)
        segment = torch.arange(self.columns, device=self.data.device) // (block or self.columns)
        return self.codes().to(torch.float64) * self.scales.to(torch.float64)[:, segment]


class PackedMatrix(nn.Module):
    """Units one under another, (R, C) together; see `native.packed.Matrix` for the arguments."""

    def __init__(
        self, units: Sequence[PackedUnit], *, block: int = 0, activation_bits: int = 16, clip: float = 0.0
    ) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        self.block, self.activation_bits, self.clip = block, activation_bits, clip

    @property
    def limit(self) -> int:
        """Largest whole number of an activation: sums of products stay below 2^31."""
        columns = self.units[0].columns
        widest = max((largest_code(unit.bits) for unit in self.units if unit.scales is not None), default=1)
        room = (2**31 - 1) // (min(self.block or columns, columns) * widest)
        return max(1, min(2 ** (min(self.activation_bits, 16) - 1) - 1, room))

    def rows(self, which: Tensor) -> Tensor:
        """Return (N, C) rows in float32."""
        return torch.cat([unit.weights(self.block) for unit in self.units])[which].to(torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, R) products with (N, C) rows, in float32; sums are exact to float64."""
        whole = seen(x, self.limit, self.clip) if self.activation_bits < 32 else x.to(torch.float64)
        exact = x.to(torch.float64) if self.clip == 0.0 else whole
        parts = [(exact if unit.scales is None else whole) @ unit.weights(self.block).t() for unit in self.units]
        return torch.cat(parts, dim=1).to(torch.float32)


def seen(x: Tensor, limit: int, clip: float = 0.0) -> Tensor:
    """Return (N, C) rows as the kernels see them, float64: whole numbers up to ``limit`` times a scale per row.

    Args:
      clip: the largest value, the same for all rows; 0: that of each row. Rows that are not finite are NaN.
    """
    top = x.abs().amax(dim=1, keepdim=True) if clip == 0.0 else x.new_full((len(x), 1), clip)
    top = torch.where(torch.isfinite(x).all(dim=1, keepdim=True), top, torch.full_like(top, torch.nan))
    # torch divides a number by a tensor by way of 1 / tensor: as in grids that models are trained with.
    ratio = torch.full_like(top, limit) / top if clip == 0.0 else limit / top
    factor = torch.where(top < 1e-30, torch.zeros_like(top), ratio)
    numbers = (torch.minimum(torch.maximum(x, -top), top) * factor).round()
    return numbers.to(torch.float64) * (top / limit).to(torch.float64)


def lstm_cell(gates: Tensor, cell: Tensor, peephole: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the new hidden and cell vectors, (N, H), of (N, 4H) gates input, forget, cell, output and old cells.

    Args:
      peephole: (3H), through which input and forget gate see the old cell, the output gate the new one.
    """
    i, f, g, o = gates.chunk(4, dim=1)
    on_i, on_f, on_o = (0.0, 0.0, 0.0) if peephole is None else peephole.chunk(3)
    new = torch.sigmoid(f + on_f * cell) * cell + torch.sigmoid(i + on_i * cell) * torch.tanh(g)
    return torch.sigmoid(o + on_o * new) * torch.tanh(new), new


class PackedBlock(nn.Module):
    """A block of a Transformer.

    Args:
      linears: matrices and biases, as in `native.packed.BlockWeights`: project, out, up, down.
      norms: scales and shifts of its two layer norms.
      pre: whether norms come before what they are for, or after its sum with the input.
    """

    def __init__(
        self,
        linears: Sequence[tuple[PackedMatrix, Tensor]],
        norms: Sequence[tuple[Tensor, Tensor]],
        *,
        heads: int,
        pre: bool,
    ) -> None:
        super().__init__()
        self.matrices = nn.ModuleList(matrix for matrix, _ in linears)
        self.heads, self.pre = heads, pre
        for k, (_, bias) in enumerate(linears):
            self.register_buffer(f"bias{k}", bias)
        for k, (scale, shift) in enumerate(norms):
            self.register_buffer(f"scale{k}", scale)
            self.register_buffer(f"shift{k}", shift)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, rows: Tensor) -> Tensor:
        """Return (N, E); the arguments are one layer's of `native.packed.Transformer.step`."""
        query, key, value = self._linear(0, self._norm(0, x) if self.pre else x).chunk(3, dim=1)
        keys[rows[:, -1]], values[rows[:, -1]] = key, value
        seen = [own[own >= 0] for own in rows]
        mixed = torch.stack([self._attend(q, keys[own], values[own]) for q, own in zip(query, seen, strict=True)])
        x = x + self._linear(1, mixed)
        x = x if self.pre else self._norm(0, x)
        x = x + self._linear(3, functional.gelu(self._linear(2, self._norm(1, x) if self.pre else x)))
        return x if self.pre else self._norm(1, x)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (E,) of a query and the (T, E) keys and values that it sees."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).to(torch.float64) for part in (query, keys, values))
        weights = torch.softmax(torch.einsum("hd,thd->ht", q, k) / math.sqrt(q.shape[1]), dim=1)
        return torch.einsum("ht,thd->hd", weights, v).flatten().to(torch.float32)

    def _linear(self, k: int, x: Tensor) -> Tensor:
        return self.matrices[k](x) + getattr(self, f"bias{k}")

    def _norm(self, k: int, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], getattr(self, f"scale{k}"), getattr(self, f"shift{k}"))


def from_arrays(bits: int, columns: int, data: np.ndarray, scales: np.ndarray | None = None) -> PackedUnit:
    """Return a unit of NumPy arrays, copied; see `PackedUnit`."""
    copied = None if scales is None else torch.from_numpy(np.array(scales, np.float32))
    return PackedUnit(bits, columns, torch.from_numpy(data.copy()), copied)
