# SPDX-License-Identifier: Apache-2.0
"""Lattices for tests: from Kaldi's text form, at random, and all their paths by brute force."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from kaldi_mpq.native import Lattices

INFINITY = math.inf


@dataclass(frozen=True)
class Arc:
    """An arc of a `Spec`."""

    source: int
    dest: int
    word: int
    graph: float
    acoustic: float
    tids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Spec:
    """One lattice as Python has it: a list of arcs and a dict of final weights (graph, acoustic, transition-ids)."""

    key: str
    num_states: int
    arcs: tuple[Arc, ...]
    finals: dict[int, tuple[float, float, tuple[int, ...]]]
    start: int = 0
    compact: bool = True


@dataclass(frozen=True)
class Path:
    """A path: arcs numbered as in the batch, the final state too, and unscaled total costs."""

    arcs: tuple[int, ...]
    final_state: int
    graph: float
    acoustic: float


def build(*specs: Spec) -> Lattices:
    """Return the specs as one batch."""
    arcs, finals, sizes = [], [], []
    for spec in specs:
        leaving: list[list[Arc]] = [[] for _ in range(spec.num_states)]
        for arc in spec.arcs:
            leaving[arc.source].append(arc)
        for state in range(spec.num_states):
            arcs += leaving[state]
            sizes.append(len(leaving[state]))
            finals.append(spec.finals.get(state, (INFINITY, INFINITY, ())))
    return Lattices.from_arrays(
        keys=[spec.key for spec in specs],
        compact=np.array([spec.compact for spec in specs], np.uint8),
        start=np.array([spec.start if spec.num_states else -1 for spec in specs], np.int32),
        state_offsets=_offsets([spec.num_states for spec in specs]),
        arc_offsets=_offsets(sizes),
        final_graph=np.array([final[0] for final in finals], np.float64),
        final_acoustic=np.array([final[1] for final in finals], np.float64),
        final_tid_offsets=_offsets([len(final[2]) for final in finals]),
        final_tids=np.array([tid for final in finals for tid in final[2]], np.int32),
        arc_word=np.array([arc.word for arc in arcs], np.int32),
        arc_dest=np.array([arc.dest for arc in arcs], np.int32),
        arc_graph=np.array([arc.graph for arc in arcs], np.float64),
        arc_acoustic=np.array([arc.acoustic for arc in arcs], np.float64),
        arc_tid_offsets=_offsets([len(arc.tids) for arc in arcs]),
        arc_tids=np.array([tid for arc in arcs for tid in arc.tids], np.int32),
    )


def parse(text: str, key: str = "utt") -> Spec:
    """Return the CompactLattice of Kaldi's text form: ``source dest word graph,acoustic,tids`` or ``state weight``.

    As in Kaldi, the start is the first state named; a missing weight is 0,0.
    """
    arcs, finals, start, highest = [], {}, 0, -1
    for number, line in enumerate(filter(None, map(str.strip, text.strip().splitlines()))):
        fields = line.split()
        start = int(fields[0]) if number == 0 else start
        is_arc = len(fields) >= 3
        weight = (fields[3:] if is_arc else fields[1:]) or ["0,0,"]
        graph, acoustic, tids = weight[0].split(",")
        tids = tuple(int(tid) for tid in tids.split("_") if tid)
        if is_arc:
            source, dest, word = map(int, fields[:3])
            arcs.append(Arc(source, dest, word, float(graph), float(acoustic), tids))
            highest = max(highest, source, dest)
        else:
            finals[int(fields[0])] = (float(graph), float(acoustic), tids)
            highest = max(highest, int(fields[0]))
    return Spec(key, highest + 1, tuple(arcs), finals, start)


def enumerate_paths(lattices: Lattices, index: int, limit: int = 100_000) -> list[Path]:
    """Return every path of one lattice, in no order: what searches are held against."""
    first = int(lattices.state_offsets[index])
    found: list[Path] = []
    start = int(lattices.start[index])
    open_paths = [((), first + start, 0.0, 0.0)] if start >= 0 else []
    while open_paths:
        arcs, state, graph, acoustic = open_paths.pop()
        final_graph, final_acoustic = float(lattices.final_graph[state]), float(lattices.final_acoustic[state])
        if final_graph < INFINITY and final_acoustic < INFINITY:
            found.append(Path(arcs, state, graph + final_graph, acoustic + final_acoustic))
        for arc in range(int(lattices.arc_offsets[state]), int(lattices.arc_offsets[state + 1])):
            arc_graph, arc_acoustic = float(lattices.arc_graph[arc]), float(lattices.arc_acoustic[arc])
            if arc_graph < INFINITY and arc_acoustic < INFINITY:
                dest = first + int(lattices.arc_dest[arc])
                open_paths.append(((*arcs, arc), dest, graph + arc_graph, acoustic + arc_acoustic))
        if len(found) + len(open_paths) > limit:
            raise AssertionError(f"more than {limit} paths")
    return found


def readable(lattices: Lattices, index: int) -> list[tuple]:
    """Return the paths of one lattice without numbers of arcs and states, sorted: (words, tids, graph, acoustic)."""
    rows = []
    for path in enumerate_paths(lattices, index):
        words = tuple(int(lattices.arc_word[arc]) for arc in path.arcs)
        tids = [_tids(lattices.arc_tid_offsets, lattices.arc_tids, arc) for arc in path.arcs]
        tids.append(_tids(lattices.final_tid_offsets, lattices.final_tids, path.final_state))
        rows.append((words, tuple(itertools.chain(*tids)), round(path.graph, 6), round(path.acoustic, 6)))
    return sorted(rows)


@st.composite
def specs(draw, max_states: int = 7, max_arcs: int = 14, compact: bool | None = None) -> Spec:
    """Draw an acyclic lattice: unsorted, dead ends, unreachable states, epsilons, equal and infinite costs."""
    num_states = draw(st.integers(1, max_states))
    rank = draw(st.permutations(range(num_states)))
    is_compact = draw(st.booleans()) if compact is None else compact
    small = st.integers(-16, 16).map(lambda eighths: eighths / 8)  # exact sums, many ties
    cost = st.one_of(small, st.floats(-50, 50, width=32))
    tids = st.lists(st.integers(1, 9), max_size=3 if is_compact else 1).map(tuple)
    arcs = []
    for _ in range(draw(st.integers(0, max_arcs)) if num_states > 1 else 0):
        low, high = sorted(draw(st.lists(st.integers(0, num_states - 1), min_size=2, max_size=2, unique=True)))
        graph = INFINITY if draw(st.integers(0, 19)) == 0 else draw(cost)
        acoustic = INFINITY if graph == INFINITY else draw(cost)
        arcs.append(Arc(rank[low], rank[high], draw(st.integers(0, 4)), graph, acoustic, draw(tids)))
    finals = {}
    for state in draw(st.sets(st.integers(0, num_states - 1), max_size=3)) | {num_states - 1}:
        finals[rank[state]] = (draw(cost), draw(cost), draw(tids) if is_compact else ())
    return Spec("random", num_states, tuple(arcs), finals, rank[0], is_compact)


@st.composite
def batches(draw, max_lattices: int = 3, **options) -> Lattices:
    """Draw a batch of `specs`; one of them may be empty."""
    drawn = draw(st.lists(st.one_of(specs(**options), st.just(Spec("", 0, (), {}))), min_size=1, max_size=max_lattices))
    return build(*(Spec(f"utt-{i}", s.num_states, s.arcs, s.finals, s.start, s.compact) for i, s in enumerate(drawn)))


def dense(rng: np.random.Generator, num_frames: int, arcs_per_state: int, key: str = "dense") -> Spec:
    """Return a lattice like a real dense one: a few states a frame, many arcs between neighbours, over 10^20 paths."""
    width = 4
    arcs = []
    for frame in range(num_frames):
        for source in range(width if frame else 1):
            for _ in range(arcs_per_state):
                dest = 1 + frame * width + int(rng.integers(width))
                graph, acoustic = float(rng.exponential(3.0)), float(rng.normal(-20.0, 30.0))
                state = 1 + (frame - 1) * width + source if frame else 0
                arcs.append(Arc(state, dest, int(rng.integers(1, 500)), graph, acoustic, (1,)))
    last = range(1 + (num_frames - 1) * width, 1 + num_frames * width)
    return Spec(key, 1 + num_frames * width, tuple(arcs), dict.fromkeys(last, (0.5, -1.0, (2,))))


def _offsets(sizes: list[int]) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64))).astype(np.int64)


def _tids(offsets: np.ndarray, tids: np.ndarray, index: int) -> list[int]:
    return tids[offsets[index] : offsets[index + 1]].tolist()
