# SPDX-License-Identifier: Apache-2.0
"""Lattices read from their end. Not here: what reads them (backward language models)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from kaldi_mpq.native import Lattices

__all__ = ["reverse"]


def reverse(lattices: Lattices) -> Lattices:
    """Return lattices whose paths are those given, last arc first; transition-ids are reversed too.

    State s becomes s + 1. The new start, 0, leads by an epsilon arc to every state that was final, with its weight; the
    old start is the only final state. So two reversals give back every path with an epsilon arc at both ends.
    """
    from kaldi_mpq.native import Lattices

    sizes = np.diff(lattices.state_offsets)
    is_there = (lattices.start >= 0).astype(np.int64)
    owner_of_state = np.repeat(np.arange(len(lattices)), sizes)
    local = np.arange(lattices.num_states) - lattices.state_offsets[:-1][owner_of_state]
    source_state = np.repeat(np.arange(lattices.num_states), np.diff(lattices.arc_offsets))
    final_state = np.flatnonzero(np.isfinite(lattices.final_graph) & np.isfinite(lattices.final_acoustic))
    owner = np.concatenate([owner_of_state[source_state], owner_of_state[final_state]])
    kept = is_there[owner] > 0

    def both(of_arcs: NDArray, of_finals: NDArray) -> NDArray:
        return np.concatenate([of_arcs, of_finals])[order]

    new_offsets = _offsets((sizes + 1) * is_there)
    new_source = np.concatenate([lattices.arc_dest.astype(np.int64) + 1, np.zeros(len(final_state), np.int64)])
    new_source += new_offsets[:-1][owner]
    order = np.flatnonzero(kept)
    order = order[np.argsort(new_source[order], kind="stable")]
    final_begin = lattices.final_tid_offsets[final_state] + len(lattices.arc_tids)
    tid_offsets, tids = _reversed_strings(
        np.concatenate([lattices.arc_tid_offsets[:-1], final_begin]),
        np.concatenate([np.diff(lattices.arc_tid_offsets), np.diff(lattices.final_tid_offsets)[final_state]]),
        np.concatenate([lattices.arc_tids, lattices.final_tids]),
        order,
    )
    count = int(new_offsets[-1])
    final = np.full(count, np.inf)
    final[(new_offsets[:-1] + lattices.start + 1)[is_there > 0]] = 0.0
    return Lattices.from_arrays(
        keys=lattices.keys,
        compact=lattices.compact,
        start=np.where(is_there > 0, 0, -1).astype(np.int32),
        state_offsets=new_offsets,
        arc_offsets=_offsets(np.bincount(new_source[order], minlength=count)),
        final_graph=final,
        final_acoustic=final.copy(),
        final_tid_offsets=np.zeros(count + 1, np.int64),
        final_tids=np.empty(0, np.int32),
        arc_word=both(lattices.arc_word, np.zeros(len(final_state), np.int32)),
        arc_dest=both(local[source_state] + 1, local[final_state] + 1).astype(np.int32),
        arc_graph=both(lattices.arc_graph, lattices.final_graph[final_state]),
        arc_acoustic=both(lattices.arc_acoustic, lattices.final_acoustic[final_state]),
        arc_tid_offsets=tid_offsets,
        arc_tids=tids,
    )


def _reversed_strings(
    begin: NDArray, length: NDArray, tids: NDArray, order: NDArray
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return (offsets, values) of the strings ``tids[begin : begin + length]`` in an order, each from its end."""
    begin, length = begin[order], length[order]
    offsets = _offsets(length)
    last = np.repeat(begin + length - 1, length)
    return offsets, tids[last - (np.arange(offsets[-1]) - np.repeat(offsets[:-1], length))].astype(np.int32)


def _offsets(counts: NDArray) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
