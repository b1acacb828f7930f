# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of rescoring: old language model out, new ones in, on the arcs of paths.

    g_out = g_in - w_old OLD + sum_k w_k NEW_k - rho |words|      for every complete path, the sentence end included

which with one new model and w_old = w is (g_in - OLD) + w NEW + (1 - w) OLD, as Kaldi's N-best scripts write it.
Acoustic costs are not touched. Not here: where the costs come from, and the weights (`fusion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kaldi_mpq.rescore.fusion import Fusion

__all__ = ["Costs", "combine", "cost_changes"]


class Costs(Protocol):
    """Costs of P sentences of W words in all: ``word`` (W,) and ``final`` (P,)."""

    @property
    def word(self) -> np.ndarray:
        """Return (W,) costs."""

    @property
    def final(self) -> np.ndarray:
        """Return (P,) costs."""


def cost_changes(fusion: Fusion, old: Costs, new: Sequence[Costs]) -> tuple[np.ndarray, np.ndarray]:
    """Return what is added to the graph cost of each word, (W,), and of each sentence's end, (P,).

    Args:
      old: costs of the language model inside the lattices.
      new: costs of each term of ``fusion``; those of a term with weight 0 do not count, be they infinite.
    """
    word = np.full(len(old.word), -fusion.word_bonus)
    final = np.zeros(len(old.final))
    weights = (-fusion.old_weight, *(term.weight for term in fusion.terms))
    for weight, costs in zip(weights, (old, *new), strict=True):
        if weight != 0.0:
            word += weight * costs.word
            final += weight * costs.final
    return word, final


def combine(
    arc_graph: np.ndarray, final_graph: np.ndarray, arc_has_word: np.ndarray, changes: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the new graph costs of every arc and final weight of P paths with X arcs and W words in all.

    Args:
      arc_graph: (X,) graph cost of each arc of each path.
      final_graph: (P,) graph cost of each path's final weight.
      arc_has_word: (X,) bool, W of them true.
      changes: what `cost_changes` returns; zeros return the input exactly.

    >>> combine(np.array([5.0, 1.0]), np.array([2.0]), np.array([True, False]),
    ...         (np.array([-1.0]), np.array([1.0])))
    (array([4., 1.]), array([3.]))
    """
    arcs = arc_graph.copy()
    arcs[arc_has_word] += changes[0]
    return arcs, final_graph + changes[1]
