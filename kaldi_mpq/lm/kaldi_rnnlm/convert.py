# SPDX-License-Identifier: Apache-2.0
"""The layers of a Kaldi RNNLM and its embeddings as configuration and tensors of our LSTM.

Kaldi's logit of a word is the dot product of its embedding and the network's output A m + b. Here A becomes the
projection and embedding . b the word's output bias. Dimensions of the embedding that the network neither reads nor
writes but for a constant (as `exporter` makes one for biases) are in that bias already and are left out.

Not here: files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kaldi_mpq.lm.kaldi_rnnlm.cells import Cell
from kaldi_mpq.lm.kaldi_rnnlm.graph import is_identity

__all__ = ["NO_PROBABILITY", "lm_tensors", "without_break"]

NO_PROBABILITY = -1e4  # an output bias that no logit makes up for; float16 holds it


def lm_tensors(
    cells: Sequence[Cell], matrix: np.ndarray, bias: np.ndarray, embedding: np.ndarray
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Return the fields of a ModelConfig but for vocabulary and symbols, and the model's tensors.

    Args:
      cells: the layers, the lowest first; all of C cells.
      matrix, bias: (E, C) and (E,), the output over the highest layer.
      embedding: (V, E).
    """
    output_bias = (embedding.astype(np.float64) @ bias.astype(np.float64)).astype(np.float32)
    read, written = cells[0].ih.any(axis=0), matrix.any(axis=1)
    tied = not (read.sum() == written.sum() and not (read & written).any())
    if tied:
        read = written = read | written
    matrix = matrix[written]
    tensors = {"embedding.weight": embedding[:, read], "output.bias": output_bias}
    if not tied:
        tensors["output.weight"] = embedding[:, written]
    if not is_identity(matrix):
        tensors["projection.weight"] = matrix
    peephole = any(cell.peephole.any() for cell in cells)
    for k, cell in enumerate(cells):
        ih = cell.ih[:, read] if k == 0 else cell.ih
        tensors |= {f"layers.{k}.ih": ih, f"layers.{k}.hh": cell.hh, f"layers.{k}.bias": cell.bias}
        if peephole:
            tensors[f"layers.{k}.peephole"] = cell.peephole
    size = {"embedding_dim": len(matrix), "hidden_dim": cells[0].hh.shape[1], "layers": len(cells)}
    projected = "projection.weight" in tensors and matrix.shape[0] == matrix.shape[1]
    shape = {"model": "lstm", **size, "tied": tied, "projected": projected, "peephole": peephole}
    return shape, {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}


def without_break(tensors: dict[str, Tensor]) -> None:
    """Give the last word's rows to ``<eps>`` in place.

    Kaldi's normaliser has every word but ``<eps>``, ours every word. Neither ``<eps>`` nor ``<brk>``, the last word of
    a Kaldi RNNLM, is ever fed or asked for, so that with one in the other's place all probabilities stay what they were
    and the words are again those of the lattices.
    """
    for name in ("embedding.weight", "output.weight", "output.bias"):
        if name in tensors:
            tensors[name] = torch.cat([tensors[name][-1:], tensors[name][1:-1]])
