# SPDX-License-Identifier: Apache-2.0
"""An LSTM language model that is computed from its packed weights, on the CPU, wherever an `LstmLm` is.

Not here: embedding and output layer (`packed_model`), and how a file becomes such a model (`packed_load`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kaldi_mpq.lm.lstm import LstmLm, LstmState
from kaldi_mpq.lm.model import ModelConfig
from kaldi_mpq.native import packed
from kaldi_mpq.pack.packed_model import PackedModel, check_finite_rows

__all__ = ["PackedLstm"]


class PackedLstm(PackedModel, LstmLm):
    """See the module, and `PackedModel` for what is no part of these.

    Args:
      layers: the LSTM.
      projection: (E, H), or None.
    """

    def __init__(
        self,
        config: ModelConfig,
        embedding: packed.Matrix,
        layers: list[packed.LayerWeights],
        projection: packed.Matrix | None,
        words: packed.Matrix,
        bias: Tensor,
    ) -> None:
        between = [m for layer in layers for m in (layer.input, layer.recurrent)]
        super().__init__(config, embedding, words, bias, [*between, *([projection] if projection else [])])
        self._lstm = packed.Lstm(embedding, layers, projection)
        self.eval()

    def forward(self, inputs: Tensor, state: LstmState | None = None) -> tuple[Tensor, LstmState]:
        """See LanguageModel.forward; for whole batches the float model is the faster one."""
        state = state or self.start(inputs.shape[0])
        every = torch.arange(len(inputs))
        hidden = []
        for words in inputs.t():
            above, state = self.advance(state, every, words)
            hidden.append(above)
        empty = self.output.bias.new_empty(len(inputs), 0, self.config.embedding_dim)
        return torch.stack(hidden, dim=1) if hidden else empty, state

    def advance(self, state: LstmState, parents: Tensor, words: Tensor) -> tuple[Tensor, LstmState]:
        """See LanguageModel.advance.

        Raises:
          NumericalError: a state is not finite.
        """
        arrays = (state.hidden, state.cell, parents, words)
        found = self._lstm.advance(*(array.detach().numpy() for array in arrays), torch.get_num_threads())
        above, hidden, cell = (torch.from_numpy(array) for array in found)
        check_finite_rows(above)
        return above, LstmState(hidden, cell)
