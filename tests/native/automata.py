# SPDX-License-Identifier: Apache-2.0
"""Deterministic language models for tests of the search: slow, and plain to see through."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kaldi_mpq.native.search import END, Searches

NUM_WORDS = 5  # 1 to 4


class Table:
    """A model of a few states: ``steps[state][word]`` is (next, cost) or absent, ``finals[state]`` the end's cost."""

    def __init__(self, steps: list[dict[int, tuple[int, float]]], finals: list[float], start: int = 0) -> None:
        self.steps, self.finals, self.first = steps, finals, start
        self.calls = 0

    def start(self, owner: int, context=None) -> int:
        """See Automaton."""
        return self.first

    def read(self, owners, states, words):
        """See Automaton."""
        self.calls += 1
        found = [self.step(int(state), int(word)) for state, word in zip(states, words)]
        return np.array([n for n, _ in found], np.int32), np.array([c for _, c in found], np.float32)

    def release(self, owner: int) -> None:
        """See Automaton."""

    def step(self, state: int, word: int) -> tuple[int, float]:
        """Return what a word leads to and costs."""
        if word == END:
            return 0, self.finals[state]
        return self.steps[state].get(word, (0, math.inf))

    def cost(self, words) -> float:
        """Return what a whole sentence costs."""
        state, total = self.first, 0.0
        for word in words:
            if word:
                state, cost = self.step(state, word)
                total += cost
        return total + self.finals[state]


def backoff_fst(rng: np.random.Generator, num_states: int) -> list[dict[str, Any]]:
    """Return a backoff-deterministic automaton over words 1 to 4 as `old_lm_files.fst_bytes` takes it."""
    states = []
    for state in range(num_states):
        words = range(1, NUM_WORDS) if state == 0 else sorted(rng.choice(4, rng.integers(0, 4), replace=False) + 1)
        arcs = [(0, 0, float(rng.integers(0, 24)) / 8, int(rng.integers(0, state)))] if state else []
        arcs += [(int(w), int(w), float(rng.uniform(0, 6)), int(rng.integers(0, num_states))) for w in words]
        final = float(rng.uniform(0, 4)) if state == 0 or rng.integers(0, 2) else math.inf
        states.append({"final": final, "arcs": arcs})
    return states


def table_of(states: list[dict[str, Any]], weight: float = 1.0) -> Table:
    """Return the backoff reading of such an automaton."""

    def step(state: int, word: int) -> tuple[int, float]:
        for _, label, cost, dest in states[state]["arcs"]:
            if label == word:
                return dest, cost
        backoff = [arc for arc in states[state]["arcs"] if arc[1] == 0]
        if not backoff:
            return 0, math.inf
        after, more = step(backoff[0][3], word)
        return after, backoff[0][2] + more

    def final(state: int) -> float:
        if math.isfinite(states[state]["final"]):
            return states[state]["final"]
        backoff = next(arc for arc in states[state]["arcs"] if arc[1] == 0)
        return backoff[2] + final(backoff[3])

    steps = [{w: (step(s, w)[0], weight * step(s, w)[1]) for w in range(1, NUM_WORDS)} for s in range(len(states))]
    return Table(steps, [weight * final(s) for s in range(len(states))])


def search(lattices, model: Table, **options: Any):
    """Return the outputs of one search after another, all answered by ``model``."""
    searches = Searches(**{"acoustic_scale": 1.0, "beam": math.inf, **options})
    batch = Searches.batch(lattices)
    for i in range(len(lattices)):
        searches.add(i, batch, i, model.start(i))
    while len(questions := searches.ask(range(len(lattices)))):
        searches.answer(*model.read(questions.owners, questions.states, questions.words))
    return searches.take(range(len(lattices)), lattices.keys)
