# SPDX-License-Identifier: Apache-2.0
"""What icefall hands in: the FsaVec of a CTC decoding graph and made-up network output."""

from __future__ import annotations

import itertools

import numpy as np

FRAMES = (6, 5)  # of the two utterances
# Words 1, 2 and 3 are spelled "1 2", "3" and "1"; 0 is the blank.
LEXICON = """0 0 1 3 0
0 0 3 2 0
0 1 1 1 0
0 2 -1 -1 0
1 0 2 0 0
2"""


def decode(ragged: bool = False, lm_scores: bool = True, seed: int = 1):
    """Return an FsaVec from ``k2.intersect_dense_pruned``: labels are tokens, ``aux_labels`` words.

    Args:
      ragged: ``aux_labels`` are lists of words, as after `k2.remove_epsilon`.
      lm_scores: with the attribute ``lm_scores``: -0.7 for an arc of the graph with a word, a part of ``scores``.
    """
    import k2
    import torch

    lexicon = k2.arc_sort(k2.Fsa.from_str(LEXICON, num_aux_labels=1))
    graph = k2.connect(k2.compose(k2.ctc_topo(3), lexicon))
    lm = -0.7 * (graph.aux_labels > 0).float() - 0.1 * (graph.labels == -1).float()
    graph.scores = graph.scores + lm
    if lm_scores:
        graph.lm_scores = lm
    if ragged:
        words = [[word] if word > 0 else [] for word in graph.aux_labels.tolist()]
        graph.aux_labels = k2.RaggedTensor(words, dtype=torch.int32)
    output = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, max(FRAMES), 4))).float().log_softmax(-1)
    segments = torch.tensor([[0, 0, FRAMES[0]], [1, 0, FRAMES[1]]], dtype=torch.int32)
    return k2.intersect_dense_pruned(graph, k2.DenseFsaVec(output, segments), 20.0, 8.0, 30, 10000)


def paths_of(fsa, lists) -> list[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """Every path of one FSA: its labels without the final -1, its words, its score; in no order.

    Args:
      lists: name of the attribute with words, whether a tensor or ragged.
    """
    rows, scores = fsa.arcs.values()[:, :3].tolist(), fsa.scores.tolist()
    attribute = getattr(fsa, lists).tolist()
    words = [[w for w in (entry if isinstance(entry, list) else [entry]) if w > 0] for entry in attribute]
    leaving = [list(arcs) for _, arcs in itertools.groupby(range(len(rows)), key=lambda arc: rows[arc][0])]
    by_state = {rows[arcs[0]][0]: arcs for arcs in leaving}
    found, open_paths = [], [((), (), 0.0, 0)]
    while open_paths:
        labels, said, score, state = open_paths.pop()
        for arc in by_state.get(state, []):
            step = (*said, *words[arc]), score + scores[arc]
            if rows[arc][2] == -1:
                found.append((labels, *step))
            else:
                open_paths.append(((*labels, rows[arc][2]), *step, rows[arc][1]))
    return found
