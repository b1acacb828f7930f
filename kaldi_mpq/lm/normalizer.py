# SPDX-License-Identifier: Apache-2.0
"""Log-sum-exp over the vocabulary fused with the output layer, without ever holding all logits.

Not here: the models. Blocks of a few hundred histories by a few thousand words stay in the processor's cache, so the
exponentials cost no memory traffic, and 30,000 words times thousands of histories are never in memory at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["log_normalizer", "next_word_logps"]

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
    rows_at_once = _BLOCK_ROWS if hidden.device.type == "cpu" else 16 * _BLOCK_ROWS
    blocks = [_block_sums(block, weight, bias).log_() for block in hidden.split(rows_at_once)]
    result = torch.cat(blocks) if blocks else hidden.new_empty(0)
    if not bool(torch.isfinite(result).all()):  # a logit beyond exp's range somewhere: the slower way that shifts them
        return torch.cat([_shifted(block, weight, bias) for block in hidden.split(rows_at_once)])
    return result


def _block_sums(block: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (R,) sums of exponentials as they are: infinite or 0 where logits leave -87..88."""
    total = block.new_zeros(len(block))
    for part, part_bias in zip(weight.split(_BLOCK_WORDS), bias.split(_BLOCK_WORDS), strict=True):
        total += torch.addmm(part_bias, block, part.t()).exp_().sum(dim=1)
    return total


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
    logits = (hidden[rows] * weight[words]).sum(dim=1) + bias[words]
    return logits - normalizer[rows]
