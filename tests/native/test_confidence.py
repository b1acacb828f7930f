# SPDX-License-Identifier: Apache-2.0
"""Confidences and times of words, and pruning by posteriors, against every path of small lattices."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError
from tests.native.random_lattices import Arc, Spec, batches, build, enumerate_paths, parse, readable

quick = settings(max_examples=50, deadline=None)
SCALE = 0.1

# Half of the probability each: "1 2" and "2 2", one of them later than the other.
SHIFTED = """
0 1 1 0,0,1_1_1
0 2 2 0,0,1_1
1 3 2 0,0,1
2 3 2 0,0,1_1
3 0,0,
"""


@st.composite
def timed(draw) -> Spec:
    """Draw a lattice as decoders make it: all paths to a state have the same number of frames."""
    frame = [0, *sorted(draw(st.lists(st.integers(1, 12), min_size=1, max_size=5, unique=True)))]
    arcs = []
    for _ in range(draw(st.integers(1, 16))):
        low, high = sorted(draw(st.lists(st.sampled_from(range(len(frame))), min_size=2, max_size=2, unique=True)))
        cost, word = draw(st.integers(-8, 8)) / 4, draw(st.integers(0, 3))
        arcs.append(Arc(low, high, word, cost, 0.0, (1,) * (frame[high] - frame[low])))
    ends = {len(frame) - 1, draw(st.sampled_from(range(len(frame))))}
    finals = {state: (0.5, 0.0, (1,) * (frame[-1] - frame[state])) for state in ends}
    return Spec("timed", len(frame), tuple(arcs), finals)


def active(lattices, arcs) -> dict[tuple[int, int], int]:
    """(frame, word) -> 1 for the words that a path has at each of its frames."""
    frame, found = 0, {}
    for arc in arcs:
        length = int(np.diff(lattices.arc_tid_offsets[arc : arc + 2])[0])
        found |= {(at, int(lattices.arc_word[arc])): 1 for at in range(frame, frame + length)}
        frame += length
    return found


@quick
@given(timed())
def test_a_confidence_is_the_largest_share_of_its_word_at_a_frame(spec) -> None:
    """Frame by frame, the probability of the paths that have that word there: the maximum over the word's frames."""
    lattices = build(spec)
    every = enumerate_paths(lattices, 0)
    best = native.best_paths(lattices, SCALE)
    if not every:
        assert len(best) == 0
        return
    weights = np.exp([-(path.graph + SCALE * path.acoustic) for path in every])
    share: dict[tuple[int, int], float] = defaultdict(float)
    for path, weight in zip(every, weights / weights.sum(), strict=True):
        for place in active(lattices, path.arcs):
            share[place] += weight
    found = native.word_confidences(lattices, best, native.forward_backward(lattices, SCALE)[0])
    words = best.words(lattices)[1]
    assert len(found.confidence) == len(words)
    for word, begin, end, confidence in zip(
        words, found.begin_frame, found.end_frame, found.confidence, strict=True
    ):
        assert confidence == pytest.approx(max(share[at, int(word)] for at in range(begin, end)), abs=1e-9)


def test_times_and_confidences_of_every_path() -> None:
    """Two paths of even odds: their words' frames; the second words overlap for a frame and are sure there."""
    lattices = build(Spec("empty", 0, (), {}), parse(SHIFTED))
    paths = native.nbest(lattices, 10, 1.0)
    found = native.word_confidences(lattices, paths, native.forward_backward(lattices, 1.0)[0])
    rows = list(zip(found.begin_frame, found.end_frame, found.confidence.round(9), strict=True))
    words = paths.words(lattices)[1].tolist()
    expected = {(1, 2): [(0, 3, 0.5), (3, 4, 1.0)], (2, 2): [(0, 2, 0.5), (2, 4, 1.0)]}
    assert rows == expected[tuple(words[:2])] + expected[tuple(words[2:])]


def test_without_transition_ids_a_word_counts_where_it_touches() -> None:
    """Every arc is one frame at 0: the confidence of a word is its share of the paths, at most 1."""
    lattices = build(parse("0 1 1 0,0,\n0 1 2 0,0,\n1 2 1 0,0,\n2"))
    best = native.best_paths(lattices, 1.0)
    found = native.word_confidences(lattices, best, native.forward_backward(lattices, 1.0)[0])
    assert found.confidence.tolist() == [1.0] * len(found.confidence)
    assert found.begin_frame.tolist() == found.end_frame.tolist() == [0] * len(found.confidence)


def test_paths_of_other_lattices_are_refused() -> None:
    """Arc numbers that are not of the lattice, offsets or posteriors that do not fit."""
    two, one = build(parse(SHIFTED), parse(SHIFTED)), build(parse(SHIFTED))
    posterior = native.forward_backward(two, 1.0)[0]
    best = native.best_paths(two, 1.0)
    swapped = native.Paths(**{**vars(best), "arcs": best.arcs[::-1].copy()})
    for lattices, paths in ((two, swapped), (one, best)):
        with pytest.raises(ValueError):
            native.word_confidences(lattices, paths, posterior)
    with pytest.raises(ValueError, match="arc_posterior"):
        native.word_confidences(two, best, posterior[1:])


@quick
@given(batches(), st.floats(0, 1))
def test_pruning_by_posterior_leaves_the_likely_arcs_and_the_best_path(lattices, threshold) -> None:
    """What is left: paths of arcs that are likely or on the best path, and no lattice is lost."""
    arc, final, _ = native.forward_backward(lattices, SCALE)
    best = native.best_paths(lattices, SCALE)
    pruned = native.prune_by_posterior(lattices, threshold, best, arc, final)
    on_best, end_of_best = set(best.arcs.tolist()), set(best.final_state.tolist())
    for index in range(len(lattices)):
        kept = [
            path
            for path in enumerate_paths(lattices, index)
            if all(arc[a] >= threshold or a in on_best for a in path.arcs)
            and (final[path.final_state] >= threshold or path.final_state in end_of_best)
        ]
        costs = sorted((round(path.graph, 6), round(path.acoustic, 6)) for path in kept)
        assert sorted(row[2:] for row in readable(pruned, index)) == costs
        assert bool(costs) == bool(readable(lattices, index))


def test_a_threshold_of_probability_one_leaves_the_best_path_alone() -> None:
    """And 0 leaves everything; what is no probability is refused."""
    lattices = build(parse("0 1 1 0,0,\n0 1 2 1,0,\n0 1 3 2,0,\n1"))
    arc, final, _ = native.forward_backward(lattices, 1.0)
    best = native.best_paths(lattices, 1.0)
    sizes = [native.prune_by_posterior(lattices, t, best, arc, final).num_arcs for t in (0.0, 0.2, 1.0)]
    assert sizes == [3, 2, 1]
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError):
            native.prune_by_posterior(lattices, bad, best, arc, final)
