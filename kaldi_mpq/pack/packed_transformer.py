# SPDX-License-Identifier: Apache-2.0
"""A Transformer language model that is computed from its packed weights, on the CPU, wherever a `TransformerLm` is.

Not here: embedding and output layer (`packed_model`), and how a file becomes such a model (`packed_load`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kaldi_mpq.lm.model import ModelConfig
from kaldi_mpq.lm.transformer import TransformerLm, TransformerState, positions
from kaldi_mpq.native import packed
from kaldi_mpq.pack.packed_model import PackedModel, check_finite_rows

__all__ = ["PackedTransformer"]


class PackedTransformer(PackedModel, TransformerLm):
    """See the module, and `PackedModel` for what is no part of these.

    Args:
      blocks: the layers.
      last: the norm above them, of a pre-norm model.
    """

    def __init__(
        self,
        config: ModelConfig,
        embedding: packed.Matrix,
        blocks: list[packed.BlockWeights],
        last: packed.Norm | None,
        words: packed.Matrix,
        bias: Tensor,
    ) -> None:
        between = [linear[0] for b in blocks for linear in (b.project, b.out, b.up, b.down)]
        super().__init__(config, embedding, words, bias, between)
        scale = math.sqrt(config.embedding_dim) if config.scaled_embedding else 1.0
        self._transformer = packed.Transformer(embedding, scale, blocks, last, config.heads)
        self._positions = np.zeros((0, config.embedding_dim), np.float32)
        self.eval()

    def forward(self, inputs: Tensor, state: None = None) -> tuple[Tensor, None]:
        """See LanguageModel.forward; for whole batches the float model is the faster one."""
        if state is not None:
            raise NotImplementedError("a transformer's context is its window")
        n, t = inputs.shape
        keys, values = self._arena(n * t)
        hidden = [self.step(keys, values, _rows_of_sentence(t, i * t), words) for i, words in enumerate(inputs)]
        return torch.stack(hidden) if hidden else keys.new_empty(n, t, self.config.embedding_dim), None

    def advance_levels(self, state: TransformerState, levels: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """See LanguageModel.advance_levels; all levels are one call."""
        keys, values, rows = self._room_for_levels(state, levels)
        longest = rows[-1].shape[1]
        padded = [torch.nn.functional.pad(level, (longest - level.shape[1], 0), value=-1) for level in rows]
        return self.step(keys, values, torch.cat(padded), torch.cat([words for _, words in levels]))

    def after(self, words: Tensor, lengths: Tensor) -> TransformerState:
        """See TransformerLm.after."""
        n, t = words.shape
        keys, values = self._arena(n * t)
        for i, length in enumerate(lengths.tolist()):
            self.step(keys, values, _rows_of_sentence(length, i * t), words[i, :length])
        return TransformerState(keys, values, self._rows_after(lengths, t))

    def step(self, keys: Tensor, values: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """See TransformerLm.step; a history may see a row that another one of the call writes.

        Raises:
          NumericalError: a key, a value or a result is not finite.
        """
        if len(words) == 0:
            return keys.new_empty(0, self.config.embedding_dim)
        arrays = (array.detach().numpy() for array in (keys, values, rows, words))
        threads = torch.get_num_threads()
        found = torch.from_numpy(self._transformer.step(*arrays, self._encodings(rows.shape[1]), threads))
        check_finite_rows(found)
        return found

    def _arena(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return room for keys and values."""
        shape = (self.config.layers, rows, self.config.embedding_dim)
        return torch.zeros(shape), torch.zeros(shape)

    def _encodings(self, count: int) -> np.ndarray:
        """Return the encodings of that many positions or more."""
        if len(self._positions) < count:
            self._positions = positions(torch.arange(2 * count), self.config.embedding_dim).numpy()
        return self._positions


def _rows_of_sentence(length: int, first: int) -> Tensor:
    """Return the (T, T) rows that each of T words sees: ``first`` and the following, up to its own."""
    place = torch.arange(length)
    seen = place + place[:, None] - (length - 1)
    return torch.where(seen >= 0, seen + first, -1)
