# SPDX-License-Identifier: Apache-2.0
"""Kaldi lattices as a k2 FsaVec, from which `k2_kaldi.to_kaldi` makes the same lattices again, bit for bit.

An FSA has the states of its lattice, also those that lie on no complete path: the start first, then the others in
their order (as in Kaldi's text form), then k2's final state. Arcs are in the lattice's order; a final weight is the
last arc of its state. What is not trim or sorted stays so: `k2.connect` and `k2.top_sort` come before k2's algorithms.

* ``labels`` are words (to intersect with a grammar); ``aux_labels`` are words too (what icefall's ``get_texts`` and
  k2's ``Nbest`` read), -1 on k2's final arcs;
* ``scores`` are ``-(graph_scale * graph + acoustic_scale * acoustic)`` in float32, ``lm_scores`` their graph part, so
  that ``scores - lm_scores`` is the acoustic part, as in icefall; an infinite cost is a score of -inf;
* ``graph_cost``, ``acoustic_cost``: float64, unscaled, smaller is better; ``tids``: ragged, transition-ids;
* ``kaldi_arc``: number of the arc in the batch, -1 for a final weight; ``kaldi_state``: number of the state in the
  batch that has this final weight, -1 for an arc; ``kaldi_lattice``: index in the batch;
* ``kaldi_keys``, ``kaldi_compact``, ``kaldi_start``: one element for each lattice of the batch.

All of it stays when k2 selects, sorts, prunes, connects and takes best paths; costs are added and lists joined where k2
removes epsilons. Composition keeps the attributes of both arguments that only one of them has.

Not here: what is computed with k2 (`lattice`). These two files are all of the package that imports k2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kaldi_mpq.errors import LatticeError
from kaldi_mpq.native import paths as native

if TYPE_CHECKING:
    import k2

    from kaldi_mpq.native import Lattices

__all__ = ["Ragged", "fsa_vec", "offsets_of", "to_fsas"]

_MAX = 2**31 - 1  # k2 numbers arcs in 32 bits
NOTHING = -1  # filler of the attributes that hold numbers of Kaldi's


class Ragged:
    """Lists of int32 as two arrays.

    Args:
      offsets: (N + 1), list i is ``values[offsets[i]:offsets[i + 1]]``.
      values: all lists, one after the other.
    """

    def __init__(self, offsets: NDArray[np.int64], values: NDArray[np.int32]) -> None:
        self.offsets = offsets
        self.values = values

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Return (N) how long the lists are."""
        return np.diff(self.offsets)

    def take(self, index: NDArray[np.int64]) -> Ragged:
        """Return some of the lists, in the order of ``index``; -1 stands for an empty one."""
        sizes = np.where(index >= 0, self.sizes[index], 0) if len(self.offsets) > 1 else np.zeros(len(index), np.int64)
        offsets = offsets_of(sizes)
        first = np.repeat(self.offsets[index] - offsets[:-1], sizes)
        return Ragged(offsets, self.values[first + np.arange(offsets[-1])])

    @staticmethod
    def concat(first: Ragged, second: Ragged) -> Ragged:
        """Return the lists of the first, then those of the second."""
        offsets = np.concatenate((first.offsets, second.offsets[1:] + first.offsets[-1]))
        return Ragged(offsets, np.concatenate((first.values, second.values)))


