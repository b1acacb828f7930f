# SPDX-License-Identifier: Apache-2.0
"""A corpus cut into batches: utterances of like length side by side, or conversations as parallel streams.

Not here: what a loss does with them. Everything is a function of the seed, so that a resumed run sees the same order.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kaldi_mpq.text.corpus import Corpus

__all__ = ["PADDING", "Batch", "as_read", "conversation_batches", "utterance_batches", "utterance_plan"]

PADDING = -100  # target of positions that do not count, as torch's cross entropy has it


@dataclass(frozen=True)
class Batch:
    """N rows of T positions.

    Args:
      inputs: (N, T) int64; bos, then words. Padded positions repeat bos.
      targets: (N, T) int64; words, then eos; PADDING where there is nothing to predict.
      fresh: (N,) bool, rows whose state starts anew; None: all of them, and no state is carried.
    """

    inputs: Tensor
    targets: Tensor
    fresh: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        fresh = None if self.fresh is None else self.fresh.to(device)
        return Batch(self.inputs.to(device), self.targets.to(device), fresh)


def as_read(corpus: Corpus, backward: bool) -> Corpus:
    """Return the corpus as a model reads it: a backward one has each utterance from its end, utterances in order."""
    if not backward:
        return corpus
    first_and_last = np.repeat(corpus.offsets[:-1] + corpus.offsets[1:] - 1, corpus.lengths)
    words = corpus.words[first_and_last - np.arange(len(corpus.words))]
    return Corpus(words, corpus.offsets, corpus.conversation)


def utterance_plan(corpus: Corpus, batch_tokens: int, seed: int | None) -> list[np.ndarray]:
    """Return the utterances of each batch: similar lengths together, at most ``batch_tokens`` padded positions each.

    Args:
      seed: shuffles equal lengths and the batches; None: longest first, for measuring.
    """
    shuffle = np.random.default_rng(seed) if seed is not None else None
    order = shuffle.permutation(len(corpus)) if shuffle else np.arange(len(corpus))
    sizes = corpus.lengths[order] + 1
    order, sizes = (array[np.argsort(-sizes, kind="stable")] for array in (order, sizes))
    plan = []
    begin = 0
    while begin < len(order):
        end = min(begin + max(1, batch_tokens // int(sizes[begin])), len(order))
        plan.append(order[begin:end])
        begin = end
    return [plan[i] for i in shuffle.permutation(len(plan))] if shuffle else plan


def utterance_batches(corpus: Corpus, plan: list[np.ndarray], bos: int, eos: int) -> Iterator[Batch]:
    """Yield the batches of a plan; every utterance starts from nothing."""
    for rows in plan:
        begin, size = corpus.offsets[rows], corpus.lengths[rows]
        columns = np.arange(size.max() + 1)
        inside = columns < size[:, None]  # (N, T)
        targets = np.full(inside.shape, eos, np.int64)
        targets[inside] = corpus.words[(begin[:, None] + columns)[inside]]
        inputs = np.concatenate([np.full((len(rows), 1), bos), targets[:, :-1]], axis=1)
        padded = columns > size[:, None]
        inputs[padded] = bos
        targets[padded] = PADDING
        yield Batch(torch.from_numpy(inputs), torch.from_numpy(targets))


def conversation_batches(
    corpus: Corpus, bos: int, eos: int, *, streams: int, window: int, seed: int | None
) -> Iterator[Batch]:
    """Yield windows of ``streams`` conversations side by side; a row is fresh where a new conversation starts.

    Utterances follow each other as ``bos w1 .. wn`` with targets ``w1 .. wn eos``; the state is carried over. A
    conversation keeps its row whatever the seed, so that every epoch has as many batches.

    Args:
      streams: rows of a batch; fewer where there are fewer conversations.
      window: columns of a batch.
      seed: shuffles the conversations of each row; None: in the corpus's order.
    """
    inputs, targets, conversation = _stream(corpus, bos, eos)
    bounds = np.flatnonzero(np.r_[True, conversation[1:] != conversation[:-1], True]).tolist()
    row_of = _even_rows(-(-np.diff(bounds) // window), streams)
    order = np.arange(len(row_of))
    if seed is not None:
        order = np.random.default_rng(seed).permutation(order)
    rows: list[list[tuple[int, int, bool]]] = [[] for _ in range(max(row_of) + 1)]
    for number in order:  # per conversation, not per word
        begin, end = bounds[number], bounds[number + 1]
        rows[row_of[number]].extend((cut, min(cut + window, end), cut == begin) for cut in range(begin, end, window))
    for step in range(max(map(len, rows))):
        batch_inputs = np.full((len(rows), window), bos, np.int64)
        batch_targets = np.full((len(rows), window), PADDING, np.int64)
        fresh = np.ones(len(rows), bool)
        for i, row in enumerate(rows):
            if step < len(row):
                begin, end, fresh[i] = row[step]
                batch_inputs[i, : end - begin] = inputs[begin:end]
                batch_targets[i, : end - begin] = targets[begin:end]
        yield Batch(torch.from_numpy(batch_inputs), torch.from_numpy(batch_targets), torch.from_numpy(fresh))


def _even_rows(sizes: np.ndarray, streams: int) -> list[int]:
    """Return the row of each conversation, the longest given out first, each to the row that is shortest so far."""
    rows = [(0, row) for row in range(min(streams, len(sizes)))]  # a heap of (windows, row)
    row_of = [0] * len(sizes)
    for number in np.argsort(-sizes, kind="stable").tolist():
        filled, row_of[number] = rows[0]
        heapq.heapreplace(rows, (filled + int(sizes[number]), row_of[number]))
    return row_of


def _stream(corpus: Corpus, bos: int, eos: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs, targets and conversation of every token of a corpus, (W + N,) each."""
    count = len(corpus)
    starts = corpus.offsets[:-1] + np.arange(count)  # place of each utterance's bos
    ends = corpus.offsets[1:] + np.arange(count)  # place of each utterance's eos
    inputs = np.full(corpus.num_tokens, bos, np.int64)
    targets = np.full(corpus.num_tokens, eos, np.int64)
    inputs[np.delete(np.arange(corpus.num_tokens), starts)] = corpus.words
    targets[np.delete(np.arange(corpus.num_tokens), ends)] = corpus.words
    return inputs, targets, np.repeat(corpus.conversation, corpus.lengths + 1)
