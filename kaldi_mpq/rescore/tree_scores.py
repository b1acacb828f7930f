# SPDX-License-Identifier: Apache-2.0
"""A language model's costs for every word of many hypotheses, each distinct prefix evaluated once.

Not here: the tree (`prefix_tree`) and what is done with the costs (`combine`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.normalizer import Normalizer, make_normalizer
from kaldi_mpq.rescore.prefix_tree import PrefixTree, build_tree, group_by_nodes

__all__ = ["SentenceCosts", "score_hypotheses"]


@dataclass(frozen=True)
class SentenceCosts:
    """Costs, -ln p, of P hypotheses of W words in all.

    Args:
      word: (W,) float64, of each word after the words before it.
      final: (P,) float64, of the sentence end after each hypothesis.
      evaluations: distinct histories that the language model was run on.
    """

    word: np.ndarray
    final: np.ndarray
    evaluations: int = 0


@torch.inference_mode()
def score_hypotheses(
    model: LanguageModel,
    lattice_offsets: np.ndarray,
    word_offsets: np.ndarray,
    words: np.ndarray,
    batch_tokens: int,
    start: Any = None,
    normalizer: Normalizer | None = None,
) -> SentenceCosts:
    """Return the model's costs of every word and sentence end of the hypotheses of B lattices.

    Args:
      lattice_offsets: (B + 1,) int64, which hypotheses are of which lattice.
      word_offsets: (P + 1,) int64, which words are of which hypothesis.
      words: (W,) word ids below the model's vocabulary size.
      batch_tokens: distinct histories in memory at a time.
      start: the model's states of B histories, from which the hypotheses of each lattice start; None: from nothing.
      normalizer: what `make_normalizer` made of the model; None: it is made for this call.
    """
    normalizer = normalizer or make_normalizer(model)
    word_cost = np.empty(len(words))
    final_cost = np.empty(len(word_offsets) - 1)
    evaluations = 0
    for begin, end in group_by_nodes(lattice_offsets, word_offsets, words, batch_tokens):
        first, last = lattice_offsets[begin], lattice_offsets[end]
        offsets = word_offsets[first : last + 1]
        inside = slice(offsets[0], offsets[-1])
        roots = None if start is None else np.repeat(np.arange(end - begin), np.diff(lattice_offsets[begin : end + 1]))
        tree = build_tree(offsets - offsets[0], words[inside], roots)
        edge, stop = _score_tree(model, normalizer, tree, start, begin)
        word_cost[inside] = edge[tree.node_of_word]
        final_cost[first:last] = stop[tree.end_node]
        evaluations += tree.num_nodes
    return SentenceCosts(word_cost, final_cost, evaluations)


def _score_tree(
    model: LanguageModel, normalizer: Normalizer, tree: PrefixTree, start: Any, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cost of the edge into each node, a root's 0, and of ending there, (num_nodes,) each.

    The tree's roots start from ``start[first]``, ``start[first + 1]``, ...; or from nothing.

    All levels are one call of the model, and all nodes one of the output layer, because products of large matrices are
    the fast ones.
    """
    device = model.output.bias.device
    roots = torch.arange(tree.num_nodes - sum(len(level.words) for level in tree.levels), device=device)
    before, rows = (model.start(1), roots) if start is None else (start, roots + first)
    below = [(torch.from_numpy(level.parents).to(device), torch.from_numpy(level.words).to(device))
             for level in tree.levels]  # fmt: skip
    hidden = model.advance_levels(before, [(rows, torch.full_like(roots, model.config.bos)), *below])
    above = [0, *(level.first for level in tree.levels[:-1])]
    parents = [level_parents + base for (level_parents, _), base in zip(below, above[: len(below)], strict=True)]
    words = [level_words for _, level_words in below]
    ends = torch.from_numpy(np.unique(tree.end_node)).to(device)
    rows, asked = torch.cat([*parents, ends]), torch.cat([*words, torch.full_like(ends, model.config.eos)])
    costs = -normalizer.logps(hidden, rows, asked).double().cpu().numpy()
    edges = tree.num_nodes - len(roots)
    stop = np.full(tree.num_nodes, np.inf)
    stop[ends.cpu().numpy()] = costs[edges:]
    return np.concatenate([np.zeros(len(roots)), costs[:edges]]), stop
