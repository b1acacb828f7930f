# SPDX-License-Identifier: Apache-2.0
"""``mpq lm ppl``: perplexity of any model, float, fitted or packed, alone and interpolated with an n-gram.

It lives above `lm` because it opens packed models too. Not here: how a perplexity is counted (`lm.perplexity`).
"""

from __future__ import annotations

import logging

import torch

from kaldi_mpq import native
from kaldi_mpq.artefact import require
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.interpolate import best_linear_weight, linear, log_linear
from kaldi_mpq.lm.ngram import ngram_logprobs
from kaldi_mpq.lm.perplexity import Perplexity, perplexity, token_logps
from kaldi_mpq.lm.settings import PplSettings
from kaldi_mpq.pack.load import open_lm, words_of
from kaldi_mpq.text.corpus import read_text
from kaldi_mpq.text.vocab import Vocabulary, read_words

__all__ = ["report_perplexity"]

log = logging.getLogger(__name__)


def report_perplexity(settings: PplSettings) -> str:
    """Return the perplexity of a model on a text, and of its interpolations with an n-gram if one is given."""
    require([path for path in (settings.lm, settings.text, settings.words, settings.ngram) if path is not None])
    if settings.threads > 0:
        torch.set_num_threads(settings.threads)
    model = open_lm(settings.lm)
    config = model.config
    if config.backward and settings.ngram is not None:
        raise ConfigError("a backward model and an n-gram have no word's history in common", where=settings.lm,
                          hint="leave --ngram out")  # fmt: skip
    vocabulary = Vocabulary(
        tuple(read_words(settings.words or words_of(settings.lm))), config.bos, config.eos, config.unk
    )
    corpus, stats = read_text(settings.text, vocabulary)
    log.info("%s: %s", settings.text, stats)
    if settings.ngram is None:
        result = perplexity(model, corpus, batch_tokens=settings.batch_tokens, context=settings.context)
        return f"perplexity {result.value:.2f} on {result.tokens} tokens"
    neural = token_logps(model, corpus, batch_tokens=settings.batch_tokens).double().numpy()
    ngram = ngram_logprobs(native.open_old_lm(settings.ngram, vocabulary.ids), corpus)
    weight = best_linear_weight(neural, ngram) if settings.weight is None else settings.weight
    rows = {
        "neural": neural,
        "n-gram": ngram,
        f"linear, neural weight {weight:.3f}": linear(neural, ngram, weight),
        f"log-linear (not normalised), neural weight {weight:.3f}": log_linear(neural, ngram, weight),
    }
    return "\n".join(
        f"{name}: perplexity {Perplexity(-float(logps.sum()), len(logps)).value:.2f}" for name, logps in rows.items()
    )
