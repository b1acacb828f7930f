# SPDX-License-Identifier: Apache-2.0
"""What a training minimises. The plain one is cross entropy; `fit` derives the quantized ones from it.

A model that is to normalise itself also pays for the squares of ln Z, the logarithms of its normalisers, so that its
logits can be taken for log-probabilities (`normalizer.Unnormalized`).

Not here: the loop (`lm.train`). An objective is a module that owns the model, so that its parameters and buffers
(learned scales, dual variables) are optimised, checkpointed and shared between processes with the model's.

Paper: Devlin et al., "Fast and robust neural network joint models for statistical machine translation", 2014, section
2.4 (self-normalisation: loss + alpha (ln Z)^2, output biases that start at -ln V).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kaldi_mpq.lm.batches import PADDING, Batch
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.perplexity import Perplexity, carry, perplexity
from kaldi_mpq.text.corpus import Corpus

__all__ = ["Objective"]


class Objective(nn.Module):
    """Mean cross entropy in nats per token, with label smoothing.

    Args:
      self_normalize: weight of the mean (ln Z)^2 that is added.

    ``keeps_last``: the last weights are the result, not those with the best validation perplexity; nothing stops early.
    ``starts_good``: what training starts from is validated too, and is the result if nothing better comes.
    """

    keeps_last = False
    starts_good = False

    def __init__(self, model: LanguageModel, label_smoothing: float = 0.0, self_normalize: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self.self_normalize = self_normalize

    def forward(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        """Return the mean loss of a batch and the model's state after it."""
        hidden, state = self.model(batch.inputs, carry(self.model, state, batch.fresh))
        counted = batch.targets != PADDING
        logits = self.model.logits(hidden[counted])
        if not len(logits):  # this process's conversations have ended, those of others have not: gradients of 0
            return logits.sum(), state
        loss = self.token_loss(batch, logits, batch.targets[counted])
        if self.self_normalize:
            loss = loss + self.self_normalize * torch.logsumexp(logits, dim=-1).square().mean()
        return loss, state

    def token_loss(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, given (M, V) logits and (M,) targets of the M counted positions."""
        del batch
        return functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def after_step(self, step: int) -> None:
        """Do what follows an optimiser step; ``step`` counts from 1."""

    def validate(self, corpus: Corpus, batch_tokens: int, context: str) -> Perplexity:
        """Return the perplexity that decides on early stopping."""
        return perplexity(self.model, corpus, batch_tokens=batch_tokens, context=context)
