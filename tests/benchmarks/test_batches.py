# SPDX-License-Identifier: Apache-2.0
"""Peers' batches: every word of every hypothesis is asked for, after just the words before it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from peers.batches import fastest, make_batches, read_lists, score

BOS, EOS = 1, 2
SENTENCES = st.lists(st.lists(st.integers(3, 9), max_size=6), min_size=1, max_size=12)


def write_lists(path, sentences):
    """Write sentences as the benchmark hands them over."""
    offsets = np.cumsum([0, *map(len, sentences)])
    words = np.array([word for sentence in sentences for word in sentence], np.int32)
    np.savez(path, word_offsets=offsets, words=words, bos=BOS, eos=EOS)
    return read_lists(path)


def hidden_of(inputs):
    """Return (T * B, 1) numbers that tell the words so far, and their order."""
    numbers = np.zeros(inputs.shape, np.int64)
    before = np.zeros(inputs.shape[1], np.int64)
    for t, words in enumerate(inputs):
        before = before * 10 + words
        numbers[t] = before
    return numbers.reshape(-1, 1)


def logps_of(hidden, words):
    """Return a number that depends on the whole history and on the word."""
    return -((hidden[:, 0] * 10 + words) % 9973).astype(float)


def slow_cost(sentence):
    """Return the cost of a sentence word by word."""
    history, cost = BOS, 0.0
    for word in [*sentence, EOS]:
        cost += (history * 10 + word) % 9973
        history = history * 10 + word
    return cost


@settings(max_examples=60, deadline=None)
@given(sentences=SENTENCES, batch_tokens=st.integers(1, 40), chunk_rows=st.integers(1, 9))
def test_costs_are_those_of_sentences_alone(tmp_path_factory, sentences, batch_tokens, chunk_rows):
    """Whatever the sizes of batches, and for hypotheses that are there twice."""
    lists = write_lists(tmp_path_factory.mktemp("lists") / "lists.npz", sentences)
    found = score(lists, make_batches(lists, batch_tokens), chunk_rows, hidden_of, logps_of)
    assert found.tolist() == [slow_cost(sentence) for sentence in sentences]


def test_hypotheses_are_scored_once(tmp_path):
    """A list with the same words thrice is the work of one."""
    lists = write_lists(tmp_path / "lists.npz", [[3, 4], [5], [3, 4], [3, 4]])
    assert lists.evaluations == 3 + 2


def test_padding_is_short(tmp_path):
    """Sentences of like length share a batch: no position of the short ones is computed in the long ones' batch."""
    sentences = [[3 + i] * 4 for i in range(5)] + [[3 + i] for i in range(5)]
    lists = write_lists(tmp_path / "lists.npz", sentences)
    assert [batch.inputs.shape for batch in make_batches(lists, 25)] == [(5, 5), (2, 5)]


def test_the_choice_of_sizes_changes_no_score(tmp_path):
    """What was tried to find them is not what is returned."""
    sentences = [[3, 4, 5], [6], [], [7, 8]]
    run, sizes = fastest(write_lists(tmp_path / "lists.npz", sentences), hidden_of, logps_of)
    assert run().tolist() == [slow_cost(sentence) for sentence in sentences]
    assert all(value > 0 for value in sizes.values())
