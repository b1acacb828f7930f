# SPDX-License-Identifier: Apache-2.0
"""Best paths, n-best lists, posteriors and pruning of whole batches of lattices, in C++.

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
    "best_paths",
    "check",
    "forward_backward",
    "nbest",
    "path_lattices",
    "prune",
    "require_finite",
    "subset",
    "useful_states",
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
