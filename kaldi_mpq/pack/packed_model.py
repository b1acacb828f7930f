# SPDX-License-Identifier: Apache-2.0
"""What language models that are computed from packed weights have in common: embedding, output layer, no parameters.

Their matrices are no tensors: nothing trains them, exports them or moves them to another device. Not here: the kernels
(`native.packed`), what lies between embedding and output layer (`packed_lstm`, `packed_transformer`), and how a file
becomes such a model (`packed_load`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kaldi_mpq.errors import NumericalError
from kaldi_mpq.lm.model import LanguageModel, ModelConfig
from kaldi_mpq.native import packed

__all__ = ["PackedModel", "PackedNormalizer", "check_finite_rows"]


class PackedModel(LanguageModel):
    """See the module. Matrices must not grow afterwards.

    Args:
      config: the model's.
      embedding: (V, E).
      words: (V, E) output matrix; the embedding itself when tied.
      bias: (V,) float32, of the output layer.
      between: all other matrices.
    """

    def __init__(
        self,
        config: ModelConfig,
        embedding: packed.Matrix,
        words: packed.Matrix,
        bias: Tensor,
        between: Iterable[packed.Matrix],
    ) -> None:
        nn.Module.__init__(self)  # no parameters: those of a LanguageModel are what this is without
        self.config = config
        self.output = _Bias(bias)
        self._embedding, self._words = embedding, words
        self._matrices = [*{id(matrix): matrix for matrix in (embedding, words, *between)}.values()]
        self._output = self._sums = packed.OutputLayer(words, bias.numpy())

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

    def use_cheap_denominator(self) -> None:
        """From here on normalisers are of 8-bit histories; logits of single words stay as they are.

        Not of a copy of the words in fewer bits, too: where one word has most of the mass its rounding is not averaged
        out, and log Z of 8-bit words was off by 0.06 with a copy in 4 bits, where 8-bit histories are off by 0.004.
        """
        self._sums = packed.OutputLayer(self._words, self.output.bias.numpy(), cheap=True)

    def own_normalizer(self, normalize: bool) -> Any:
        """See LanguageModel.own_normalizer."""
        return PackedNormalizer(self._output, self._sums, normalize)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> PackedModel:
        """Leave the model as it is if it stays where it is; nn.Module calls this for `to`, `cuda`, `half`."""
        moved = fn(self.output.bias)
        if (moved.device, moved.dtype) != (self.output.bias.device, self.output.bias.dtype):
            raise NotImplementedError("a packed model stays in the CPU's memory, as it is")
        return self


class PackedNormalizer:
    """The output layer of a packed model, as an `lm.normalizer.Normalizer`.

    Args:
      layer: of which logits are.
      sums: of which normalisers are.
      normalize: False takes logits for log-probabilities.
    """

    def __init__(self, layer: packed.OutputLayer, sums: packed.OutputLayer, normalize: bool) -> None:
        self._layer, self._sums = layer, sums
        self._normalize = normalize

    def log_normalizer(self, hidden: Tensor) -> Tensor:
        """See Normalizer.

        Raises:
          NumericalError: a history is not finite.
        """
        if not self._normalize:
            return hidden.new_zeros(len(hidden))
        found = torch.from_numpy(self._sums.log_sums(hidden.detach().numpy(), torch.get_num_threads()))
        check_finite_rows(found)
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


def check_finite_rows(found: Tensor) -> None:
    """Raise NumericalError if a row, one of each history, is not finite."""
    if not bool(torch.isfinite(found).all()):
        bad = (~torch.isfinite(found.reshape(len(found), -1)).all(dim=1)).nonzero().flatten().tolist()
        raise NumericalError("states or scores of histories are not finite", found=f"{len(bad)}, the first {bad[0]}")
