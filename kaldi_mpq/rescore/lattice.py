# SPDX-License-Identifier: Apache-2.0
"""The few operations on lattices, by k2 or by native code, and lattices as the FsaVec that k2 computes with.

k2 holds a batch of lattices and computes best paths, posteriors and pruning where its wheel fits the installed torch;
`native` has the same functions with the same results to 1e-4 elsewhere. N-best lists are native with both: k2 1.23.4
has random paths and a single shortest one, no exact list. Determinization is native too: weights of k2 are single
numbers, those of Kaldi pairs with a string.

Not here: what is done with paths and posteriors, and conversion that loses nothing (`k2_fsas`, with which this is all
of the package that imports k2).
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kaldi_mpq.errors import ConfigError, LatticeError
from kaldi_mpq.native import paths as native
from kaldi_mpq.rescore.k2_fsas import fsa_vec, offsets_of, set_numbers

if TYPE_CHECKING:
    import k2

    from kaldi_mpq.native import Lattices

__all__ = ["BACKENDS", "K2Lattices", "LatticeOps", "lattice_ops", "to_k2"]

log = logging.getLogger(__name__)

BACKENDS = ("auto", "k2", "native")
WHEEL = "k2==1.23.4 with torch==1.13.1 and Python 3.10"


@dataclass(frozen=True)
class LatticeOps:
    """The operations of one backend; signatures and promises are those of `kaldi_mpq.native.paths`.

    Args:
      name: the backend and its version, for logs.
    """

    name: str
    best_paths: Callable[..., native.Paths]
    nbest: Callable[..., native.Paths]
    forward_backward: Callable[..., tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]
    prune: Callable[..., Lattices]

    def prune_by_posterior(
        self, lattices: Lattices, threshold: float, acoustic_scale: float, graph_scale: float = 1.0
    ) -> Lattices:
        """Return lattices of the arcs whose posterior is at least ``threshold``, and of the best path."""
        arc, final, _ = self.forward_backward(lattices, acoustic_scale, graph_scale)
        best = self.best_paths(lattices, acoustic_scale, graph_scale)
        return native.prune_by_posterior(lattices, threshold, best, arc, final)

    def word_confidences(
        self, lattices: Lattices, acoustic_scale: float, graph_scale: float = 1.0
    ) -> tuple[native.Paths, native.WordConfidences]:
        """Return the best paths, and times and confidences of their words."""
        best = self.best_paths(lattices, acoustic_scale, graph_scale)
        posterior = self.forward_backward(lattices, acoustic_scale, graph_scale)[0]
        return best, native.word_confidences(lattices, best, posterior)


@dataclass(frozen=True)
class K2Lattices:
    """The usable lattices of a batch as one FsaVec.

    Args:
      fsas: F FSAs, topologically sorted and trim. Labels are words, scores are minus costs (float32). Attribute
        ``kaldi_arc`` is the number of an arc in the batch, or -1: then the arc stands for the final weight of state
        ``kaldi_state`` of the batch, which is -1 for all others.
      index: (F) which lattice of the batch each FSA is; the others cannot be used.
    """

    fsas: k2.Fsa
    index: NDArray[np.int64]


@functools.cache
def lattice_ops(backend: str = "auto") -> LatticeOps:
    """Return the operations of a backend; which one it is goes to the log, once.

    Args:
      backend: one of `BACKENDS`; "auto" is k2 where it can be imported, else native.
    Raises:
      ConfigError: an unknown backend, or k2 is asked for and cannot be imported.
    """
    if backend not in BACKENDS:
        raise ConfigError("unknown lattice backend", expected=" | ".join(BACKENDS), found=backend)
    problem = "" if backend == "native" else _k2_problem()
    if backend == "k2" and problem:
        raise ConfigError(f"k2 cannot be used: {problem}", hint=f"install {WHEEL}, or choose the native backend")
    if backend == "native":
        ops = _native_ops("native")
    elif problem:
        ops = _native_ops(f"native: no k2 for this torch ({problem}), install {WHEEL} to have it")
    else:
        ops = LatticeOps(
            f"k2 {metadata.version('k2')}", _k2_best_paths, native.nbest, _k2_forward_backward, _k2_prune
        )
    log.info("lattice operations by %s", ops.name)
    return ops


def _k2_problem() -> str:
    """Return why k2 cannot be imported, or "" if it can. Its own check of the torch version raises ImportError."""
    try:
        importlib.import_module("k2")
    except (ImportError, OSError) as error:
        return str(error).strip().splitlines()[0]
    return ""


def _native_ops(name: str) -> LatticeOps:
    return LatticeOps(name, native.best_paths, native.nbest, native.forward_backward, native.prune)


def _k2_best_paths(
    lattices: Lattices, acoustic_scale: float, graph_scale: float = 1.0, word_penalty: float = 0.0
) -> native.Paths:
    import k2

    made = to_k2(lattices, acoustic_scale, graph_scale, word_penalty)
    if made is None:
        return native.best_paths(lattices, acoustic_scale, graph_scale, word_penalty)
    linear = k2.shortest_path(made.fsas, use_double_scores=True)
    arc, state = linear.kaldi_arc.numpy().astype(np.int64), linear.kaldi_state.numpy().astype(np.int64)
    final_state = state[arc < 0]  # one for each path, in order
    path = np.cumsum(arc < 0) - (arc < 0)
    arcs, path = arc[arc >= 0], path[arc >= 0]
    num_paths = len(final_state)
    has_path = np.zeros(len(lattices), np.int64)
    has_path[made.index] = 1
    return native.Paths(
        lattice_offsets=offsets_of(has_path),
        arc_offsets=offsets_of(np.bincount(path, minlength=num_paths)),
        arcs=arcs,
        final_state=final_state,
        graph=np.bincount(path, lattices.arc_graph[arcs], num_paths) + lattices.final_graph[final_state],
        acoustic=np.bincount(path, lattices.arc_acoustic[arcs], num_paths) + lattices.final_acoustic[final_state],
    )


def _k2_forward_backward(
    lattices: Lattices, acoustic_scale: float, graph_scale: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    total_logp = np.full(len(lattices), -np.inf)
    made = to_k2(lattices, acoustic_scale, graph_scale)
    if made is None:
        return np.zeros(lattices.num_arcs), np.zeros(lattices.num_states), total_logp
    posterior = made.fsas.get_arc_post(use_double_scores=True, log_semiring=True).exp().numpy()
    total_logp[made.index] = made.fsas.get_tot_scores(use_double_scores=True, log_semiring=True).numpy()
    return *_to_kaldi(lattices, made, posterior), total_logp


def _k2_prune(lattices: Lattices, beam: float, acoustic_scale: float, graph_scale: float = 1.0) -> Lattices:
    made = to_k2(lattices, acoustic_scale, graph_scale)
    if made is None or not beam >= 0:
        return native.prune(lattices, beam, acoustic_scale, graph_scale)
    # In the tropical semiring an arc's "posterior" is how far the best path through it is behind the best of all.
    behind = -made.fsas.get_arc_post(use_double_scores=True, log_semiring=False).numpy()
    return native.subset(lattices, *_to_kaldi(lattices, made, behind <= beam + 1e-9))


def _to_kaldi(lattices: Lattices, made: K2Lattices, values: NDArray) -> tuple[NDArray, NDArray]:
    """Return values of the FsaVec's arcs as values of the batch's arcs (A) and final weights (S), 0 for the others."""
    of_arcs, of_finals = np.zeros(lattices.num_arcs, values.dtype), np.zeros(lattices.num_states, values.dtype)
    arc, state = made.fsas.kaldi_arc.numpy(), made.fsas.kaldi_state.numpy()
    of_arcs[arc[arc >= 0]] = values[arc >= 0]
    of_finals[state[state >= 0]] = values[state >= 0]
    return of_arcs, of_finals


def to_k2(
    lattices: Lattices, acoustic_scale: float, graph_scale: float = 1.0, word_penalty: float = 0.0
) -> K2Lattices | None:
    """Return the usable lattices of a batch as an FsaVec; None if there are none.

    An arc's score is ``-(graph_scale * graph + acoustic_scale * acoustic + word_penalty if it has a word)``.

    Raises:
      LatticeError: the batch is too large for k2's 32-bit arc numbers.
    """
    native.require_finite(acoustic_scale=acoustic_scale, graph_scale=graph_scale, word_penalty=word_penalty)
    if lattices.num_arcs + lattices.num_states >= 2**31:
        raise LatticeError("too many arcs in one batch for k2", expected="< 2^31", found=lattices.num_arcs)
    offsets, states = native.useful_states(lattices)
    sizes = np.diff(offsets)
    index = np.flatnonzero(sizes)
    if len(index) == 0:
        return None
    arcs = _gather_arcs(lattices, offsets, states)
    cost = graph_scale * arcs.graph + acoustic_scale * arcs.acoustic + word_penalty * arcs.has_word
    # Each FSA has one more state than its lattice, which all final weights lead to and no arc leaves.
    states_before = offsets_of(sizes[index] + 1)
    row_of_state = np.arange(len(states)) + np.repeat(np.arange(len(index)), sizes[index])
    arcs_of_state = np.bincount(row_of_state[arcs.position], minlength=states_before[-1])
    score = (-cost).astype(np.float32)
    fsas = fsa_vec(states_before, arcs_of_state, arcs.source, arcs.dest, arcs.label, score)
    set_numbers(fsas, kaldi_arc=arcs.kaldi_arc, kaldi_state=arcs.kaldi_state)
    return K2Lattices(fsas, index)


@dataclass(frozen=True)
class _Arcs:
    """Arcs of all FSAs in the order of their source states, final weights among them; all arrays are parallel."""

    position: NDArray[np.int64]  # source state as an index into the useful states of the batch
    source: NDArray[np.int32]  # numbered within the FSA, like dest
    dest: NDArray[np.int32]
    label: NDArray[np.int32]
    has_word: NDArray[np.bool_]
    graph: NDArray[np.float64]
    acoustic: NDArray[np.float64]
    kaldi_arc: NDArray[np.int32]
    kaldi_state: NDArray[np.int32]


def _gather_arcs(lattices: Lattices, offsets: NDArray[np.int64], states: NDArray[np.int64]) -> _Arcs:
    sizes = np.diff(offsets)
    local = np.full(lattices.num_states, -1)  # state of the batch -> state of its FSA
    local[states] = np.arange(len(states)) - np.repeat(offsets[:-1], sizes)

    num_leaving = lattices.arc_offsets[states + 1] - lattices.arc_offsets[states]
    position = np.repeat(np.arange(len(states)), num_leaving)
    arc = np.arange(len(position)) + np.repeat(lattices.arc_offsets[states] - offsets_of(num_leaving)[:-1], num_leaving)
    real = np.isfinite(lattices.arc_graph[arc]) & np.isfinite(lattices.arc_acoustic[arc])
    position, arc = position[real], arc[real]
    first_state = np.repeat(lattices.state_offsets[:-1], sizes)  # of the lattice of each useful state
    dest = local[lattices.arc_dest[arc] + first_state[position]]
    position, arc, dest = position[dest >= 0], arc[dest >= 0], dest[dest >= 0]

    final = np.flatnonzero(np.isfinite(lattices.final_graph[states]) & np.isfinite(lattices.final_acoustic[states]))
    final_state, no_arc = states[final], np.full(len(final), -1)
    order = np.argsort(np.concatenate((position, final)), kind="stable")

    def merged(of_arcs: NDArray, of_finals: NDArray, dtype: type) -> NDArray:
        return np.concatenate((of_arcs, of_finals))[order].astype(dtype)

    word = lattices.arc_word[arc]
    return _Arcs(
        position=merged(position, final, np.int64),
        source=merged(local[states[position]], local[final_state], np.int32),
        dest=merged(dest, np.repeat(sizes, sizes)[final], np.int32),
        label=merged(np.maximum(word, 0), no_arc, np.int32),  # -1 is k2's; kaldi_arc still knows the word
        has_word=merged(word != 0, np.zeros(len(final)), np.bool_),
        graph=merged(lattices.arc_graph[arc], lattices.final_graph[final_state], np.float64),
        acoustic=merged(lattices.arc_acoustic[arc], lattices.final_acoustic[final_state], np.float64),
        kaldi_arc=merged(arc, no_arc, np.int32),
        kaldi_state=merged(np.full(len(arc), -1), final_state, np.int32),
    )
