# SPDX-License-Identifier: Apache-2.0
"""Language models as deterministic automata, whose states are small numbers and which are read many words at a time.

An n-gram model's states are its histories. A neural model's are words and a hidden state; histories whose last words
agree are one state, with the hidden state of whichever was met first, as Kaldi does. Each search owns its states, so
that its output does not depend on what is searched beside it; only short histories, which are never merged with any
other, are shared by all, unless something was said before them.

Not here: the search (`native.search`), and what is asked of the models (`rescore.composition`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.native import OldLm
from kaldi_mpq.native.search import END, RowTable
from kaldi_mpq.rescore.state_rows import StateRows

__all__ = ["Automaton", "NeuralAutomaton", "NgramAutomaton", "WeightedSum"]

Ints = NDArray[np.int32]
Costs = NDArray[np.float32]

_SHARED = -1  # owner of the states that all searches share
_SHARED_WORDS = 2  # histories of at most so many words are shared
_FIRST_STATES = 1024

Context = Mapping["Automaton", Any]  # what earlier utterances have left models with, if that means anything to them


class Automaton(Protocol):
    """A language model with numbered states. Costs are -ln p; the states of an owner are valid until it is released."""

    def start(self, owner: int, context: Context | None = None) -> int:
        """Return the state before the first word.

        Args:
          context: the model's own state, of one history, from before the sentence start; None or absent: nothing was
            said before. States that follow from it are the owner's alone.
        """

    def read(self, owners: Ints, states: Ints, words: Ints) -> tuple[Ints, Costs]:
        """Return (N,) states after N words, and (N,) float32 costs, infinite for words that the model lacks.

        Args:
          owners, states: (N,), who asks, and its states.
          words: (N,), word ids, or -1 for the sentence end, after which no state is of any meaning.
        """

    def release(self, owner: int) -> None:
        """Forget the states of an owner."""


class NgramAutomaton:
    """G.fst, G.carpa or ARPA.

    Args:
      reading: of G.fst, see `OldLm.score`.
    """

    def __init__(self, lm: OldLm, reading: str = "backoff") -> None:
        self._lm = lm
        self._reading = reading
        self._start = lm.initial(reading)[None, :]
        self._table = RowTable(self._start.shape[1])

    def start(self, owner: int, context: Context | None = None) -> int:
        """See Automaton; an n-gram knows no sentence but its own."""
        return int(self._table.intern(np.array([owner], np.int32), self._start)[0][0])

    def read(self, owners: Ints, states: Ints, words: Ints) -> tuple[Ints, Costs]:
        """See Automaton."""
        rows, costs = self._lm.advance(self._table.rows(states), words, self._reading)
        return self._table.intern(owners, rows)[0], costs.astype(np.float32)

    def release(self, owner: int) -> None:
        """See Automaton."""
        self._table.release(owner)


class NeuralAutomaton:
    """An LSTM or Transformer language model; a history is evaluated when something is first read after it.

    Its state is in memory as long as there is room. One that was given up is evaluated again when it is wanted.

    Args:
      model: in evaluation mode.
      order: histories whose last ``order - 1`` words agree, the sentence start being one, are one state; 0 or less:
        none are.
      normalize: see `make_normalizer`.
      max_rows: histories whose states are in memory; more only if so many are read at a time.
    """

    def __init__(self, model: LanguageModel, order: int, normalize: bool = True, max_rows: int = 32768) -> None:
        self._model = model
        self._order = order
        self._most_shared = max_rows // 2  # short histories that are shared are never forgotten
        self._num_shared = 0
        self._memory = StateRows(model, normalize, max_rows)
        self._width = max(order - 1, 1) if order > 0 else 2
        self._table = RowTable(self._width)
        self._row, self._parent, self._word, self._depth = (np.zeros(0, np.int64) for _ in range(4))
        self._is_known = np.zeros(0, bool)
        self.histories = 0  # that have been evaluated and not released
        self.evaluations = 0

    @property
    def model(self) -> LanguageModel:
        """The language model."""
        return self._model

    @property
    def rows(self) -> int:
        """Histories whose states are in memory."""
        return self._memory.held

    @torch.inference_mode()
    def start(self, owner: int, context: Context | None = None) -> int:
        """See Automaton."""
        before = None if context is None else context.get(self)
        ids, is_new = self._intern_symbols(_SHARED if before is None else owner, np.array([self._model.config.bos]))
        if is_new[0]:
            parent, depth = (-1, 0) if before is None else (self._put(owner, before), _SHARED_WORDS + 1)
            self._describe(ids, np.array([parent]), np.array([self._model.config.bos]), np.array([depth]))
        return int(ids[0])

    @torch.inference_mode()
    def read(self, owners: Ints, states: Ints, words: Ints) -> tuple[Ints, Costs]:
        """See Automaton."""
        self._evaluate(np.unique(states))
        asked = np.where(words == END, self._model.config.eos, words).astype(np.int64)
        costs = self._memory.costs(self._row[states], asked)
        after = words != END
        following = np.zeros(len(words), np.int32)
        following[after] = self._extend(owners[after], states[after], words[after])
        return following, costs

    def release(self, owner: int) -> None:
        """See Automaton."""
        ids = self._table.release(owner)
        rows = self._row[ids]
        self._memory.free(rows[rows >= 0])
        self._row[ids] = -1
        self.histories -= int(self._is_known[ids].sum())
        self._is_known[ids] = False

    def _intern_symbols(self, owner: int, symbols: np.ndarray) -> tuple[Ints, np.ndarray]:
        """Return the numbers of histories that are one symbol each, and which are new."""
        rows = np.full((len(symbols), self._width), -1)
        rows[:, -1] = symbols
        return self._table.intern(np.full(len(symbols), owner, np.int32), rows)

    def _put(self, owner: int, state: Any) -> int:
        """Return the number of a model's state, which is the owner's from now on; -1: it is that before the start."""
        count = self._memory.rows_of(state)
        if count == 0:
            return -1
        ids, _ = self._intern_symbols(owner, -2 - np.arange(count))  # no word, and not the -1 of what is not there
        zeros = np.zeros(count, np.int64)
        self._describe(ids, zeros - 1, zeros, zeros)
        self._memory.begin_round()
        self._memory.put(state, self._take_rows(ids))
        return int(ids[-1])

    def _extend(self, owners: Ints, states: Ints, words: Ints) -> Ints:
        """Return the states after words, new ones described but not evaluated."""
        depths = self._depth[states] + 1
        if self._order > 1:
            rows = np.concatenate([self._table.rows(states)[:, 1:], words[:, None].astype(np.int64)], axis=1)
        elif self._order == 1:
            rows = np.full((len(words), 1), -1)
        else:
            rows = np.stack([states, words], axis=1).astype(np.int64)
        whole = self._order <= 0 or self._order > 1  # a history of so few words is all that there is of it
        limit = min(_SHARED_WORDS, self._order - 2) if self._order > 0 else _SHARED_WORDS
        owners = self._owners(owners, rows, whole & (depths <= limit))
        ids, is_new = self._table.intern(owners, rows)
        self._num_shared += int((owners[is_new] == _SHARED).sum())
        self._describe(ids[is_new], states[is_new], words[is_new], depths[is_new])
        return ids

    def _owners(self, owners: Ints, rows: np.ndarray, sharable: np.ndarray) -> Ints:
        """Return who owns rows: those that are sharable all together, but no more of these once there are many."""
        if self._num_shared >= self._most_shared:
            sharable = sharable.copy()
            sharable[sharable] = self._table.find(_SHARED, rows[sharable]) >= 0
        return np.where(sharable, np.int32(_SHARED), owners)

    def _describe(self, ids: Ints, parents: np.ndarray, words: np.ndarray, depths: np.ndarray) -> None:
        more = self._table.capacity - len(self._row)
        if more > 0:
            more = max(more, len(self._row), _FIRST_STATES)
            columns = (self._row, self._parent, self._word, self._depth)
            grown = (np.concatenate([column, np.full(more, -1)]) for column in columns)
            self._row, self._parent, self._word, self._depth = grown
            self._is_known = np.concatenate([self._is_known, np.zeros(more, bool)])
        self._row[ids] = -1
        self._parent[ids], self._word[ids], self._depth[ids] = parents, words, depths

    def _evaluate(self, ids: np.ndarray) -> None:
        """Put the states of histories into memory, those first that they extend and that have been given up."""
        self._memory.begin_round()
        levels, wanted = [], ids
        while len(wanted):
            rows = self._row[wanted]
            self._memory.use(rows[rows >= 0])
            levels.append(wanted[rows < 0])
            parents = self._parent[levels[-1]]
            wanted = np.unique(parents[parents >= 0])
        for level in reversed(levels):
            self._run(level[self._row[level] < 0])

    def _run(self, ids: np.ndarray) -> None:
        """Run the model on histories; the states of those that they extend are in memory."""
        if len(ids) == 0:
            return
        rows = self._take_rows(ids)
        parents = self._parent[ids]
        self._memory.advance(np.where(parents >= 0, self._row[parents], 0), self._word[ids], rows)
        self.evaluations += len(ids)

    def _take_rows(self, ids: np.ndarray) -> np.ndarray:
        """Return rows for histories, which have them from now on."""
        rows, given_up = self._memory.take(ids.astype(np.int64))
        self._row[given_up] = -1
        self._row[ids] = rows
        self.histories += int((~self._is_known[ids]).sum())
        self._is_known[ids] = True
        return rows


class WeightedSum:
    """Several automata read side by side; costs are weighted and added.

    Args:
      terms: automata and their weights, negative for a model that is taken out. A word that one of them lacks has no
        cost at all.
      word_cost: added for every word, the sentence end excepted.
    """

    def __init__(self, terms: Sequence[tuple[Automaton, float]], word_cost: float = 0.0) -> None:
        self._terms = [(automaton, np.float32(weight)) for automaton, weight in terms if weight != 0.0]
        self._word_cost = np.float32(word_cost)
        self._table = RowTable(max(len(self._terms), 1))

    def start(self, owner: int, context: Context | None = None) -> int:
        """See Automaton."""
        rows = np.array([[automaton.start(owner, context) for automaton, _ in self._terms] or [0]], np.int64)
        return int(self._table.intern(np.array([owner], np.int32), rows)[0][0])

    def read(self, owners: Ints, states: Ints, words: Ints) -> tuple[Ints, Costs]:
        """See Automaton."""
        rows = self._table.rows(states)
        costs = np.where(words == END, np.float32(0.0), self._word_cost)
        for k, (automaton, weight) in enumerate(self._terms):
            rows[:, k], own = automaton.read(owners, rows[:, k].astype(np.int32), words)
            possible = np.isfinite(own)
            costs = np.where(possible, costs + weight * np.where(possible, own, np.float32(0.0)), np.float32(np.inf))
        following = np.zeros(len(words), np.int32)
        goes_on = (words != END) & np.isfinite(costs)
        following[goes_on] = self._table.intern(owners[goes_on], rows[goes_on])[0]
        return following, costs

    def release(self, owner: int) -> None:
        """See Automaton."""
        for automaton, _ in self._terms:
            automaton.release(owner)
        self._table.release(owner)
