# SPDX-License-Identifier: Apache-2.0
"""Perplexity of a model on a corpus: exp of the mean negative log-likelihood per token, sentence ends counted.

Not here: training, n-grams, and ``mpq lm ppl`` (`pack.ppl`, because it opens packed models too).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kaldi_mpq.lm.batches import PADDING, Batch, as_read, conversation_batches, utterance_batches, utterance_plan
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.text.corpus import Corpus

__all__ = ["Perplexity", "carry", "corpus_batches", "log_normalizer_spread", "perplexity", "token_logps"]


@dataclass(frozen=True)
class Perplexity:
    """Summed negative log-likelihood in nats and the tokens it is of; sums add, perplexities do not."""

    nll_nats: float
    tokens: int

    def __add__(self, other: Perplexity) -> Perplexity:
        return Perplexity(self.nll_nats + other.nll_nats, self.tokens + other.tokens)

    @property
    def value(self) -> float:
        """The perplexity, infinite where it overflows."""
        mean = self.nll_nats / max(self.tokens, 1)
        return math.exp(mean) if mean < 700 else math.inf

    def to_dict(self) -> dict[str, float | int]:
        """Return what ``ppl.json`` holds of a text."""
        return {"perplexity": self.value, "nll_nats": self.nll_nats, "tokens": self.tokens}


@torch.no_grad()
def perplexity(
    model: LanguageModel, corpus: Corpus, *, batch_tokens: int = 4000, context: str = "utterance"
) -> Perplexity:
    """Return the perplexity of ``model`` on ``corpus``, each utterance on its own or after its conversation."""
    total = Perplexity(0.0, 0)
    with _evaluating(model):
        for logps in _batch_logps(model, corpus_batches(model, corpus, batch_tokens, context)):
            total += Perplexity(-float(logps.sum(dtype=torch.float64)), logps.numel())
    return total


@torch.no_grad()
def log_normalizer_spread(
    model: LanguageModel, corpus: Corpus, context: str = "utterance", batch_tokens: int = 4000
) -> dict[str, float]:
    """Return mean, standard deviation and largest size of ln Z over the tokens of a corpus.

    A self-normalised model is right to take logits for log-probabilities as far as these are near 0.
    """
    device = model.output.bias.device
    found, state = [torch.zeros(0)], None
    with _evaluating(model):
        for batch in corpus_batches(model, corpus, batch_tokens, context):
            batch = batch.to(device)
            hidden, state = model(batch.inputs, carry(model, state, batch.fresh))
            logits = model.logits(hidden[batch.targets != PADDING])
            found.append(torch.logsumexp(logits, dim=-1).cpu())
    ln_z = torch.cat(found).double()
    deviation = float(ln_z.std(unbiased=False)) if len(ln_z) else 0.0
    return {
        "mean": float(ln_z.mean()) if len(ln_z) else 0.0,
        "deviation": deviation,
        "largest": float(ln_z.abs().max()) if len(ln_z) else 0.0,
    }


@torch.no_grad()
def token_logps(model: LanguageModel, corpus: Corpus, *, batch_tokens: int = 4000) -> Tensor:
    """Return (W + N,) log-probabilities of each word and sentence end in order, every utterance on its own.

    The order is that in which the model reads: a backward one has an utterance's last word first.
    """
    corpus = as_read(corpus, model.config.backward)
    plan = utterance_plan(corpus, batch_tokens, None)
    batches = utterance_batches(corpus, plan, model.config.bos, model.config.eos)
    result = torch.empty(corpus.num_tokens)
    starts = torch.from_numpy(corpus.offsets[:-1]) + torch.arange(len(corpus))
    lengths = torch.from_numpy(corpus.lengths)
    with _evaluating(model):
        for rows, logps in zip(map(torch.from_numpy, plan), _batch_logps(model, batches), strict=True):
            columns = torch.arange(int(lengths[rows].max()) + 1)
            result[(starts[rows][:, None] + columns)[columns <= lengths[rows][:, None]]] = logps.cpu()
    return result


def corpus_batches(
    model: LanguageModel, corpus: Corpus, batch_tokens: int, context: str, window: int = 70
) -> Iterator[Batch]:
    """Yield the batches of a corpus in a fixed order, for measuring, as the model reads them.

    Args:
      window: as in OptimSettings: a transformer has seen no position beyond it in training.
    """
    bos, eos = model.config.bos, model.config.eos
    corpus = as_read(corpus, model.config.backward)
    if context == "utterance":
        return utterance_batches(corpus, utterance_plan(corpus, batch_tokens, None), bos, eos)
    return conversation_batches(corpus, bos, eos, streams=max(1, batch_tokens // window), window=window, seed=None)


@contextmanager
def _evaluating(model: LanguageModel) -> Iterator[None]:
    """Switch dropout off in the block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def carry(model: LanguageModel, state: object, fresh: Tensor | None) -> object:
    """Return the state that a batch starts from: none, or the last one with the fresh rows set back to the start."""
    if fresh is None or state is None:
        return None
    start = model.start(len(fresh))
    return state.detach().where(fresh, start)


def _batch_logps(model: LanguageModel, batches: Iterable[Batch]) -> Iterator[Tensor]:
    """Yield the log-probabilities of each batch's targets, padding left out."""
    device = model.output.bias.device
    state = None
    for batch in batches:
        batch = batch.to(device)
        hidden, state = model(batch.inputs, carry(model, state, batch.fresh))
        counted = batch.targets != PADDING
        logits = model.logits(hidden[counted])
        yield -functional.cross_entropy(logits, batch.targets[counted], reduction="none")
