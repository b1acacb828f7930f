# SPDX-License-Identifier: Apache-2.0
"""The elementwise part of an LSTM layer's step for many histories that share what they are made of.

Not here: the products, and the equations as they are trained (`lstm`). Without gradients, on the CPU, gates are added
up, squashed and used in one pass of native code, so that they are never copied for each history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kaldi_mpq.native import dense

if TYPE_CHECKING:
    from kaldi_mpq.lm.lstm import LstmLayer

__all__ = ["Chosen", "step_histories"]

Chosen = tuple[Tensor, Tensor]  # (M, .) rows, and the (N,) number of the row that each history takes


def step_histories(layer: LstmLayer, below: Chosen, before: Chosen, cell: Chosen) -> tuple[Tensor, Tensor]:
    """Return the new hidden and cell vectors, (N, H), of N histories.

    Args:
      layer: whose `step` this is, and whose peepholes count.
      below: (M, 4H) parts of the gates that come from the layer below, with the bias.
      before: (M, 4H) parts that come from the step before.
      cell: (M, H) cells before the step.
    """
    if not _is_native(below[0], before[0], cell[0]):
        return layer.step(below[0][below[1]] + before[0][before[1]], cell[0][cell[1]])
    count, width = len(cell[1]), cell[0].shape[1]
    new_hidden, new_cell = cell[0].new_empty(count, width), cell[0].new_empty(count, width)
    peephole = None if layer.peephole is None else layer.peephole.detach().numpy()
    rows = [(matrix.numpy(), which.numpy()) for matrix, which in (below, before, cell)]
    dense.lstm_step(*rows, peephole, new_hidden.numpy(), new_cell.numpy(), torch.get_num_threads())
    return new_hidden, new_cell


def _is_native(*tensors: Tensor) -> bool:
    plain = all(x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad for x in tensors)
    return plain and dense.has_fast_kernels()
