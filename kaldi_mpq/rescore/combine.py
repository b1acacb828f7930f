# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of rescoring: old language model out, new one in, on the arcs of paths.

    g_out = g_in - w OLD + w NEW      for every complete path, the sentence end included

which is (g_in - OLD) + w NEW + (1 - w) OLD, as Kaldi's N-best scripts write it. Acoustic costs are not touched.
Not here: where the costs come from.
"""

from __future__ import annotations

import numpy as np

__all__ = ["combine"]


def combine(
    arc_graph: np.ndarray,
    final_graph: np.ndarray,
    arc_has_word: np.ndarray,
    old: tuple[np.ndarray, np.ndarray],
    new: tuple[np.ndarray, np.ndarray],
    weight: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the new graph costs of every arc and final weight of P paths with X arcs and W words in all.

    Args:
      arc_graph: (X,) graph cost of each arc of each path.
      final_graph: (P,) graph cost of each path's final weight.
      arc_has_word: (X,) bool, W of them true.
      old, new: (W,) word costs and (P,) sentence-end costs of the two language models.
      weight: w in 0..1; 0 returns the input exactly.

    >>> combine(np.array([5.0, 1.0]), np.array([2.0]), np.array([True, False]),
    ...         (np.array([4.0]), np.array([1.0])), (np.array([2.0]), np.array([3.0])), 0.5)
    (array([4., 1.]), array([3.]))
    """
    if weight == 0.0:
        return arc_graph.copy(), final_graph.copy()
    arcs = arc_graph.copy()
    arcs[arc_has_word] += weight * (new[0] - old[0])
    return arcs, final_graph + weight * (new[1] - old[1])
