# SPDX-License-Identifier: Apache-2.0
"""Pruned composition of many lattices with a language model that answers questions, and numbers for its states.

A search never calls the model. It says what it must know to go on, ``(model state, word)``, and goes on when told, so
that one batch of the model answers the questions of all lattices that are being searched.

Not here: the models (`rescore.automata`) and the loop that asks and answers (`rescore.composition`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.native import _search

if TYPE_CHECKING:
    from kaldi_mpq.native import Lattices

__all__ = ["END", "Questions", "RowTable", "Searches"]

END = -1  # stands for the sentence end where a word is expected


@dataclass(frozen=True)
class Questions:
    """What the searches must know to go on; N questions.

    Args:
      owners: (N,) int32, the search that asks.
      states: (N,) int32, a state of the model.
      words: (N,) int32, a word read there, or `END`.
    """

    owners: NDArray[np.int32]
    states: NDArray[np.int32]
    words: NDArray[np.int32]

    def __len__(self) -> int:
        """Return N."""
        return len(self.owners)


class Searches:
    """Lattices that are being composed with a model, best first, side by side.

    Args:
      acoustic_scale: for comparing paths; what comes out has the lattice's own scale. Above 0.
      beam: arcs whose expected cost is further behind the best complete path, in scaled costs, are left out.
      max_arcs: of an output, once there is a complete path.
      growth: of an output from one recomputation of all expected costs to the next; above 1.
      frontier: questions that a search asks at a time, once it has a complete path. With 1, outputs are those of
        Kaldi's ``ComposeCompactLatticePruned``; with more, arcs near the beam may differ.
    Raises:
      ConfigError: a value out of range.
    """

    def __init__(
        self, acoustic_scale: float, beam: float, max_arcs: int = 100_000, growth: float = 1.5, frontier: int = 1
    ) -> None:
        for name, value, good in (
            ("acoustic_scale", acoustic_scale, 0 < acoustic_scale < math.inf),
            ("beam", beam, beam >= 0),
            ("max_arcs", max_arcs, max_arcs >= 1),
            ("growth", growth, 1 < growth < math.inf),
            ("frontier", frontier, frontier >= 1),
        ):
            if not good:
                raise ConfigError(f"{name} of the search out of range", found=value)
        self._searches = _search.Searches(acoustic_scale, beam, max_arcs, growth, frontier)

    @property
    def num_arcs(self) -> int:
        """Arcs that all searches have made."""
        return self._searches.num_arcs

    @staticmethod
    def batch(lattices: Lattices) -> Any:
        """Return lattices in the form that `add` takes; made once for all lattices of a batch."""
        return _search.Batch(lattices)

    def add(self, number: int, batch: Any, index: int, start: int) -> None:
        """Begin to search a lattice.

        Args:
          number: the search's, of the caller's choice; it is free again after `take`. Small numbers are best.
          batch: see `batch`. Lattices are trimmed and topologically sorted, as ``native.prune(lattices, inf, 1)``
            leaves them.
          index: which lattice.
          start: the model's state before the first word.
        Raises:
          ValueError: the lattice is not sorted, or has states that lie on no complete path; or the number is taken.
        """
        self._searches.add(number, batch, index, start)

    def ask(self, numbers: Sequence[int]) -> Questions:
        """Let some searches go on as far as they can, and return what they must know next; none when they are over.

        Args:
          numbers: of the searches; the others wait.
        """
        return Questions(*self._searches.ask(list(numbers)))

    def answer(self, next_states: NDArray[np.int32], costs: NDArray[np.float32]) -> None:
        """Answer the questions of the last `ask`, all of them, in their order.

        Args:
          next_states: (N,) the model's states after the words; of no meaning after `END`.
          costs: (N,) what is added to graph costs; infinity: the model has no such word.
        """
        self._searches.answer(next_states, costs)

    def done(self) -> list[int]:
        """Return the numbers of the searches that are over."""
        return self._searches.done()

    def take(self, numbers: Sequence[int], keys: Sequence[str]) -> Lattices:
        """Return the outputs of searches that are over, under the keys given; an empty lattice where the model allows
        no path."""
        from kaldi_mpq.native import Lattices

        return Lattices.from_arrays(keys=list(keys), **self._searches.take(list(numbers)))


class RowTable:
    """Small numbers for rows of integers: equal rows of one owner have one number.

    Args:
      width: integers in a row, 1 or more.
    """

    def __init__(self, width: int) -> None:
        self._table = _search.RowTable(width)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._table)

    @property
    def capacity(self) -> int:
        """Numbers are below this."""
        return self._table.capacity

    def intern(self, owners: NDArray[np.int32], rows: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return (N,) numbers of the (N, width) rows of (N,) owners, and which of them were not there before."""
        return self._table.intern(owners, rows)

    def find(self, owner: int, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return (N,) numbers of the (N, width) rows of one owner; -1: it has no such row."""
        return self._table.find(owner, rows)

    def rows(self, numbers: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the (N, width) rows behind (N,) numbers."""
        return self._table.rows(numbers)

    def release(self, owner: int) -> NDArray[np.int32]:
        """Forget the rows of an owner and return their numbers, which will be given out again."""
        return self._table.release(owner)
