# SPDX-License-Identifier: Apache-2.0
"""Best paths, n-best lists, posteriors, confidences, pruning and determinization of whole batches of lattices, in C++.

Not here: reading and writing (`native.archive`), and the choice between this module and k2 (`rescore.lattice`).

The cost of a path is ``graph_scale * graph + acoustic_scale * acoustic`` (+ ``word_penalty`` for each word), all in
float64, lower is better. States may come in any order, need not be reachable, and need not reach an end. An infinite
cost means that the arc or final weight is not there. A lattice in which `check` finds a fault of shape or cost (cyclic,
NaN, ...) has no paths here, zero posteriors, and becomes empty when pruned; it disturbs no other lattice.
Every function lets other Python threads run meanwhile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kaldi_mpq.errors import ConfigError, NumericalError
from kaldi_mpq.native import _paths

if TYPE_CHECKING:
    from kaldi_mpq.native import Lattices

__all__ = [
    "Paths",
    "WordConfidences",
    "best_paths",
    "check",
    "determinize",
    "forward_backward",
    "is_deterministic",
    "nbest",
    "path_lattices",
    "prune",
    "prune_by_posterior",
    "require_finite",
    "subset",
    "useful_states",
    "word_confidences",
]

_MAX_WORDS = 2**31 - 1


@dataclass(frozen=True)
class Paths:
    """Paths of B lattices, best first; P paths in all. Arcs and states are numbered as in the whole batch.

    Args:
      lattice_offsets: (B + 1), paths of lattice b are ``lattice_offsets[b]:lattice_offsets[b + 1]``.
      arc_offsets: (P + 1), arcs of path p are ``arcs[arc_offsets[p]:arc_offsets[p + 1]]``.
      arcs: int64, arc numbers in the order of the path.
      final_state: (P) int64, the state where a path ends.
      graph: (P) float64, total graph cost with the final one, unscaled.
      acoustic: (P) float64, total acoustic cost with the final one, unscaled.
    """

    lattice_offsets: NDArray[np.int64]
    arc_offsets: NDArray[np.int64]
    arcs: NDArray[np.int64]
    final_state: NDArray[np.int64]
    graph: NDArray[np.float64]
    acoustic: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of paths P."""
        return len(self.final_state)

    def words(self, lattices: Lattices) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return (word_offsets (P + 1), word ids) of the paths, without epsilons.

        Args:
          lattices: the batch that the paths were found in.
        """
        words = lattices.arc_word[self.arcs]
        is_word = words != 0
        words_before = np.concatenate(([0], np.cumsum(is_word, dtype=np.int64)))
        return words_before[self.arc_offsets], words[is_word]


@dataclass(frozen=True)
class WordConfidences:
    """How sure lattices are of the words of some paths; parallel to the word ids of ``Paths.words``, W of them.

    Args:
      begin_frame: (W) int32, counted in transition-ids from the start of the path.
      end_frame: (W) int32, the frame after the last.
      confidence: (W) float64, 0 to 1.
    """

    begin_frame: NDArray[np.int32]
    end_frame: NDArray[np.int32]
    confidence: NDArray[np.float64]


def best_paths(
    lattices: Lattices, acoustic_scale: float, graph_scale: float = 1.0, word_penalty: float = 0.0
) -> Paths:
    """Return the best path of each lattice (none of an unusable one); among equals it is always the same one.

    Args:
      word_penalty: cost added for each word when paths are compared; it is in no total of the result.
    """
    require_finite(acoustic_scale=acoustic_scale, graph_scale=graph_scale, word_penalty=word_penalty)
    return Paths(**_paths.shortest_paths(lattices, 1, acoustic_scale, graph_scale, word_penalty))


def nbest(lattices: Lattices, n: int, acoustic_scale: float, graph_scale: float = 1.0) -> Paths:
    """Return the n paths of lowest cost of each lattice, best first; all of them where there are fewer.

    The search is exact. Paths differ in their arcs; in a lattice that is not determinized they may share their words.

    Args:
      n: 1 or more.
    """
    require_finite(acoustic_scale=acoustic_scale, graph_scale=graph_scale)
    if n < 1:
        raise ConfigError("size of the n-best lists out of range", expected=">= 1", found=n)
    return Paths(**_paths.shortest_paths(lattices, n, acoustic_scale, graph_scale, 0.0))


def check(lattices: Lattices, num_words: int) -> list[str | None]:
    """Return for each lattice None if it can be used, else the reason why not, for people to read.

    Args:
      num_words: size of the vocabulary, epsilon included; word ids must be below.
    """
    return _paths.check(lattices, min(num_words, _MAX_WORDS))


def forward_backward(
    lattices: Lattices, acoustic_scale: float, graph_scale: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return posterior probabilities of arcs (A) and of final weights (S), and log total probability (B).

    The total is ``ln sum over paths of exp(-cost)``; -inf for an unusable lattice.
    """
    require_finite(acoustic_scale=acoustic_scale, graph_scale=graph_scale)
    return _paths.forward_backward(lattices, acoustic_scale, graph_scale)


