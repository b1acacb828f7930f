# SPDX-License-Identifier: Apache-2.0
"""States of many histories in rows of fixed tensors, so that a search can keep some and drop others as it likes.

Not here: which history has which row (`rescore.automata`). Row 0 is the state before the sentence start is fed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kaldi_mpq.lm.lstm import LstmLm, LstmState
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.transformer import TransformerLm, TransformerState

__all__ = ["Arena", "make_arena"]


class Arena(ABC):
    """Rows that each hold what a model must keep of one history."""

    @abstractmethod
    def grow(self, num_rows: int) -> None:
        """Make it ``num_rows`` rows, at least as many as there are; what is in them stays."""

    @abstractmethod
    def referred(self, rows: Tensor) -> Tensor:
        """Return the rows that the states in (N,) rows cannot do without, these included."""

    @abstractmethod
    def advance(self, parents: Tensor, words: Tensor, rows: Tensor) -> Tensor:
        """Feed one word to each of N histories, and put the new states into rows.

        Args:
          parents: (N,) int64, rows of the histories that are extended.
          words: (N,) int64 word ids.
          rows: (N,) int64, distinct, none of them a parent.
        Returns:
          (N, E) hidden vectors.
        """

    @abstractmethod
    def rows_of(self, state: Any) -> int:
        """Return how many rows the model's state of one history takes; 0: row 0 is it."""

    @abstractmethod
    def put(self, state: Any, rows: Tensor) -> None:
        """Copy the model's state of one history into rows, ``rows_of`` many, the last of which then is that history."""


class LstmArena(Arena):
    """Hidden and cell vectors, (L, R, H) each."""

    def __init__(self, model: LstmLm, num_rows: int) -> None:
        self._model = model
        start = model.start(1)
        self._hidden, self._cell = _with_rows(start.hidden, num_rows), _with_rows(start.cell, num_rows)

    def grow(self, num_rows: int) -> None:
        """See Arena."""
        self._hidden, self._cell = _with_rows(self._hidden, num_rows), _with_rows(self._cell, num_rows)

    def referred(self, rows: Tensor) -> Tensor:
        """See Arena."""
        return rows

    def advance(self, parents: Tensor, words: Tensor, rows: Tensor) -> Tensor:
        """See Arena."""
        order = torch.argsort(parents)  # siblings side by side: what they share is computed once
        into = rows[order]
        hidden, state = self._model.advance(LstmState(self._hidden, self._cell), parents[order], words[order])
        self._hidden[:, into], self._cell[:, into] = state.hidden, state.cell
        return torch.empty_like(hidden).index_copy_(0, order, hidden)

    def rows_of(self, state: LstmState) -> int:
        """See Arena."""
        return state.hidden.shape[1]

    def put(self, state: LstmState, rows: Tensor) -> None:
        """See Arena."""
        self._hidden[:, rows], self._cell[:, rows] = state.hidden, state.cell


class TransformerArena(Arena):
    """Keys and values, (L, R, E) each, shared by all histories that begin alike; and which rows a history sees."""

    def __init__(self, model: TransformerLm, num_rows: int) -> None:
        self._model = model
        weight = model.output.bias
        self._keys = weight.new_empty(model.config.layers, num_rows, model.config.embedding_dim)
        self._values = torch.empty_like(self._keys)
        self._seen = torch.full((num_rows, 1), -1, dtype=torch.int64, device=weight.device)  # (R, T), the last is own
        self._length = torch.zeros(num_rows, dtype=torch.int64, device=weight.device)

    def grow(self, num_rows: int) -> None:
        """See Arena."""
        more = num_rows - len(self._length)
        self._keys, self._values = _with_rows(self._keys, num_rows), _with_rows(self._values, num_rows)
        self._seen = functional.pad(self._seen, (0, 0, 0, more), value=-1)
        self._length = functional.pad(self._length, (0, more))

    def referred(self, rows: Tensor) -> Tensor:
        """See Arena."""
        seen = self._seen[rows]
        return torch.cat([rows, seen[seen >= 0]])

    def advance(self, parents: Tensor, words: Tensor, rows: Tensor) -> Tensor:
        """See Arena."""
        length = self._length[parents] + 1
        longest = int(length.max())
        if longest > self._seen.shape[1]:
            self._seen = functional.pad(self._seen, (longest, 0), value=-1)
        seen = torch.cat([self._seen[parents, self._seen.shape[1] - longest + 1 :], rows[:, None]], dim=1)
        self._seen[rows] = functional.pad(seen, (self._seen.shape[1] - longest, 0), value=-1)
        self._length[rows] = length
        return self._model.step(self._keys, self._values, seen, words)

    def rows_of(self, state: TransformerState) -> int:
        """See Arena."""
        return int((state.rows >= 0).sum())

    def put(self, state: TransformerState, rows: Tensor) -> None:
        """See Arena."""
        read = state.rows[state.rows >= 0]
        self._keys[:, rows], self._values[:, rows] = state.keys[:, read], state.values[:, read]
        more = len(rows) - self._seen.shape[1]
        if more > 0:
            self._seen = functional.pad(self._seen, (more, 0), value=-1)
        self._seen[rows[-1]] = functional.pad(rows, (self._seen.shape[1] - len(rows), 0), value=-1)
        self._length[rows[-1]] = len(rows)


def make_arena(model: LanguageModel, num_rows: int) -> Arena:
    """Return an arena for a model's states, with rows of zeros."""
    return LstmArena(model, num_rows) if isinstance(model, LstmLm) else TransformerArena(model, num_rows)


def _with_rows(old: Tensor, num_rows: int) -> Tensor:
    """Return (L, R, E) rows, the first ones those of ``old``, the others of no meaning yet."""
    new = old.new_empty(old.shape[0], num_rows, old.shape[2])
    new[:, : old.shape[1]] = old
    return new
