# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is while many conversations are rescored side by side, and what was said before.

Not here: who is in which conversation (`text.conversations`), what models keep of it (`lm.carried`), the searches
(`composition`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kaldi_mpq import native
from kaldi_mpq.lm.carried import Carried
from kaldi_mpq.rescore.automata import Automaton, Context

__all__ = ["Turns", "by_turn"]


class Turns:
    """The utterances of C conversations, each of which waits for the one before it.

    Args:
      conversations: of each the utterances, in the order in which they were spoken.
      contexts: what the conversations have left each automaton with that carries anything on.
      acoustic_scale: for choosing the best path of what was said.
    """

    def __init__(
        self, conversations: Sequence[Sequence[str]], contexts: Mapping[Automaton, Carried], acoustic_scale: float
    ) -> None:
        self._conversations = conversations
        self._contexts = contexts
        self._acoustic_scale = acoustic_scale
        self._row = {key: row for row, keys in enumerate(conversations) for key in keys}
        self._over = [0] * len(conversations)

    def is_next(self, key: str) -> bool:
        """Return whether everything before an utterance is over."""
        row = self._row[key]
        return self._conversations[row][self._over[row]] == key

    def context(self, key: str, most_words: int) -> Context:
        """Return what an utterance whose turn it is starts from.

        Args:
          most_words: of its paths.
        """
        row, room = np.array([self._row[key]]), np.array([most_words + 1])  # and the start symbol
        return {automaton: carried.states(row, room) for automaton, carried in self._contexts.items()}

    def say(self, lattices: native.Lattices) -> list[str]:
        """Add the best paths of rescored utterances to their conversations; return whose turn it is now.

        One without a path leaves its conversation as it was.
        """
        best = native.best_paths(lattices, self._acoustic_scale)
        offsets, words = best.words(lattices)
        spoken = np.flatnonzero(np.diff(best.lattice_offsets))
        if len(spoken):
            rows = np.array([self._row[lattices.keys[i]] for i in spoken])
            sentences = [words[offsets[path] : offsets[path + 1]] for path in range(len(best))]
            for carried in self._contexts.values():
                carried.feed(rows, sentences)
        return [key for before in lattices.keys for key in self.pass_over(before)]

    def pass_over(self, key: str) -> list[str]:
        """Return whose turn it is after an utterance that adds nothing to its conversation: one, or none."""
        row = self._row[key]
        if not self.is_next(key):
            raise AssertionError(("not its turn", key))
        self._over[row] += 1
        return list(self._conversations[row][self._over[row] : self._over[row] + 1])


def by_turn(conversations: Sequence[Sequence[str]]) -> list[str]:
    """Return the first utterance of every conversation, then the second ones, and so on."""
    turns = max(map(len, conversations), default=0)
    return [keys[turn] for turn in range(turns) for keys in conversations if len(keys) > turn]
