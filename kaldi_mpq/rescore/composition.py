# SPDX-License-Identifier: Apache-2.0
"""Lattices composed with language models: many searches at a time, their questions answered in one batch.

Lattices begin and end independently of each other, unless they take turns; they come out in the order in which they
came in, and those that cannot be composed come out as they were.

Not here: the search (`native.search`), the models (`rescore.automata`), whose turn it is (`rescore.turns`), archives
(`rescore.lattice_run`).
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kaldi_mpq import native
from kaldi_mpq.native.reversal import reverse
from kaldi_mpq.native.search import Searches
from kaldi_mpq.rescore.automata import Automaton, Context
from kaldi_mpq.rescore.turns import Turns

__all__ = ["Composed", "Composer", "SearchSettings", "Stage", "compose_stages"]

log = logging.getLogger(__name__)

_FEWEST = 8  # searches that go on however many states are held: as few make small batches


def _unseen(count: int) -> None:
    """Do nothing about lattices that have come to their end."""


@dataclass(frozen=True)
class SearchSettings:
    """How lattices are searched; see `native.Searches` for the first five.

    Args:
      active: lattices that are searched at a time, at most.
      held_arcs: no further lattice is begun while those that are held have more arcs than this.
    """

    acoustic_scale: float = 0.1
    beam: float = 8.0
    max_arcs: int = 100_000
    growth: float = 1.5
    frontier: int = 16
    active: int = 256
    held_arcs: int = 1_000_000


@dataclass(frozen=True)
class Composed:
    """A batch of lattices after composition.

    Args:
      lattices: the outputs, in the order of the inputs.
      faults: for each lattice that is as it was, the reason.
    """

    lattices: native.Lattices
    faults: dict[str, str]


class Composer:
    """Composes lattices with an automaton that says how much is added to their graph costs.

    Args:
      automaton: see `WeightedSum`.
      vocab_size: word ids at or above it make a lattice unusable.
      settings: of the search.
      is_full: asked in every round; while it says yes, no lattice is begun, and ever fewer searches go on.
    """

    def __init__(
        self,
        automaton: Automaton,
        vocab_size: int,
        settings: SearchSettings,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._automaton = automaton
        self._vocab_size = vocab_size
        self._settings = settings
        self._is_full = is_full
        self.questions = 0
        self.rounds = 0

    def compose(
        self, batches: Iterable[native.Lattices], turns: Turns | None = None, over: Callable[[int], None] = _unseen
    ) -> Iterator[Composed]:
        """Yield every batch, composed, in order; a few are read ahead.

        Args:
          turns: lattices wait for others, and start from what was said in these; None: they have nothing to do with
            each other. Memory is bounded if none comes in before those that it waits for.
          over: is told how many lattices have come to their end.
        """
        s = self._settings
        searches = Searches(s.acoustic_scale, s.beam, s.max_arcs, s.growth, s.frontier)
        source = iter(batches)
        held: deque[_Batch] = deque()
        begun: dict[int, tuple[_Batch, int]] = {}  # search -> which lattice of which batch
        line = _Line(turns)
        going = s.active
        while True:
            more = self._begin(searches, source, held, begun, line)
            going = self._how_many(going)
            questions = searches.ask(list(begun)[:going])
            over(self._collect(searches, begun, line))
            while held and held[0].is_done:
                yield held.popleft().result()
            if len(questions):
                self.questions += len(questions)
                self.rounds += 1
                searches.answer(*self._automaton.read(questions.owners, questions.states, questions.words))
            elif not more and not held:
                return

    def compose_all(self, lattices: native.Lattices) -> Composed:
        """Return one batch, composed."""
        return next(self.compose([lattices]))

    def _how_many(self, going: int) -> int:
        """Return how many searches, the oldest ones, go on after ``going`` of them did: fewer while states fill up."""
        if self._is_full():
            return max(going // 2, min(_FEWEST, self._settings.active))
        return min(2 * going, self._settings.active)

    def _begin(
        self,
        searches: Searches,
        source: Iterator[native.Lattices],
        held: deque[_Batch],
        begun: dict[int, tuple[_Batch, int]],
        line: _Line,
    ) -> bool:
        """Begin lattices as long as there is room; return whether there may be more."""
        while len(begun) < self._settings.active and not (begun and self._is_full()):
            if line.is_stuck:
                arcs = searches.num_arcs + sum(batch.lattices.num_arcs for batch in held)
                if held and arcs > self._settings.held_arcs and (begun or held[0].is_done):
                    return True
                lattices = next(source, None)
                if lattices is None:
                    if not begun and not all(batch.is_done for batch in held):
                        raise AssertionError(("lattices wait for others that do not come", len(held)))
                    return False
                held.append(_Batch(lattices, self._vocab_size))
                line.join(held[-1])
                continue
            batch, index = line.next()
            if batch.is_faulty(index):
                line.pass_over(batch, index)
                continue
            search = next(number for number in range(self._settings.active) if number not in begun)
            state = self._automaton.start(search, line.context(batch, index))
            searches.add(search, batch.native, index, state)
            begun[search] = (batch, index)
        return True

    def _collect(self, searches: Searches, begun: dict[int, tuple[_Batch, int]], line: _Line) -> int:
        """Put what the searches that are over have found where it belongs; return how many they are."""
        before = len(begun)
        by_batch: dict[int, tuple[_Batch, list[int]]] = {}
        for search in searches.done():
            batch, _ = begun[search]
            by_batch.setdefault(id(batch), (batch, []))[1].append(search)
        for batch, numbers in by_batch.values():
            indices = [begun.pop(number)[1] for number in numbers]
            outputs = searches.take(numbers, [batch.lattices.keys[i] for i in indices])
            batch.add(indices, outputs)
            for number in numbers:
                self._automaton.release(number)
            line.go_on(outputs)
        return before - len(begun)


@dataclass(frozen=True)
class Stage:
    """One composition of several.

    Args:
      composer: what is composed with.
      is_reversed: the lattices are read from their end.
    """

    composer: Composer
    is_reversed: bool = False


def compose_stages(
    stages: Sequence[Stage],
    batches: Iterable[native.Lattices],
    turns: Turns | None = None,
    over: Callable[[int], None] | None = None,
) -> Iterator[Composed]:
    """Yield every batch after all stages, in order; a lattice that fails in one of them comes out as it was.

    Args:
      turns: see `Composer.compose`; of one stage at most.
      over: is told how many lattices have come to the end of the last stage.
    Raises:
      AssertionError: an utterance was lost, which must not happen.
    """
    read: deque[native.Lattices] = deque()

    def noted() -> Iterator[Composed]:
        for lattices in batches:
            read.append(lattices)
            yield Composed(lattices, {})

    if turns is not None and len(stages) > 1:
        raise AssertionError(("turns in several stages", len(stages)))
    stream: Iterator[Composed] = noted()
    for stage in stages:
        stream = _compose_stage(stage, stream, turns, over if over and stage is stages[-1] else _unseen)
    for composed in stream:
        before = read.popleft()
        if composed.lattices.keys != before.keys:
            raise AssertionError(("keys changed", len(before), len(composed.lattices)))
        faulty = np.array([key in composed.faults for key in before.keys], bool)
        after = composed.lattices
        if faulty.any():
            numbers = np.where(faulty, 0, len(before)) + np.arange(len(before))
            after = native.Lattices.concat([before, after]).select(numbers)
        yield Composed(after, composed.faults)


def _compose_stage(
    stage: Stage, stream: Iterator[Composed], turns: Turns | None, over: Callable[[int], None]
) -> Iterator[Composed]:
    faults: deque[dict[str, str]] = deque()

    def inputs() -> Iterator[native.Lattices]:
        for composed in stream:
            faults.append(composed.faults)
            yield reverse(composed.lattices) if stage.is_reversed else composed.lattices

    for composed in stage.composer.compose(inputs(), turns, over):
        lattices = reverse(composed.lattices) if stage.is_reversed else composed.lattices
        yield Composed(lattices, {**composed.faults, **faults.popleft()})


class _Line:
    """Lattices that have been read and not begun: those that may be, and those that wait for others."""

    def __init__(self, turns: Turns | None) -> None:
        self._turns = turns
        self._ready: deque[tuple[_Batch, int]] = deque()
        self._waiting: dict[str, tuple[_Batch, int]] = {}

    @property
    def is_stuck(self) -> bool:
        """Whether there is none that may be begun."""
        return not self._ready

    def join(self, batch: _Batch) -> None:
        for index, key in enumerate(batch.lattices.keys):
            if self._turns is None or self._turns.is_next(key):
                self._ready.append((batch, index))
            else:
                self._waiting[key] = batch, index

    def next(self) -> tuple[_Batch, int]:
        return self._ready.popleft()

    def context(self, batch: _Batch, index: int) -> Context | None:
        if self._turns is None:
            return None
        return self._turns.context(batch.lattices.keys[index], int(batch.most_words[index]))

    def pass_over(self, batch: _Batch, index: int) -> None:
        """Let go on those that wait for a lattice that cannot be composed."""
        if self._turns is not None:
            self._may_begin(self._turns.pass_over(batch.lattices.keys[index]))

    def go_on(self, outputs: native.Lattices) -> None:
        """Let go on those that wait for others, which are over now."""
        if self._turns is not None:
            self._may_begin(self._turns.say(outputs))

    def _may_begin(self, keys: list[str]) -> None:
        self._ready += [self._waiting.pop(key) for key in keys if key in self._waiting]


class _Batch:
    """Lattices as they came, and what has come of them."""

    def __init__(self, lattices: native.Lattices, vocab_size: int) -> None:
        self.lattices = lattices
        self._reasons = native.check(lattices, vocab_size)
        self._trimmed = native.prune(lattices, math.inf, 1.0)
        self.native = Searches.batch(self._trimmed)
        self.faults: dict[int, str] = {}
        self.indices: list[int] = []
        self.outputs: list[native.Lattices] = []

    @cached_property
    def most_words(self) -> np.ndarray:
        """(B,) words of each lattice's longest path; 0 where there is none."""
        longest = native.best_paths(self._trimmed, 0.0, 0.0, word_penalty=-1.0)
        words = np.zeros(len(self.lattices), np.int64)
        words[np.diff(longest.lattice_offsets) > 0] = np.diff(longest.words(self._trimmed)[0])
        return words

    def is_faulty(self, index: int) -> bool:
        """Whether a lattice cannot be composed; what is the matter with it is noted then."""
        reason = self._reasons[index]
        if reason is not None:
            self.faults[index] = reason
        return reason is not None

    def add(self, indices: list[int], outputs: native.Lattices) -> None:
        empty = outputs.start < 0
        for i in np.flatnonzero(empty):
            self.faults[indices[i]] = "the language models allow no path"
        good = np.flatnonzero(~empty)
        self.indices += [indices[i] for i in good]
        self.outputs.append(outputs.select(good))

    @property
    def is_done(self) -> bool:
        return len(self.indices) + len(self.faults) == len(self.lattices)

    def result(self) -> Composed:
        unchanged = sorted(self.faults)
        merged = native.Lattices.concat([*self.outputs, self.lattices.select(np.array(unchanged, np.int64))])
        order = np.argsort(np.array([*self.indices, *unchanged], np.int64), kind="stable")
        keys = self.lattices.keys
        faults = {keys[i]: self.faults[i] for i in unchanged}
        return Composed(merged.select(order), faults)

