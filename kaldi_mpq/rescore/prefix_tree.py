# SPDX-License-Identifier: Apache-2.0
"""Hypotheses of many utterances as one prefix tree, level by level, so that each distinct prefix is evaluated once.

Not here: evaluating it (`tree_scores`). Everything is per level, nothing per hypothesis.

Paper: Si et al., "Prefix tree based N-best list re-scoring for recurrent neural network language model used in speech
recognition system", Interspeech 2013, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Level", "PrefixTree", "build_tree", "group_by_nodes"]


@dataclass(frozen=True)
class Level:
    """The nodes at one depth: M prefixes of the same number of words.

    Args:
      parents: (M,) int64, each node's parent in the level above.
      words: (M,) int64, the word that leads from the parent to the node.
      first: number of the level's first node in the whole tree.
    """

    parents: np.ndarray
    words: np.ndarray
    first: int


@dataclass(frozen=True)
class PrefixTree:
    """A tree over P hypotheses of W words in all; node 0 is the sentence start.

    Args:
      levels: the levels below the root.
      num_nodes: nodes of the tree, the root counted.
      node_of_word: (W,) int64, the node that each word of each hypothesis leads to.
      end_node: (P,) int64, the node where each hypothesis ends.
    """

    levels: list[Level]
    num_nodes: int
    node_of_word: np.ndarray
    end_node: np.ndarray


def build_tree(word_offsets: np.ndarray, words: np.ndarray, roots: np.ndarray | None = None) -> PrefixTree:
    """Return the prefix tree of hypotheses.

    Args:
      word_offsets: (P + 1,) int64; hypothesis p is ``words[word_offsets[p]:word_offsets[p + 1]]``.
      words: (W,) word ids.
      roots: (P,) int64 in 0..R-1: hypotheses with different roots share nothing; None: one root for all.
    """
    lengths = np.diff(word_offsets)
    here = np.zeros(len(lengths), np.int64) if roots is None else roots.astype(np.int64)  # place within the level above
    num_nodes = 1 if roots is None else int(roots.max(initial=-1)) + 1
    base = 0
    end_node = here.copy()
    node_of_word = np.empty(len(words), np.int64)
    levels: list[Level] = []
    alive = np.flatnonzero(lengths > 0)
    span = int(words.max(initial=0)) + 1
    depth = 0
    while len(alive):
        at = word_offsets[alive] + depth
        keys, place = np.unique(here[alive] * span + words[at], return_inverse=True)
        levels.append(Level(keys // span, keys % span, num_nodes))
        base = num_nodes
        num_nodes += len(keys)
        here[alive] = place
        node_of_word[at] = base + place
        end_node[alive] = base + place
        depth += 1
        alive = alive[lengths[alive] > depth]
    return PrefixTree(levels, num_nodes, node_of_word, end_node)


def group_by_nodes(
    lattice_offsets: np.ndarray, word_offsets: np.ndarray, words: np.ndarray, limit: int
) -> list[tuple[int, int]]:
    """Return ranges of lattices whose hypotheses have at most ``limit`` tree nodes together; one lattice may exceed it.

    Args:
      lattice_offsets: (B + 1,) int64; lattice b has hypotheses ``lattice_offsets[b]`` to ``lattice_offsets[b + 1]``.
      word_offsets, words: as in `build_tree`.
    """
    count = len(lattice_offsets) - 1
    roots = np.repeat(np.arange(count), np.diff(lattice_offsets))
    tree = build_tree(word_offsets, words, roots)
    nodes = np.ones(count, np.int64)
    owner = np.arange(count)  # lattice of each node of the level above
    for level in tree.levels:
        owner = owner[level.parents]
        nodes += np.bincount(owner, minlength=count)
    groups = []
    begin = 0
    total = np.r_[0, np.cumsum(nodes)]
    while begin < count:
        end = max(begin + 1, int(np.searchsorted(total, total[begin] + limit, side="right")) - 1)
        groups.append((begin, end))
        begin = end
    return groups
