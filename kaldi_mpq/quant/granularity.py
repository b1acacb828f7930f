# SPDX-License-Identifier: Apache-2.0
"""How many weights share a scale: a whole unit, a row, or a block of columns of a row.

Not here: the scales' values (`scale`).

Paper: Xu et al., TASLP 2021, section III calls these tying per layer and per node; a row here is all weights that come
into one output unit (or one word's embedding), the reading under which a scale factors out of every dot product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kaldi_mpq.errors import ConfigError

__all__ = ["KINDS", "Granularity"]

KINDS = ("row", "tensor", "block")


@dataclass(frozen=True)
class Granularity:
    """One scale per unit (``tensor``), per row, or per ``block`` columns of a row (the last block may be shorter).

    Args:
      kind: one of KINDS.
      block: columns of a block; 0 for the other kinds.
    """

    kind: str = "row"
    block: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError("unknown granularity", expected=f"one of {', '.join(KINDS)}", found=self.kind)
        if (self.kind == "block") != (self.block > 0):
            expected = "a number of columns above 0" if self.kind == "block" else f"0 with granularity {self.kind}"
            raise ConfigError("bad block size", expected=expected, found=self.block)

    def shape(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the shape of the scales of a (rows, columns) unit."""
        if self.kind == "tensor":
            return 1, 1
        return rows, 1 if self.kind == "row" else -(-columns // self.block)

    def counts(self, rows: int, columns: int) -> Tensor:
        """Return how many weights share each scale of a (rows, columns) unit, float32, in the scales' shape."""
        if self.kind == "tensor":
            return torch.tensor([[float(rows * columns)]])
        size = self.block if self.kind == "block" else columns
        widths = [float(min(size, columns - start)) for start in range(0, columns, size)]
        return torch.tensor(widths).expand(rows, len(widths))

    def expand(self, scales: Tensor, columns: int) -> Tensor:
        """Return scales that broadcast with a (rows, columns) unit: (1, 1), (rows, 1) or (rows, columns)."""
        if self.kind != "block":
            return scales
        rows, blocks = scales.shape
        return scales[:, :, None].expand(rows, blocks, self.block).reshape(rows, -1)[:, :columns]

    def groups(self, matrix: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield the weights that share a scale, as rows: which columns of the scales they are, and (G, m) weights.

        The rows of each yielded matrix run over scale rows first; a short last block is yielded on its own.
        """
        rows, columns = matrix.shape
        if self.kind == "tensor":
            yield slice(0, 1), matrix.reshape(1, -1)
            return
        size = self.block if self.kind == "block" else columns
        whole = columns // size
        if whole:
            yield slice(0, whole), matrix[:, : whole * size].reshape(rows * whole, size)
        if columns % size:
            yield slice(whole, whole + 1), matrix[:, whole * size :]
