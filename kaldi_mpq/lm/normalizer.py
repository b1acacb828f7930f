# SPDX-License-Identifier: Apache-2.0
"""Log-sum-exp over the vocabulary fused with the output layer, without ever holding all logits.

`make_normalizer` chooses once per model: 16-bit fixed point in native code (`native.dense`) for a float32 model on a
processor that has kernels for it, else torch, whose functions are here too. There, blocks of a few hundred histories
by a few thousand words stay in the processor's cache, so the exponentials cost no memory traffic. Not here: the models.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.native import dense

__all__ = [
    "FixedPointNormalizer",
    "Normalizer",
    "TorchNormalizer",
    "Unnormalized",
    "log_normalizer",
    "make_normalizer",
    "next_word_logps",
]

_BLOCK_ROWS = 512
_BLOCK_WORDS = 2048


@torch.no_grad()
def log_normalizer(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (N,) ln sum_v exp(hidden . weight_v + bias_v).

    Args:
      hidden: (N, E) histories.
      weight: (V, E) output matrix.
      bias: (V,) output bias.
    """
    blocks = [_block_sums(block, weight, bias).log_() for block in hidden.split(_rows_at_once(hidden))]
    result = torch.cat(blocks) if blocks else hidden.new_empty(0)
    if not bool(torch.isfinite(result).all()):  # a logit beyond exp's range somewhere: the slower way that shifts them
        return _shifted_blocks(hidden, weight, bias)
    return result


def _block_sums(block: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (R,) sums of exponentials as they are: infinite or 0 where logits leave -87..88."""
    total = block.new_zeros(len(block))
    for part, part_bias in zip(weight.split(_BLOCK_WORDS), bias.split(_BLOCK_WORDS), strict=True):
        total += torch.addmm(part_bias, block, part.t()).exp_().sum(dim=1)
    return total


def _rows_at_once(hidden: Tensor) -> int:
    return _BLOCK_ROWS if hidden.device.type == "cpu" else 16 * _BLOCK_ROWS


def _shifted_blocks(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (N,) normalizers whatever the size of the logits."""
    return torch.cat([_shifted(block, weight, bias) for block in hidden.split(_rows_at_once(hidden))])


def _shifted(block: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (R,) log-sums of exponentials, each part shifted by its largest logit."""
    parts = zip(weight.split(_BLOCK_WORDS), bias.split(_BLOCK_WORDS), strict=True)
    return torch.logsumexp(torch.stack([torch.logsumexp(torch.addmm(b, block, w.t()), dim=1) for w, b in parts]), dim=0)


@torch.no_grad()
def next_word_logps(hidden: Tensor, rows: Tensor, words: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (Q,) log-probabilities of words after histories.

    Args:
      hidden: (N, E) histories, each normalised once however many words are asked for.
      rows: (Q,) int64, the history of each question.
      words: (Q,) int64, its word.
      weight, bias: the output layer, (V, E) and (V,).
    """
    normalizer = log_normalizer(hidden, weight, bias)
    return _logits(hidden, rows, words, weight, bias) - normalizer[rows]


def _logits(hidden: Tensor, rows: Tensor, words: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (hidden[rows] * weight[words]).sum(dim=1) + bias[words]


class Normalizer(Protocol):
    """A frozen model's output layer: ln sum_v exp(hidden . weight_v + bias_v), and words' log-probabilities."""

    def log_normalizer(self, hidden: Tensor) -> Tensor:
        """Return (N,) normalizers of (N, E) histories."""

    def logits(self, hidden: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """Return (Q,) log-probabilities of words after histories, not yet normalised; arguments as in `logps`."""

    def logps(self, hidden: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """Return (Q,) log-probabilities of words after histories; arguments as in `next_word_logps`."""


def make_normalizer(model: LanguageModel, normalize: bool = True) -> Normalizer:
    """Return the fastest normalizer of a model whose weights stay as they are.

    Args:
      normalize: False takes logits for log-probabilities, for a model that was trained to normalise itself.
    """
    own = model.own_normalizer(normalize)
    if own is not None:
        return own
    weight, bias = model.output_weight.detach(), model.output.bias.detach()
    if not normalize:
        return Unnormalized(weight, bias)
    if fits_native(weight):
        return FixedPointNormalizer(weight, bias)
    return TorchNormalizer(weight, bias)


def fits_native(weight: Tensor) -> bool:
    """Whether products with this matrix are for `native.dense`: in float32, in the processor's memory, and worth it."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and dense.has_fast_kernels()


class Unnormalized:
    """Logits as they are, on any device; `weight` (V, E), `bias` (V,)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias

    def log_normalizer(self, hidden: Tensor) -> Tensor:
        """See Normalizer."""
        return hidden.new_zeros(len(hidden))

    def logits(self, hidden: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """See Normalizer."""
        return _logits(hidden, rows, words, self.weight, self.bias)

    logps = logits


class TorchNormalizer:
    """Float products on any device; `weight` (V, E), `bias` (V,)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias

    def log_normalizer(self, hidden: Tensor) -> Tensor:
        """See Normalizer."""
        return log_normalizer(hidden, self.weight, self.bias)

    def logits(self, hidden: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """See Normalizer."""
        return _logits(hidden, rows, words, self.weight, self.bias)

    def logps(self, hidden: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """See Normalizer."""
        return next_word_logps(hidden, rows, words, self.weight, self.bias)


class FixedPointNormalizer:
    """16-bit products in native code, asked words in float; `weight` (V, E) and `bias` (V,), float32 on the CPU.

    Histories whose logits leave the range of the exponential go torch's way; those that are not finite give NaN.

    Args:
      kernels: one of `native.dense.kernel_names`, or nothing: the fastest.
    Raises:
      NumericalError: a weight is not finite.
    """

    def __init__(self, weight: Tensor, bias: Tensor, kernels: str = "") -> None:
        self.weight, self.bias = weight.contiguous(), bias.contiguous()
        self._layer = dense.OutputLayer(self.weight.numpy(), self.bias.numpy(), kernels)

    def log_normalizer(self, hidden: Tensor) -> Tensor:
        """See Normalizer."""
        found = torch.from_numpy(self._layer.log_sums(hidden.detach().numpy(), torch.get_num_threads()))
        result = found.to(hidden.dtype)
        beyond = torch.isnan(result)
        if bool(beyond.any()):
            sums = _shifted_blocks(hidden[beyond], self.weight, self.bias)
            result[beyond] = sums.where(sums.isfinite(), torch.full_like(sums, torch.nan))
        return result

    def logits(self, hidden: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """See Normalizer."""
        arrays = hidden.detach().numpy(), rows.numpy(), words.numpy()
        return torch.from_numpy(self._layer.logits(*arrays, torch.get_num_threads())).to(hidden.dtype)

    def logps(self, hidden: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """See Normalizer."""
        return self.logits(hidden, rows, words) - self.log_normalizer(hidden)[rows]
