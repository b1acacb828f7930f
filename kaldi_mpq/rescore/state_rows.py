# SPDX-License-Identifier: Apache-2.0
"""Rows of memory for the states of histories: so many and no more, those that nobody has read for longest given up.

Not here: what a state is (`lm.arena`), which history it belongs to, and how one that was given up is computed again
(`rescore.automata`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kaldi_mpq.lm.arena import make_arena
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.normalizer import make_normalizer

__all__ = ["StateRows"]

Rows = NDArray[np.int64]

_KEPT = np.iinfo(np.int64).max  # a use so late that nothing is given up before it
_GIVEN_UP = 8  # at a time, an eighth of the rows


class StateRows:
    """R rows, each with the state of a history, its hidden vector and the logarithm of its normaliser.

    Row 0 is the state before the sentence start. A row that another one's state refers to is never given up before it.

    Args:
      model: in evaluation mode.
      normalize: see `make_normalizer`.
      limit: R, unless more are needed at a time. Memory that no row has used yet is not taken from the system.
    """

    def __init__(self, model: LanguageModel, normalize: bool, limit: int) -> None:
        self._output = make_normalizer(model, normalize)
        weight = model.output.bias
        self._device = weight.device
        self._arena = make_arena(model, limit + 1)
        self._hidden = weight.new_empty(limit + 1, model.config.embedding_dim)
        self._log_sums = weight.new_empty(limit + 1)
        self._owner = np.full(limit + 1, -1)  # the history that a row belongs to
        self._used = np.full(limit + 1, -1)  # the round in which it was last read
        self._used[0] = _KEPT
        self._free = np.arange(limit, 0, -1)
        self._round = 0

    @property
    def held(self) -> int:
        """Rows that histories have."""
        return len(self._owner) - 1 - len(self._free)

    def begin_round(self) -> None:
        """From here on, rows that are used are not given up until the next round."""
        self._round += 1

    def use(self, rows: Rows) -> None:
        """Note that rows are read in this round, and so those that their states refer to."""
        rows = self._arena.referred(torch.from_numpy(rows).to(self._device)).cpu().numpy()
        self._used[rows] = np.maximum(self._used[rows], self._round)

    def take(self, histories: Rows) -> tuple[Rows, Rows]:
        """Return rows for histories, and the histories whose rows were given up for it."""
        missing = len(histories) - len(self._free)
        given_up = self._give_up(missing) if missing > 0 else histories[:0]
        rows, self._free = self._free[-len(histories) :].copy(), self._free[: -len(histories)]
        self._owner[rows], self._used[rows] = histories, self._round
        return rows, given_up

    def free(self, rows: Rows) -> None:
        """Take rows back."""
        self._owner[rows] = self._used[rows] = -1
        self._free = np.concatenate([self._free, rows])

    def advance(self, parents: Rows, words: Rows, rows: Rows) -> None:
        """Compute the states after words, and put them into rows; see `Arena.advance`."""
        into = torch.from_numpy(rows).to(self._device)
        hidden = self._arena.advance(
            torch.from_numpy(parents).to(self._device), torch.from_numpy(words).to(self._device), into
        )
        self._hidden[into] = hidden
        self._log_sums[into] = self._output.log_normalizer(hidden)

    def put(self, state: object, rows: Rows) -> None:
        """Copy a model's own state of one history into rows, which are not given up; see `Arena.put`."""
        self._arena.put(state, torch.from_numpy(rows).to(self._device))
        self._used[rows] = _KEPT

    def rows_of(self, state: object) -> int:
        """See `Arena.rows_of`."""
        return self._arena.rows_of(state)

    def costs(self, rows: Rows, words: Rows) -> NDArray[np.float32]:
        """Return (N,) float32 -ln p of words after the histories in rows."""
        at, asked = (torch.from_numpy(values).to(self._device) for values in (rows, words))
        return (self._log_sums[at] - self._output.logits(self._hidden, at, asked)).cpu().numpy()

    def _give_up(self, needed: int) -> Rows:
        """Free at least that many rows, more if more are used in this round; return the histories that had them."""
        old = np.flatnonzero((self._used >= 0) & (self._used < self._round))
        count = min(max(needed, len(self._used) // _GIVEN_UP), len(old))
        if count:
            uses = self._used[old]
            old = old[uses <= np.partition(uses, count - 1)[count - 1]]  # all or none of a round: see the class
        histories = self._owner[old]
        self.free(old)
        if needed > len(old):
            self._grow(needed - len(old))
        return histories

    def _grow(self, more: int) -> None:
        before = len(self._owner)
        after = before + max(more, before // _GIVEN_UP)
        self._arena.grow(after)
        self._hidden, self._log_sums = _grown(self._hidden, after), _grown(self._log_sums, after)
        self._owner, self._used = (
            np.concatenate([column, np.full(after - before, -1)]) for column in (self._owner, self._used)
        )
        self._free = np.concatenate([np.arange(after - 1, before - 1, -1), self._free])


def _grown(rows: Tensor, count: int) -> Tensor:
    more = rows.new_empty(count, *rows.shape[1:])
    more[: len(rows)] = rows
    return more