def prune(lattices: Lattices, beam: float, acoustic_scale: float, graph_scale: float = 1.0) -> Lattices:
    """Return lattices of the arcs and final weights that lie on a path within ``beam`` of the best path.

    Costs are those of the input, unscaled. States are renumbered in topological order, the start is 0.

    Args:
      beam: difference of (scaled) costs, 0 or more; infinity only removes what lies on no complete path.
    """
    require_finite(acoustic_scale=acoustic_scale, graph_scale=graph_scale)
    if not beam >= 0:
        raise ConfigError("beam out of range", expected=">= 0", found=beam)
    return _rebuilt(lattices, _paths.prune(lattices, beam, acoustic_scale, graph_scale))


def prune_by_posterior(
    lattices: Lattices, threshold: float, best: Paths, arc_posterior: ArrayLike, final_posterior: ArrayLike
) -> Lattices:
    """Return lattices of the arcs and final weights whose posterior is at least ``threshold``, and of the best paths.

    States are renumbered as by `prune`. What lies on no complete path any more goes too.

    Args:
      threshold: 0 to 1.
      best: paths that stay whatever their posteriors are, so that no lattice becomes empty; see `best_paths`.
      arc_posterior: (A), see `forward_backward`.
      final_posterior: (S).
    """
    if not 0 <= threshold <= 1:
        raise ConfigError("posterior threshold out of range", expected="0 to 1", found=threshold)
    keep_arc, keep_final = np.asarray(arc_posterior) >= threshold, np.asarray(final_posterior) >= threshold
    keep_arc[best.arcs] = True
    keep_final[best.final_state] = True
    return subset(lattices, keep_arc, keep_final)


def word_confidences(lattices: Lattices, paths: Paths, arc_posterior: ArrayLike) -> WordConfidences:
    """Return the times and confidences of the words of paths.

    At every frame of a word's arc the posteriors of all arcs with that word there are added up; the largest of these
    sums is the confidence. When an arc begins and ends, its transition-ids say: for exact word times align the lattice
    first (Kaldi: lattice-align-words). An arc without any counts as one frame.

    Paper: Wessel et al., "Confidence measures for large vocabulary continuous speech recognition", 2001 (C_max).

    Args:
      paths: paths of `lattices`, the best ones or any others.
      arc_posterior: (A), see `forward_backward`.
    Raises:
      ValueError: the arguments do not fit together.
    """
    posterior = np.asarray(arc_posterior, np.float64)
    return WordConfidences(
        *_paths.word_confidences(lattices, paths.lattice_offsets, paths.arc_offsets, paths.arcs, posterior)
    )


def is_deterministic(lattices: Lattices) -> NDArray[np.bool_]:
    """Return (B) whether a lattice has at most one path for each word string, as Kaldi's decoders write it.

    That is: each of its arcs has a word, and no two that leave a state have the same. An unusable lattice is not.
    """
    return _paths.deterministic(lattices).view(bool)


