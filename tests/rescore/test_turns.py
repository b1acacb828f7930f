# SPDX-License-Identifier: Apache-2.0
"""Composition in turns: every utterance starts from what was really said before it, and nobody waits for ever."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq import native
from kaldi_mpq.native.search import END
from kaldi_mpq.rescore.composition import Composer, SearchSettings
from kaldi_mpq.rescore.turns import Turns, by_turn
from tests.native.automata import Table, backoff_fst, table_of
from tests.native.random_lattices import batches, build, parse, readable

STATES = 4
MODEL = table_of(backoff_fst(np.random.default_rng(4), STATES))


class Remembering(Table):
    """A table whose first state is what its context says."""

    def __init__(self) -> None:
        super().__init__(MODEL.steps, MODEL.finals)

    def start(self, owner: int, context=None) -> int:
        """See Automaton."""
        return self.first if context is None else context[self]


class Said:
    """The words of conversations; the state before an utterance depends on all of them and on its longest path."""

    def __init__(self, count: int) -> None:
        self.words: list[list[int]] = [[] for _ in range(count)]

    def states(self, rows, room) -> int:
        """Return the state of one conversation."""
        ((row,), (most,)) = rows, room
        return (sum((i + 1) * word for i, word in enumerate(self.words[row])) + int(most)) % STATES

    def feed(self, rows, sentences) -> None:
        """Add utterances to different conversations."""
        assert len(set(rows.tolist())) == len(rows) == len(sentences)
        for row, words in zip(rows.tolist(), sentences):
            self.words[row] += [END, *words.tolist()]


def one_by_one(lattices: native.Lattices, conversations: list[list[str]]) -> dict[str, list]:
    """Return the paths of every lattice, composed alone after those before it."""
    found = {}
    for keys in conversations:
        said = Said(1)
        for key in keys:
            lattice = lattices.select([lattices.keys.index(key)])
            lengths = [sum(word > 0 for word in row[0]) for row in readable(lattice, 0)] if is_good(lattice) else [0]
            model = Remembering()
            model.first = said.states([0], [max(lengths, default=0) + 1])
            out = Composer(model, 5, SearchSettings(1.0, math.inf)).compose_all(lattice)
            found[key] = readable(out.lattices, 0) if not out.faults else None
            if not out.faults:
                said.feed(np.array([0]), [native.best_paths(out.lattices, 1.0).words(out.lattices)[1]])
    return found


def is_good(lattice: native.Lattices) -> bool:
    """Whether a lattice can be composed."""
    return native.check(lattice, 5) == [None]


@settings(max_examples=60, deadline=None)
@given(drawn=batches(max_lattices=9), seed=st.integers(0, 99), active=st.integers(1, 4), few=st.booleans())
def test_every_utterance_starts_from_what_was_said_before_it(drawn, seed, active, few):
    """In whatever order lattices come in, faulty ones among them: all come out once, as if one at a time."""
    held = 0 if few else 10**6
    rng = np.random.default_rng(seed)
    lattices = native.Lattices.concat([drawn])
    order = rng.permutation(len(lattices))
    cuts = sorted(rng.integers(0, len(order) + 1, 2).tolist())
    conversations = [[lattices.keys[i] for i in part] for part in np.split(order, cuts) if len(part)]
    model, said = Remembering(), Said(len(conversations))
    turns = Turns(conversations, {model: said}, 1.0)
    composer = Composer(model, 5, SearchSettings(1.0, math.inf, active=active, held_arcs=held))
    parts = [lattices.select(part) for part in np.array_split(np.arange(len(lattices)), 3) if len(part)]
    outputs = list(composer.compose(parts, turns))
    assert [key for out in outputs for key in out.lattices.keys] == lattices.keys
    expected = one_by_one(lattices, conversations)
    for out in outputs:
        for i, key in enumerate(out.lattices.keys):
            assert (key in out.faults) == (expected[key] is None)
            if expected[key] is not None:
                found = readable(out.lattices, i)
                assert [row[:2] for row in found] == [row[:2] for row in expected[key]]
                np.testing.assert_allclose([row[2] for row in found], [row[2] for row in expected[key]], atol=1e-3)


def line(key: str, words: int = 1):
    """Return a lattice of one path."""
    arcs = "".join(f"{i} {i + 1} 1 1,1,{i + 1}\n" for i in range(words))
    return parse(f"{arcs}{words} 0,0,", key)


def test_conversations_go_side_by_side():
    """As many rounds as the longest conversation has alone, not as all of them have one after the other."""
    conversations = [[f"{name}-{i}" for i in range(count)] for name, count in (("a", 6), ("b", 2), ("c", 4))]
    rounds = []
    for chosen in (conversations, conversations[:1]):
        model = Remembering()
        composer = Composer(model, 5, SearchSettings(1.0, math.inf))
        lattices = build(*(line(key) for key in by_turn(chosen)))
        list(composer.compose([lattices], Turns(chosen, {model: Said(len(chosen))}, 1.0)))
        rounds.append(composer.rounds)
    assert rounds[0] == rounds[1] > 6


def test_one_that_never_comes_is_noticed():
    """Rather than waiting for it, or losing those that do."""
    model = Remembering()
    turns = Turns([["first", "second"]], {model: Said(1)}, 1.0)
    composer = Composer(model, 5, SearchSettings(1.0, math.inf))
    with pytest.raises(AssertionError, match="do not come"):
        list(composer.compose([build(line("second"))], turns))


def test_turns_go_round():
    """The first utterances of all conversations, then the second ones, as long as there are any."""
    assert by_turn([["a1", "a2", "a3"], ["b1"], [], ["c1", "c2"]]) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert by_turn([]) == []
