# SPDX-License-Identifier: Apache-2.0
"""Determinization on words against every path of small lattices, and its limits on large ones."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError
from tests.native.random_lattices import Arc, Spec, batches, build, dense, parse, readable

quick = settings(max_examples=50, deadline=None)
SCALES = st.sampled_from([(1.0, 1.0), (0.1, 1.0), (0.3, 2.0)])  # acoustic, graph
CLOSE = 1e-4  # `readable` rounds to 1e-6, and sums are made in another order

# "1 2" three times over: at graph + acoustic 5, 4 and 6; the second with an arc without a word.
THREE_WAYS = """
0 1 1 1,1,1_1
0 2 1 1,0,1_2
0 3 0 1,1,4
1 4 2 1,1,1
2 4 2 1,1,2
3 5 1 1,1,4_4
5 4 2 0,1,
4 1,0,9
"""


def by_words(lattices: native.Lattices, index: int) -> dict[tuple[int, ...], list[tuple]]:
    """Every path of one lattice: words without epsilons -> (graph, acoustic, transition-ids) of those paths."""
    found: dict[tuple[int, ...], list[tuple]] = {}
    for words, tids, graph, acoustic in readable(lattices, index):
        found.setdefault(tuple(word for word in words if word), []).append((graph, acoustic, tids))
    return found


def total(path: tuple, scales: tuple[float, float]) -> float:
    """Scaled cost of a path of `by_words`."""
    return scales[1] * path[0] + scales[0] * path[1]


def assert_best_of_each(lattices, done, index, scales, limit=math.inf) -> None:
    """One path for each word string whose best path costs up to ``limit``, and it is one of the best."""
    truth, found = by_words(lattices, index), by_words(done, index)
    best = {words: min(total(path, scales) for path in paths) for words, paths in truth.items()}
    assert found.keys() <= truth.keys()
    assert {words for words, cost in best.items() if cost <= limit} <= found.keys()
    for words, paths in found.items():
        assert len(paths) == 1
        if best[words] > limit:
            continue
        assert total(paths[0], scales) == pytest.approx(best[words], abs=CLOSE)
        same_tids = [path for path in truth[words] if path[2] == paths[0][2]]
        assert any(path[:2] == pytest.approx(paths[0][:2], abs=CLOSE) for path in same_tids)


@quick
@given(batches(max_states=9, max_arcs=24), SCALES)
def test_one_path_for_each_word_string_the_best(lattices, scales) -> None:
    """The same word strings as before, each with the costs and transition-ids of its best path, none without words."""
    done, reasons = native.determinize(lattices, *scales, delta=1e-9)
    assert done.keys == lattices.keys
    assert (native.is_deterministic(done) == [reason is None for reason in reasons]).all()
    for index, reason in enumerate(reasons):
        truth = by_words(lattices, index)
        assert (reason is None) == bool(truth)
        if truth:
            assert done.compact[index] == 1
            assert_best_of_each(lattices, done, index, scales)


@quick
@given(batches(max_states=9, max_arcs=24), st.sampled_from([0.0, 1.0, 5.0, 20.0]), SCALES)
def test_a_beam_keeps_what_is_within_it(lattices, beam, scales) -> None:
    """Every word string whose best path is within the beam is there with that path; no path is from elsewhere."""
    done, reasons = native.determinize(lattices, *scales, beam=beam, delta=1e-9)
    for index, reason in enumerate(reasons):
        if reason is None:
            costs = [total(path, scales) for paths in by_words(lattices, index).values() for path in paths]
            assert_best_of_each(lattices, done, index, scales, min(costs) + beam - CLOSE)


def test_transition_ids_are_pushed_and_kept() -> None:
    """Of three ways to say the same the cheapest at the scale, its string whole, on one chain of states."""
    lattices = build(parse(THREE_WAYS))
    done, reasons = native.determinize(lattices, 1.0)
    assert reasons == [None]
    assert readable(done, 0) == [((1, 2), (1, 2, 2, 9), 3.0, 1.0)]
    assert done.num_arcs == 2
    done, _ = native.determinize(lattices, 10.0, 100.0)
    assert readable(done, 0) == [((1, 2), (1, 2, 2, 9), 3.0, 1.0)]
    done, _ = native.determinize(lattices, -1.0)  # large acoustic costs are good now
    assert readable(done, 0) == [((1, 2), (4, 4, 4, 9), 3.0, 3.0)]


def test_a_deterministic_lattice_keeps_its_arcs() -> None:
    """Nothing is pushed or merged where there is nothing to do; what leads nowhere goes."""
    spec = parse("0 1 1 1,1,1\n0 2 2 1,1,2\n1 3 3 5,5,\n2 3 3 5,5,7_7\n1 4 9 0,0,\n3 0,0,8")
    lattices = build(spec)
    assert native.is_deterministic(lattices).tolist() == [True]
    done, reasons = native.determinize(lattices, 0.1)
    assert reasons == [None]
    assert done.arc_graph.tolist() == [1, 1, 5, 5] and done.arc_tids.tolist() == [1, 2, 7, 7]


@pytest.mark.parametrize(
    "text",
    ["0 1 1 0,0,\n0 1 1 1,0,\n1", "0 1 0 0,0,\n1", "0 1 1 0,0,\n1 0 1 0,0,\n1"],
    ids=["same word twice", "no word", "cyclic"],
)
def test_what_is_not_deterministic(text) -> None:
    """Two arcs of a state with one word, an arc without a word, a lattice that cannot be used."""
    assert native.is_deterministic(build(parse(text))).tolist() == [False]


def blow_up(length: int) -> Spec:
    """Two paths that can change places at each word, at costs that tell where they did: 2 ^ length states.

    One set of states for each string of words, because the difference of the two costs is another after each.
    """
    arcs = []
    for i in range(length):
        for side in range(2):
            source = 0 if i == 0 else 2 * i - 1 + side
            for word in (1, 2):
                arcs.append(Arc(source, 2 * i + 1 + side, word, 2.0**i * (word == 2) * side, 0.0, (1 + side,)))
    last = 2 * length - 1
    return Spec("large", 2 * length + 1, tuple(arcs), {last: (0.0, 0.0, (7,)), last + 1: (0.0, 0.0, (8,))})


@pytest.mark.parametrize(
    ("limits", "reason"), [({"max_arcs": 1000}, "more than 1000 arcs"), ({"max_bytes": 1 << 20}, "more than 1 MB")]
)
def test_a_limit_ends_one_lattice_and_no_other(limits, reason) -> None:
    """What is too large goes through unchanged with the reason; its neighbours in the batch are determinized."""
    small, large = parse(THREE_WAYS, "a"), blow_up(24)
    lattices = build(small, large, parse(THREE_WAYS, "b"))
    done, reasons = native.determinize(lattices, 1.0, **limits)
    assert reasons[0] is None and reasons[2] is None and reason in reasons[1]
    assert done.keys == ["a", "large", "b"]
    assert readable(done, 0) == readable(done, 2) == [((1, 2), (1, 2, 2, 9), 3.0, 1.0)]
    same = done.select([1])
    for name in ("arc_word", "arc_dest", "arc_graph", "arc_tids", "final_tids", "arc_offsets"):
        assert getattr(same, name).tolist() == getattr(lattices.select([1]), name).tolist()


def test_a_beam_makes_it_possible() -> None:
    """The lattice that is too large without a beam is done with one, at once and exactly within the beam."""
    lattices = build(blow_up(24))
    done, reasons = native.determinize(lattices, 1.0, beam=3.0)
    assert reasons == [None]
    assert native.is_deterministic(done).all()
    assert native.best_paths(done, 1.0).graph.tolist() == native.best_paths(lattices, 1.0).graph.tolist()


def test_rounding_does_not_multiply_states() -> None:
    """Costs that differ by what float32 leaves of them are one state within delta, and two without it."""
    ways = [(1.0, (1.0, 1.0)), (0.5, (1.5, 1.5003))]  # the rest after the first word: 0 and 0.0003 for state 3
    arcs = []
    for word, (first, (a, b)) in enumerate(ways, start=1):
        arcs += [Arc(0, 1, word, first + a, 0.0), Arc(0, 2, word, first + b + 1.0, 0.0)]
    arcs += [Arc(1, 3, 5, 0.0, 0.0), Arc(2, 3, 5, 0.5, 0.0), Arc(1, 3, 6, 0.0, 0.0), Arc(2, 3, 7, 0.0, 0.0)]
    lattices = build(Spec("noisy", 4, tuple(arcs), {3: (0.0, 0.0, ())}))
    merged, split = (native.determinize(lattices, 1.0, delta=delta)[0] for delta in (2**-10, 1e-6))
    assert (merged.num_states, split.num_states) == (3, 4)


def test_unusable_lattices_go_through_unchanged() -> None:
    """Empty, cyclic, without an end: each with its reason, in its place."""
    specs = [Spec("empty", 0, (), {}), parse("0 1 1 0,0,\n1 0 1 0,0,\n1"), parse("0 1 1 0,0,\n1 2 1 0,0,")]
    lattices = build(*itertools.chain(specs, [parse(THREE_WAYS)]))
    done, reasons = native.determinize(lattices, 1.0)
    assert reasons == ["empty", "cyclic", "no final state can be reached", None]
    assert np.diff(done.state_offsets).tolist() == [0, 2, 3, 3]


def test_settings_out_of_range_are_refused() -> None:
    """A negative beam or delta, a scale that is no number."""
    lattices = build(parse(THREE_WAYS))
    for bad in ({"beam": -1.0}, {"beam": math.nan}, {"delta": -1e-3}, {"acoustic_scale": math.nan}):
        with pytest.raises(ConfigError):
            native.determinize(lattices, **{"acoustic_scale": 1.0, **bad})


def test_a_dense_lattice_is_done_within_a_beam() -> None:
    """More than 10^20 paths over few words: a beam of 4 leaves one path a string, and the best path is the same."""
    lattices = build(dense(np.random.default_rng(0), 20, 12))
    done, reasons = native.determinize(lattices, 0.1, beam=4.0)
    assert reasons == [None] and native.is_deterministic(done).all()
    mine, truth = native.best_paths(done, 0.1), native.best_paths(lattices, 0.1)
    assert mine.graph + 0.1 * mine.acoustic == pytest.approx(truth.graph + 0.1 * truth.acoustic, abs=0.01)