def determinize(
    lattices: Lattices,
    acoustic_scale: float,
    graph_scale: float = 1.0,
    *,
    beam: float = math.inf,
    delta: float = 2**-10,
    max_arcs: int = 1_000_000,
    max_bytes: int = 512 << 20,
) -> tuple[Lattices, list[str | None]]:
    """Return CompactLattices with one path for each word string, and for each lattice None or why it is unchanged.

    Of the paths with the same words the best one stays: its costs and its transition-ids; which arc they are on may
    change, and no arc without a word is left. States are renumbered as by `prune`. A lattice that `is_deterministic`
    keeps its arcs. One that is unusable, or that would take more than the limits, goes through unchanged.

    Paper: Povey et al., "Generating exact lattices in the WFST framework", 2012; what Kaldi's lattice-determinize and
    lattice-determinize-pruned do.

    Args:
      beam: word strings whose best path is that much worse than the best of all are left out; others beyond it that
        are left by chance may have lost their best path. Without a beam the result can be exponentially large.
      delta: states are merged if what they owe differs by no more, in either cost unscaled; costs of paths may become
        wrong by that much for each word. float32 costs that were added up differ by about 2^-10.
      max_arcs: of each result.
      max_bytes: of memory for each lattice, roughly.
    """
    require_finite(acoustic_scale=acoustic_scale, graph_scale=graph_scale)
    if not (beam >= 0 and delta >= 0):
        raise ConfigError("beam or delta out of range", expected=">= 0", found=(beam, delta))
    ready = is_deterministic(lattices)
    rest = np.flatnonzero(~ready)
    arrays, reasons = _paths.determinize(
        lattices.select(rest), acoustic_scale, graph_scale, beam, delta, max_arcs, max_bytes
    )
    done = type(lattices).from_arrays(keys=[lattices.keys[i] for i in rest], **arrays)
    failed = {int(i): reason for i, reason in zip(rest, reasons) if reason}
    parts = [
        prune(lattices.select(np.flatnonzero(ready)), beam, acoustic_scale, graph_scale),
        prune(done, beam, acoustic_scale, graph_scale).select([i for i, reason in enumerate(reasons) if not reason]),
        lattices.select(list(failed)),
    ]
    parts[0].compact[:] = 1
    order = np.concatenate((np.flatnonzero(ready), [i for i in rest if i not in failed], list(failed))).argsort()
    return type(lattices).concat(parts).select(order), [failed.get(i) for i in range(len(lattices))]


def subset(lattices: Lattices, keep_arc: ArrayLike, keep_final: ArrayLike) -> Lattices:
    """Return lattices of some arcs and final weights, less those that then lie on no complete path.

    Args:
      keep_arc: (A) bool.
      keep_final: (S) bool, whether a state that is final stays so.
    """
    return _rebuilt(lattices, _paths.subset(lattices, _as_flags(keep_arc), _as_flags(keep_final)))


def useful_states(lattices: Lattices) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (offsets (B + 1), states): those on complete paths, numbered as in the batch, in topological order.

    The first state of each lattice is its start; an unusable lattice has none.
    """
    return _paths.useful_states(lattices)


def path_lattices(lattices: Lattices, paths: Paths, arc_graph: ArrayLike, final_graph: ArrayLike) -> Lattices:
    """Return for each lattice its paths as one CompactLattice in which paths share the arcs that they begin with.

    Words, transition-ids, acoustic costs and keys are those of the lattices, graph costs are new. States are in
    topological order. A lattice without paths becomes empty.

    Args:
      paths: paths of `lattices`, no two of a lattice with the same arcs.
      arc_graph: new graph cost of each element of ``paths.arcs``; equal where paths share a prefix.
      final_graph: (P) new graph cost of the end of each path.
    Raises:
      NumericalError: a graph cost is NaN or infinite.
      ValueError: the arguments do not fit together.
    """
    arc_graph, final_graph = np.asarray(arc_graph, np.float64), np.asarray(final_graph, np.float64)
    for name, costs in (("arc_graph", arc_graph), ("final_graph", final_graph)):
        if not np.isfinite(costs).all():
            raise NumericalError(f"{name} has a NaN or infinite cost", found=f"{(~np.isfinite(costs)).sum()} such")
    arrays = _paths.path_lattices(
        lattices, paths.lattice_offsets, paths.arc_offsets, paths.arcs, paths.final_state, arc_graph, final_graph
    )
    return _rebuilt(lattices, arrays)


def require_finite(**scales: float) -> None:
    """Raise ConfigError for the first of the named numbers that is NaN or infinite."""
    for name, value in scales.items():
        if not math.isfinite(value):
            raise ConfigError(f"{name} is not a finite number", found=value)


def _rebuilt(lattices: Lattices, arrays: dict[str, NDArray]) -> Lattices:
    return type(lattices).from_arrays(keys=list(lattices.keys), **arrays)


def _as_flags(flags: ArrayLike) -> NDArray[np.uint8]:
    return np.asarray(flags, bool).view(np.uint8)
