# SPDX-License-Identifier: Apache-2.0
"""N-best lists as peers get them at their best: distinct hypotheses, sorted by length, in batches of like length.

A peer scores a batch in two steps, hidden vectors of padded sentences and then log-probabilities of the words that are
there, in chunks, so that the logits of 30,000 words stay in the processor's cache; `fastest` tries the sizes of both.
Not here: prefixes that hypotheses share, which no peer knows of.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Batch", "Lists", "fastest", "make_batches", "read_lists", "score"]

BATCH_TOKENS = (512, 2048)
CHUNK_ROWS = (64, 128, 512)

HiddenOf = Callable[[np.ndarray], np.ndarray]
LogpsOf = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Lists:
    """Distinct sentences of N-best lists.

    Args:
      sentences: word ids of each, longest first.
      which: (P,) int64, the sentence of every hypothesis of the lists.
      bos, eos: what is fed first and predicted last.
    """

    sentences: Sequence[np.ndarray]
    which: np.ndarray
    bos: int
    eos: int

    @property
    def evaluations(self) -> int:
        """Words and sentence ends that are asked for, which are histories to run a model on, prefixes not shared."""
        return sum(len(sentence) + 1 for sentence in self.sentences)


@dataclass(frozen=True)
class Batch:
    """Padded sentences.

    Args:
      sentences: (B,) int64, which they are.
      inputs: (T, B) int64.
      rows: (R,) int64, places of what is not padding among the T * B positions.
      targets: (R,) int64, the words that are asked for there.
      owners: (R,) int64, the sentence of each.
    """

    inputs: np.ndarray
    rows: np.ndarray
    targets: np.ndarray
    owners: np.ndarray


def read_lists(path: str | Path) -> Lists:
    """Return the lists in a file of arrays ``word_offsets``, ``words``, ``bos``, ``eos``."""
    with np.load(path) as stored:
        offsets, words, bos, eos = (stored[name] for name in ("word_offsets", "words", "bos", "eos"))
    flat = words.tolist()
    every = [tuple(flat[begin:end]) for begin, end in itertools.pairwise(offsets)]
    distinct = sorted(set(every), key=lambda sentence: (-len(sentence), sentence))
    number = {sentence: i for i, sentence in enumerate(distinct)}
    which = np.array([number[sentence] for sentence in every], np.int64)
    return Lists([np.array(sentence, np.int64) for sentence in distinct], which, int(bos), int(eos))


def make_batches(lists: Lists, batch_tokens: int) -> list[Batch]:
    """Return the sentences in batches of at most so many positions, padding included, and at least one sentence."""
    batches, begin = [], 0
    while begin < len(lists.sentences):
        steps = len(lists.sentences[begin]) + 1
        end = min(len(lists.sentences), begin + max(1, batch_tokens // steps))
        batches.append(_padded(lists, begin, end, steps))
        begin = end
    return batches


def _padded(lists: Lists, begin: int, end: int, steps: int) -> Batch:
    inputs = np.full((steps, end - begin), lists.bos, np.int64)
    targets = np.full((steps, end - begin), -1, np.int64)
    for column, sentence in enumerate(lists.sentences[begin:end]):
        inputs[1 : len(sentence) + 1, column] = sentence
        targets[: len(sentence) + 1, column] = np.r_[sentence, lists.eos]
    rows = np.flatnonzero(targets.ravel() >= 0)
    return Batch(inputs, rows, targets.ravel()[rows], begin + rows % (end - begin))


def score(
    lists: Lists, batches: Sequence[Batch], chunk_rows: int, hidden_of: HiddenOf, logps_of: LogpsOf
) -> np.ndarray:
    """Return the (P,) costs of all hypotheses.

    Args:
      hidden_of: (T, B) inputs -> (T * B, E) hidden vectors.
      logps_of: (R, E) hidden vectors and (R,) words -> (R,) log-probabilities.
    """
    costs = np.zeros(len(lists.sentences))
    for batch in batches:
        hidden = hidden_of(batch.inputs)
        for begin in range(0, len(batch.rows), chunk_rows):
            part = slice(begin, begin + chunk_rows)
            logps = logps_of(hidden[batch.rows[part]], batch.targets[part])
            costs -= np.bincount(batch.owners[part], logps, len(costs))
    return costs[lists.which]


def fastest(lists: Lists, hidden_of: HiddenOf, logps_of: LogpsOf) -> tuple[Callable[[], np.ndarray], dict[str, int]]:
    """Return a function that scores the lists, with the sizes that were the fastest on some of them; and the sizes."""
    some = Lists(lists.sentences[:: max(1, len(lists.sentences) // 60)], np.arange(0), lists.bos, lists.eos)
    seconds = {}
    for tokens in BATCH_TOKENS:
        for rows in CHUNK_ROWS:
            batches = make_batches(some, tokens)
            start = time.process_time()
            score(some, batches, rows, hidden_of, logps_of)
            seconds[tokens, rows] = time.process_time() - start
    tokens, rows = min(seconds, key=seconds.__getitem__)
    batches = make_batches(lists, tokens)
    return lambda: score(lists, batches, rows, hidden_of, logps_of), {"batch tokens": tokens, "rows at a time": rows}
