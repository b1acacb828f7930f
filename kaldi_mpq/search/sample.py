# SPDX-License-Identifier: Apache-2.0
"""A random part of a corpus, on which sensitivities are measured. Not here: batches (`lm.batches`)."""

from __future__ import annotations

import logging

import numpy as np

from kaldi_mpq.errors import TextError
from kaldi_mpq.text.corpus import Corpus

__all__ = ["draw_sample"]

log = logging.getLogger(__name__)


def draw_sample(corpus: Corpus, tokens: int, seed: int, context: str) -> Corpus:
    """Return random utterances of a corpus, in its order, of at least ``tokens`` tokens together if there are so many.

    Args:
      context: ``conversation``: whole conversations from their beginnings, the last one cut off.
    Raises:
      TextError: the corpus is empty.
    """
    if not len(corpus):
        raise TextError("no utterance to measure on")
    generator = np.random.default_rng(seed)
    if context == "utterance":
        order = generator.permutation(len(corpus))
    else:
        conversations = generator.permutation(np.unique(corpus.conversation))
        order = np.concatenate([np.flatnonzero(corpus.conversation == number) for number in conversations])
    reached = np.cumsum(corpus.lengths[order] + 1)
    if reached[-1] < tokens:
        log.warning("the text has %d tokens, not %d: all of it is the sample", reached[-1], tokens)
    rows = np.sort(order[: int(np.searchsorted(reached, tokens)) + 1])
    words = [corpus.words[corpus.offsets[row] : corpus.offsets[row + 1]] for row in rows]
    offsets = np.append(0, np.cumsum(corpus.lengths[rows])).astype(np.int64)
    return Corpus(np.concatenate(words), offsets, corpus.conversation[rows])
