# SPDX-License-Identifier: Apache-2.0
"""A language model's costs for every word of many hypotheses, each distinct prefix evaluated once.

Not here: the tree (`prefix_tree`) and what is done with the costs (`combine`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.normalizer import next_word_logps
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
    model: LanguageModel, lattice_offsets: np.ndarray, word_offsets: np.ndarray, words: np.ndarray, batch_tokens: int
) -> SentenceCosts:
    """Return the model's costs of every word and sentence end of the hypotheses of B lattices.

    Args:
      lattice_offsets: (B + 1,) int64, which hypotheses are of which lattice.
      word_offsets: (P + 1,) int64, which words are of which hypothesis.
      words: (W,) word ids below the model's vocabulary size.
      batch_tokens: distinct histories in memory at a time.
    """
    word_cost = np.empty(len(words))
    final_cost = np.empty(len(word_offsets) - 1)
    evaluations = 0
    for begin, end in group_by_nodes(lattice_offsets, word_offsets, words, batch_tokens):
        first, last = lattice_offsets[begin], lattice_offsets[end]
        offsets = word_offsets[first : last + 1]
        inside = slice(offsets[0], offsets[-1])
        tree = build_tree(offsets - offsets[0], words[inside])
        edge, stop = _score_tree(model, tree)
        word_cost[inside] = edge[tree.node_of_word]
        final_cost[first:last] = stop[tree.end_node]
        evaluations += tree.num_nodes
    return SentenceCosts(word_cost, final_cost, evaluations)


def _score_tree(model: LanguageModel, tree: PrefixTree) -> tuple[np.ndarray, np.ndarray]:
    """Return the cost of the edge into each node, the root's 0, and of ending there, (num_nodes,) each.

    States advance level by level; the output layer then sees the hidden vectors of all nodes at once, because products
    of large matrices are the fast ones.
    """
    device = model.output.bias.device
    root = torch.zeros(1, dtype=torch.int64, device=device)
    hidden, state = model.advance(model.start(1), root, root + model.config.bos)
    hiddens, parents, words = [hidden], [], []
    above = 0
    for level in tree.levels:
        words.append(torch.from_numpy(level.words).to(device))
        hidden, state = model.advance(state, torch.from_numpy(level.parents).to(device), words[-1])
        hiddens.append(hidden)
        parents.append(torch.from_numpy(level.parents + above).to(device))
        above = level.first
    ends = torch.from_numpy(np.unique(tree.end_node)).to(device)
    rows, asked = torch.cat([*parents, ends]), torch.cat([*words, torch.full_like(ends, model.config.eos)])
    logps = next_word_logps(torch.cat(hiddens), rows, asked, model.output_weight, model.output.bias)
    costs = -logps.double().cpu().numpy()
    edges = tree.num_nodes - 1
    stop = np.full(tree.num_nodes, np.inf)
    stop[ends.cpu().numpy()] = costs[edges:]
    return np.concatenate([[0.0], costs[:edges]]), stop