def offsets_of(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where pieces of these sizes begin, and where the last one ends."""
    return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))


def to_fsas(lattices: Lattices, acoustic_scale: float = 1.0, graph_scale: float = 1.0) -> k2.Fsa:
    """Return an FsaVec of all lattices of a batch, in their order; the module says what is in it.

    A lattice without a start state becomes an FSA without states.

    Raises:
      LatticeError: the batch is too large for k2's 32-bit numbers.
    """
    import torch

    native.require_finite(acoustic_scale=acoustic_scale, graph_scale=graph_scale)
    if max(lattices.num_arcs + lattices.num_states, len(lattices.arc_tids) + len(lattices.final_tids)) > _MAX:
        raise LatticeError("too many arcs or transition-ids in one batch for k2", expected="< 2^31")
    sizes = np.where(lattices.start >= 0, np.diff(lattices.state_offsets), 0)
    lattice_of_state = np.repeat(np.arange(len(lattices)), np.diff(lattices.state_offsets))
    states_before = offsets_of(sizes + (sizes > 0))
    local = _start_first(lattices, lattice_of_state)

    state_of_arc = np.repeat(np.arange(lattices.num_states), np.diff(lattices.arc_offsets))
    has_start = lattices.start[lattice_of_state] >= 0
    arcs = np.flatnonzero(has_start[state_of_arc])
    finals = np.flatnonzero(has_start & _has_final(lattices))
    states = np.concatenate((state_of_arc[arcs], finals))
    rows = states_before[lattice_of_state[states]] + local[states]
    order = np.argsort(rows, kind="stable")

    def merged(of_arcs: NDArray, of_finals: NDArray, dtype: type) -> NDArray:
        return np.concatenate((of_arcs, of_finals))[order].astype(dtype)

    nothing = np.full(len(finals), NOTHING)
    dest = lattices.state_offsets[lattice_of_state[state_of_arc[arcs]]] + lattices.arc_dest[arcs]
    word = merged(lattices.arc_word[arcs], nothing, np.int32)
    label = merged(np.maximum(lattices.arc_word[arcs], 0), nothing, np.int32)
    graph = merged(lattices.arc_graph[arcs], lattices.final_graph[finals], np.float64)
    acoustic = merged(lattices.arc_acoustic[arcs], lattices.final_acoustic[finals], np.float64)
    lm_score, score = _scores(graph, acoustic, graph_scale, acoustic_scale)
    fsas = fsa_vec(
        states_before,
        np.bincount(rows, minlength=states_before[-1]),
        local[states][order],
        merged(local[dest], sizes[lattice_of_state[finals]], np.int32),
        label,
        score,
    )
    fsas.aux_labels = torch.from_numpy(word)
    fsas.lm_scores = torch.from_numpy(lm_score)
    fsas.graph_cost, fsas.acoustic_cost = torch.from_numpy(graph), torch.from_numpy(acoustic)
    fsas.tids = _ragged_tensor(_tids(lattices).take(merged(arcs, lattices.num_arcs + finals, np.int64)))
    lattice = lattice_of_state[states]
    set_numbers(
        fsas,
        kaldi_arc=merged(arcs, nothing, np.int32),
        kaldi_state=merged(np.full(len(arcs), NOTHING), finals, np.int32),
        kaldi_lattice=lattice[order].astype(np.int32),
    )
    fsas.kaldi_keys = tuple(lattices.keys)
    fsas.kaldi_compact = tuple(lattices.compact.tolist())
    fsas.kaldi_start = tuple(lattices.start.tolist())
    return fsas


def fsa_vec(
    states_before: NDArray[np.int64],
    arcs_of_state: NDArray[np.int64],
    source: NDArray[np.int32],
    dest: NDArray[np.int32],
    label: NDArray[np.int32],
    score: NDArray[np.float32],
) -> k2.Fsa:
    """Return an FsaVec of S states and A arcs.

    Args:
      states_before: (F + 1), states of FSA f are ``states_before[f]:states_before[f + 1]``.
      arcs_of_state: (S), how many arcs leave each.
      source: (A), state number within the FSA; arcs are in the order of their states.
      dest: (A).
      label: (A), -1 exactly for arcs to the last state of an FSA.
      score: (A).
    """
    import k2
    import torch

    rows = torch.empty((len(label), 4), dtype=torch.int32)  # not from_numpy: without rows its strides would not be k2's
    for column, values in enumerate((source, dest, label, score.view(np.int32))):
        rows.numpy()[:, column] = values
    by_lattice, by_state = (
        k2.ragged.create_ragged_shape2(torch.from_numpy(splits.astype(np.int32)), None, int(splits[-1]))
        for splits in (states_before, offsets_of(arcs_of_state))
    )
    fsas = k2.Fsa(k2.fsa.RaggedArc(by_lattice.compose(by_state), rows))
    fsas.scores = torch.from_numpy(score)  # of one row, k2's index_select would refuse k2's own view of the rows
    return fsas


def set_numbers(fsas: k2.Fsa, **numbers: NDArray[np.int32]) -> None:
    """Give an FsaVec attributes of its arcs in which -1 says that there is none, also after operations of k2."""
    import torch

    for name, values in numbers.items():
        setattr(fsas, name, torch.from_numpy(values))
        setattr(fsas, f"{name}_filler", NOTHING)


def _ragged_tensor(lists: Ragged) -> k2.RaggedTensor:
    import k2
    import torch

    splits = torch.from_numpy(lists.offsets.astype(np.int32))
    shape = k2.ragged.create_ragged_shape2(splits, None, len(lists.values))
    return k2.RaggedTensor(shape, torch.from_numpy(np.ascontiguousarray(lists.values)))


def _tids(lattices: Lattices) -> Ragged:
    """Return the transition-ids of all arcs, then those of the final weights of all states."""
    return Ragged.concat(
        Ragged(lattices.arc_tid_offsets, lattices.arc_tids), Ragged(lattices.final_tid_offsets, lattices.final_tids)
    )


def _start_first(lattices: Lattices, lattice_of_state: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return (S) the number of each state in its FSA."""
    local = np.arange(lattices.num_states) - lattices.state_offsets[:-1][lattice_of_state]
    start = lattices.start[lattice_of_state]
    return np.where(local == start, 0, local + (local < start)).astype(np.int32)


def _has_final(lattices: Lattices) -> NDArray[np.bool_]:
    """Return (S) whether there is anything in a state's final weight; half-infinite weights are kept too."""
    nothing = np.isposinf(lattices.final_graph) & np.isposinf(lattices.final_acoustic)
    return ~nothing | (np.diff(lattices.final_tid_offsets) > 0)


def _scores(
    graph: NDArray[np.float64], acoustic: NDArray[np.float64], graph_scale: float, acoustic_scale: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the graph part of the scores and the whole scores; -inf for an arc that costs infinity or nonsense."""
    there = np.isfinite(graph) & np.isfinite(acoustic)
    lm_score = -graph_scale * np.where(there, graph, 0.0)
    score = np.where(there, lm_score - acoustic_scale * np.where(there, acoustic, 0.0), -np.inf)
    return lm_score.astype(np.float32), score.astype(np.float32)
