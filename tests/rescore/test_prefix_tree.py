# SPDX-License-Identifier: Apache-2.0
"""The prefix tree against sets of prefixes, counted by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kaldi_mpq.rescore.prefix_tree import build_tree, group_by_nodes

hypotheses = st.lists(st.lists(st.integers(1, 4), max_size=5), min_size=1, max_size=12)


def flat(sentences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return sentences as offsets and words."""
    offsets = np.cumsum([0, *map(len, sentences)]).astype(np.int64)
    return offsets, np.array([word for sentence in sentences for word in sentence], np.int32)


def prefix_of_node(tree, node: int) -> tuple[int, ...]:
    """Return the words from the root to a node, by walking up."""
    if node == 0:
        return ()
    depth = max(i for i, level in enumerate(tree.levels) if level.first <= node)
    level = tree.levels[depth]
    above = tree.levels[depth - 1].first if depth else 0
    place = node - level.first
    return (*prefix_of_node(tree, above + int(level.parents[place])), int(level.words[place]))


@given(hypotheses)
def test_every_distinct_prefix_is_one_node(sentences):
    """There are as many nodes as distinct prefixes, and each word of each hypothesis leads to its prefix."""
    offsets, words = flat(sentences)
    tree = build_tree(offsets, words)
    prefixes = {tuple(sentence[:k]) for sentence in sentences for k in range(len(sentence) + 1)}
    assert tree.num_nodes == len(prefixes)
    for p, sentence in enumerate(sentences):
        assert prefix_of_node(tree, int(tree.end_node[p])) == tuple(sentence)
        for k in range(len(sentence)):
            assert prefix_of_node(tree, int(tree.node_of_word[offsets[p] + k])) == tuple(sentence[: k + 1])


@given(hypotheses, st.integers(1, 30))
def test_groups_cover_all_lattices_within_the_limit(sentences, limit):
    """Ranges follow each other, none is empty, and only a single lattice may exceed the limit."""
    offsets, words = flat(sentences)
    bounds = np.unique(np.r_[0, np.arange(0, len(sentences), 3), len(sentences)])  # lattices of up to three hypotheses
    groups = group_by_nodes(bounds, offsets, words, limit)
    assert [begin for begin, _ in groups] == [0, *(end for _, end in groups[:-1])]
    assert groups[-1][1] == len(bounds) - 1
    for begin, end in groups:
        assert begin < end
        per_lattice = [
            len({tuple(s[:k]) for s in sentences[bounds[b] : bounds[b + 1]] for k in range(len(s) + 1)})
            for b in range(begin, end)
        ]
        assert sum(per_lattice) <= limit or end == begin + 1


def test_hypotheses_without_words_end_at_the_root():
    """An empty hypothesis is the root itself."""
    tree = build_tree(np.zeros(3, np.int64), np.empty(0, np.int32))
    assert tree.num_nodes == 1 and tree.levels == [] and tree.end_node.tolist() == [0, 0]
