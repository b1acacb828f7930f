# SPDX-License-Identifier: Apache-2.0
"""An LSTM language model that is computed from its packed weights, on the CPU, wherever an `LstmLm` is.

Its matrices are no tensors: nothing trains it, exports it or moves it to another device. Not here: the kernels
(`native.packed`), and how a file becomes such a model (`packed_load`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kaldi_mpq.errors import NumericalError
from kaldi_mpq.lm.lstm import LstmLm, LstmState
from kaldi_mpq.lm.model import ModelConfig
from kaldi_mpq.native import packed

__all__ = ["PackedLstm", "PackedNormalizer"]


class PackedLstm(LstmLm):
    """See the module. Matrices must not grow afterwards.

    Args:
      config: the model's.
      embedding: (V, E).
      layers: the LSTM.
      projection: (E, H), or None.
      words: (V, E) output matrix; the embedding itself when tied.
      bias: (V,) float32, of the output layer.
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
        nn.Module.__init__(self)  # no parameters: those of an LstmLm are what this is without
        self.config = config
        self.output = _Bias(bias)
        self._embedding, self._words = embedding, words
        self._matrices = [embedding, *(m for layer in layers for m in (layer.input, layer.recurrent))]
        self._matrices += [m for m in (projection, None if words is embedding else words) if m is not None]
        self._lstm = packed.Lstm(embedding, layers, projection)
        self._output = packed.OutputLayer(words, bias.numpy())
        self.eval()

    @property
    def packed_bytes(self) -> int:
        """Bytes of memory that matrices and their scales take."""
        return sum(matrix.bytes for matrix in self._matrices)

    @property
    def output_weight(self) -> Tensor:
        """(V, E) output matrix, unpacked anew each time."""
        return torch.from_numpy(self._words.rows(np.arange(self.config.vocab_size)))

    def embed(self, words: Tensor) -> Tensor:
        """See LanguageModel.embed."""
        rows = self._embedding.rows(words.flatten().numpy())
        return torch.from_numpy(rows).reshape(*words.shape, -1)

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
        _check_finite(above)
        return above, LstmState(hidden, cell)

    def own_normalizer(self, normalize: bool) -> Any:
        """See LanguageModel.own_normalizer."""
        return PackedNormalizer(self._output, normalize)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> PackedLstm:
        """Leave the model as it is if it stays where it is; nn.Module calls this for `to`, `cuda`, `half`."""
        moved = fn(self.output.bias)
        if (moved.device, moved.dtype) != (self.output.bias.device, self.output.bias.dtype):
            raise NotImplementedError("a packed model stays in the CPU's memory, as it is")
        return self


class PackedNormalizer:
    """The output layer of a packed model, as an `lm.normalizer.Normalizer`.

    Args:
      normalize: False takes logits for log-probabilities.
    """

    def __init__(self, layer: packed.OutputLayer, normalize: bool) -> None:
        self._layer = layer
        self._normalize = normalize

    def log_normalizer(self, hidden: Tensor) -> Tensor:
        """See Normalizer.

        Raises:
          NumericalError: a history is not finite.
        """
        if not self._normalize:
            return hidden.new_zeros(len(hidden))
        found = torch.from_numpy(self._layer.log_sums(hidden.detach().numpy(), torch.get_num_threads()))
        _check_finite(found)
        return found.to(hidden.dtype)

    def logits(self, hidden: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """See Normalizer."""
        arrays = hidden.detach().numpy(), rows.numpy(), words.numpy()
        return torch.from_numpy(self._layer.logits(*arrays, torch.get_num_threads()))

    def logps(self, hidden: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """See Normalizer."""
        return self.logits(hidden, rows, words) - self.log_normalizer(hidden)[rows]


class _Bias(nn.Module):
    """What a model's ``output`` is beside its matrix."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.weight = None
        self.register_buffer("bias", bias)


def _check_finite(found: Tensor) -> None:
    if not bool(torch.isfinite(found).all()):
        bad = (~torch.isfinite(found.reshape(len(found), -1)).all(dim=1)).nonzero().flatten().tolist()
        raise NumericalError("states or scores of histories are not finite", found=f"{len(bad)}, the first {bad[0]}")
