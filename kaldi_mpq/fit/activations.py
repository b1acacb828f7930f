# SPDX-License-Identifier: Apache-2.0
"""A float model whose matrices see activations on a grid, to be fitted. Not here: the grid (`lm.activation_grid`)."""

from __future__ import annotations

from dataclasses import replace

import torch

from kaldi_mpq.lm.activation_grid import calibrating
from kaldi_mpq.lm.model import LanguageModel, build
from kaldi_mpq.lm.perplexity import corpus_batches
from kaldi_mpq.text.corpus import Corpus

__all__ = ["with_activation_bits"]


@torch.no_grad()
def with_activation_bits(model: LanguageModel, bits: int, corpus: Corpus, batch_tokens: int = 4000) -> LanguageModel:
    """Return a model of the same weights in evaluation mode, with activations of that many bits; 0: float ones.

    Args:
      corpus: the clips start from its first batch, layer after layer, each from what it sees below others on grids.
      batch_tokens: of that batch.
    """
    copy = build(replace(model.config, activation_bits=bits)).to(model.output.bias.device).eval()
    weights = model.state_dict()
    own = copy.state_dict()
    copy.load_state_dict({**own, **{name: tensor for name, tensor in weights.items() if name in own}})
    if bits and bits != model.config.activation_bits:
        batch = next(iter(corpus_batches(copy, corpus, batch_tokens, "utterance")))
        with calibrating(copy):
            copy(batch.to(copy.output.bias.device).inputs)
    return copy
