# SPDX-License-Identifier: Apache-2.0
"""Batches hold every token of a corpus once per epoch, are bounded, and follow from the seed."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.lm.batches import PADDING, as_read, conversation_batches, utterance_batches, utterance_plan
from kaldi_mpq.text.corpus import Corpus

BOS, EOS = 21, 22
LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=30)


def corpus_of(lengths: list[int], conversations: list[int] | None = None) -> Corpus:
    """Return a corpus in which every word is another one, from 100 on."""
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
    numbers = np.zeros(len(lengths)) if conversations is None else np.array(conversations)
    return Corpus(np.arange(100, 100 + offsets[-1], dtype=np.int32), offsets, numbers.astype(np.int32))


def expected_pairs(corpus: Corpus) -> Counter:
    """Return how often each (input, target) occurs when every utterance is spelled out, one by one."""
    pairs: Counter = Counter()
    for begin, end in zip(corpus.offsets[:-1], corpus.offsets[1:], strict=True):
        words = corpus.words[begin:end].tolist()
        pairs.update(zip([BOS, *words], [*words, EOS], strict=True))
    return pairs


def pairs_of(batches) -> Counter:
    """Return how often each (input, target) occurs in batches, padding left out."""
    pairs: Counter = Counter()
    for batch in batches:
        counted = batch.targets != PADDING
        pairs.update(zip(batch.inputs[counted].tolist(), batch.targets[counted].tolist(), strict=True))
    return pairs


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.integers(1, 40), st.one_of(st.none(), st.integers(0, 5)))
def test_utterance_batches_hold_every_token_once(lengths, batch_tokens, seed):
    """Each word and each sentence end is a target once, after the word before it."""
    corpus = corpus_of(lengths)
    plan = utterance_plan(corpus, batch_tokens, seed)
    assert pairs_of(utterance_batches(corpus, plan, BOS, EOS)) == expected_pairs(corpus)


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.integers(1, 40), st.one_of(st.none(), st.integers(0, 5)))
def test_utterance_batches_are_bounded(lengths, batch_tokens, seed):
    """No batch has more positions than asked for, but one utterance that is longer by itself."""
    corpus = corpus_of(lengths)
    for batch in utterance_batches(corpus, utterance_plan(corpus, batch_tokens, seed), BOS, EOS):
        assert batch.inputs.numel() <= batch_tokens or len(batch.inputs) == 1
        assert batch.inputs.shape == batch.targets.shape
        assert batch.fresh is None


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=8),
    st.integers(1, 5),
    st.integers(1, 12),
    st.one_of(st.none(), st.integers(0, 5)),
)
def test_conversation_batches_hold_every_token_once(meetings, streams, window, seed):
    """Each token is a target once; the batches are as wide as asked for, and as many whatever the seed."""
    lengths = [length for meeting in meetings for length in meeting]
    corpus = corpus_of(lengths, [i for i, meeting in enumerate(meetings) for _ in meeting])
    batches = list(conversation_batches(corpus, BOS, EOS, streams=streams, window=window, seed=seed))
    assert pairs_of(batches) == expected_pairs(corpus)
    assert {tuple(batch.inputs.shape) for batch in batches} == {(min(streams, len(meetings)), window)}
    other = conversation_batches(corpus, BOS, EOS, streams=streams, window=window, seed=6)
    assert len(batches) == sum(1 for _ in other)


def test_a_row_is_fresh_where_a_conversation_starts_and_goes_on_elsewhere():
    """Along a row each conversation is in one piece, in order, and only its first window is marked fresh."""
    meetings = [[3, 2], [8], [1, 1, 1, 4], [2], [6, 6]]
    lengths = [length for meeting in meetings for length in meeting]
    corpus = corpus_of(lengths, [i for i, meeting in enumerate(meetings) for _ in meeting])
    spelled = []
    for meeting in range(len(meetings)):
        stream = []
        for i in np.flatnonzero(corpus.conversation == meeting):
            stream += [BOS, *corpus.words[corpus.offsets[i] : corpus.offsets[i + 1]].tolist()]
        spelled.append(stream)
    rows: dict[int, list[list[int]]] = {0: [], 1: []}
    for batch in conversation_batches(corpus, BOS, EOS, streams=2, window=4, seed=3):
        for row, pieces in rows.items():
            counted = batch.targets[row] != PADDING
            if not bool(counted.any()):
                assert bool(batch.fresh[row])
            elif bool(batch.fresh[row]):
                pieces.append(batch.inputs[row][counted].tolist())
            else:
                pieces[-1] += batch.inputs[row][counted].tolist()
    assert sorted(rows[0] + rows[1]) == sorted(spelled)


def test_long_conversations_are_shared_out_evenly():
    """Rows differ by less than one conversation: three long ones do not stand in one row beside two empty ones."""
    corpus = corpus_of([99, 9, 99, 9, 99, 9], [0, 1, 2, 3, 4, 5])
    batches = list(conversation_batches(corpus, BOS, EOS, streams=3, window=10, seed=1))
    assert len(batches) == 11


def test_the_order_follows_from_the_seed():
    """The same seed gives the same batches, another one another order."""
    corpus = corpus_of([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5])

    def utterances(seed: int) -> list:
        return [b.targets.tolist() for b in utterance_batches(corpus, utterance_plan(corpus, 12, seed), BOS, EOS)]

    def conversations(seed: int) -> list:
        batches = conversation_batches(corpus, BOS, EOS, streams=2, window=5, seed=seed)
        return [batch.targets.tolist() for batch in batches]

    for order in (utterances, conversations):
        assert order(1) == order(1)
        assert order(1) != order(2)


def test_measuring_takes_the_longest_first():
    """Without a seed the plan goes from long to short, so that too large a batch fails at once."""
    corpus = corpus_of([3, 1, 4, 1, 5, 9, 2, 6])
    longest = [int(corpus.lengths[rows].max()) for rows in utterance_plan(corpus, 8, None)]
    assert longest == sorted(longest, reverse=True)


def test_a_batch_moves_as_a_whole():
    """Batch.to keeps values, and a missing fresh stays missing."""
    corpus = corpus_of([2, 1], [0, 1])
    device = torch.device("cpu")
    batch = next(conversation_batches(corpus, BOS, EOS, streams=2, window=3, seed=None)).to(device)
    assert batch.fresh.tolist() == [True, True]
    assert next(utterance_batches(corpus, utterance_plan(corpus, 9, None), BOS, EOS)).to(device).fresh is None


def test_reading_backwards_reverses_each_utterance_alone():
    """Utterances keep their places and conversations; twice is the corpus itself."""
    corpus = corpus_of([3, 0, 1, 4], [0, 0, 1, 1])
    reversed_ = as_read(corpus, True)
    for begin, end in itertools.pairwise(corpus.offsets.tolist()):
        assert reversed_.words[begin:end].tolist() == corpus.words[begin:end].tolist()[::-1]
    np.testing.assert_array_equal(as_read(reversed_, True).words, corpus.words)
    np.testing.assert_array_equal(reversed_.conversation, corpus.conversation)
    assert as_read(corpus, False) is corpus
