# SPDX-License-Identifier: Apache-2.0
"""Searches in lattices against the list of all their paths, made by brute force."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import ConfigError, NumericalError
from kaldi_mpq.native import paths
from tests.native.random_lattices import Path, Spec, batches, build, dense, enumerate_paths, parse, readable

# Two ways for "1 2", and "3" on the side; states are not in order, state 4 leads nowhere, state 5 is not reached.
#   1 2: 2+3+0.5 graph, 10+20+1 acoustic      1 2 (by the other first arc): 1+3+0.5, 40+20+1      3: 7, 5
SMALL = """
3 1 1 2,10,7_7
3 1 1 1,40,8
3 0 3 4,5,9
3 4 2 0,0,
1 0 2 3,20,5
5 0 2 0,0,
0 0.5,1,6
"""
SCALES = st.sampled_from([(1.0, 1.0), (0.1, 1.0), (1.0, 0.0), (0.0, 0.5), (0.3, -2.0)])  # acoustic, graph
quick = settings(max_examples=60, deadline=None)


def cost(path: Path, acoustic_scale: float, graph_scale: float) -> float:
    """The cost that searches compare."""
    return graph_scale * path.graph + acoustic_scale * path.acoustic


def paths_of(found: paths.Paths, index: int) -> list[Path]:
    """The found paths of one lattice, best first."""
    ends = list(zip(found.final_state.tolist(), found.graph.tolist(), found.acoustic.tolist(), strict=True))
    return [
        Path(tuple(found.arcs[slice(*found.arc_offsets[p : p + 2])].tolist()), *ends[p])
        for p in range(*found.lattice_offsets[index : index + 2])
    ]


def test_the_small_lattice_has_the_paths_listed_beside_it() -> None:
    """Best paths, words and unscaled totals of a lattice that a reader can check by hand."""
    lattices = build(parse(SMALL))
    found = paths.nbest(lattices, 10, acoustic_scale=0.1)
    assert found.graph.tolist() == [4.5, 5.5, 4.5]
    assert found.acoustic.tolist() == [6.0, 31.0, 61.0]
    offsets, words = found.words(lattices)
    assert [words[a:b].tolist() for a, b in pairwise(offsets)] == [[3], [1, 2], [1, 2]]
    assert found.final_state.tolist() == [0, 0, 0]


@quick
@given(batches(), SCALES, st.integers(1, 40))
def test_nbest_is_the_sorted_list_of_all_paths(lattices, scales, n) -> None:
    """Every rank has the cost of the sorted brute-force list, no path comes twice, and totals are those of its arcs."""
    found = paths.nbest(lattices, n, *scales)
    for index in range(len(lattices)):
        truth = enumerate_paths(lattices, index)
        mine = paths_of(found, index)
        wanted = sorted(cost(path, *scales) for path in truth)[:n]
        assert [cost(path, *scales) for path in mine] == pytest.approx(wanted, rel=1e-9, abs=1e-9)
        assert len({path.arcs for path in mine}) == len(mine)
        by_arcs = {(path.arcs, path.final_state): path for path in truth}
        for path in mine:
            same = by_arcs[path.arcs, path.final_state]
            assert (path.graph, path.acoustic) == pytest.approx((same.graph, same.acoustic))


@quick
@given(batches(), SCALES, st.sampled_from([0.0, 1.5, -1.5]))
def test_the_best_path_counts_the_word_penalty_but_does_not_report_it(lattices, scales, penalty) -> None:
    """The best path minimises the cost with the penalty for each word; its totals are without it."""
    found = paths.best_paths(lattices, *scales, word_penalty=penalty)

    def full_cost(path: Path) -> float:
        words = sum(int(lattices.arc_word[arc]) != 0 for arc in path.arcs)
        return cost(path, *scales) + penalty * words

    for index in range(len(lattices)):
        truth = {path.arcs: path for path in enumerate_paths(lattices, index)}
        mine = paths_of(found, index)
        assert len(mine) == (1 if truth else 0)
        for path in mine:
            assert full_cost(path) == pytest.approx(min(map(full_cost, truth.values())), abs=1e-9)
            assert path.graph == pytest.approx(truth[path.arcs].graph)


@quick
@given(batches(), SCALES)
def test_posteriors_are_shares_of_the_paths(lattices, scales) -> None:
    """An arc's posterior is the sum of the normalised probabilities of the paths through it."""
    arc_posterior, final_posterior, total_logp = paths.forward_backward(lattices, *scales)
    truth_arc, truth_final = np.zeros(len(arc_posterior)), np.zeros(len(final_posterior))
    for index in range(len(lattices)):
        truth = enumerate_paths(lattices, index)
        if not truth:
            assert total_logp[index] == -math.inf
            continue
        logps = np.array([-cost(path, *scales) for path in truth])
        total = np.logaddexp.reduce(logps)
        assert total_logp[index] == pytest.approx(total, rel=1e-9, abs=1e-9)
        for path, logp in zip(truth, logps, strict=True):
            truth_arc[list(path.arcs)] += math.exp(logp - total)
            truth_final[path.final_state] += math.exp(logp - total)
    np.testing.assert_allclose(arc_posterior, truth_arc, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(final_posterior, truth_final, rtol=1e-9, atol=1e-12)


@quick
@given(batches(), st.sampled_from([0.0, 0.5, 4.0, 30.0, math.inf]), st.sampled_from([0.1, 1.0]))
def test_prune_keeps_what_lies_on_a_path_within_the_beam(lattices, beam, acoustic_scale) -> None:
    """Arcs and final weights kept are exactly those on a path within the beam, with their words, ids and costs."""
    keep_arc, keep_final = np.zeros(lattices.num_arcs, bool), np.zeros(lattices.num_states, bool)
    for index in range(len(lattices)):
        truth = enumerate_paths(lattices, index)
        best = min((cost(path, acoustic_scale, 1.0) for path in truth), default=0.0)
        for path in truth:
            if cost(path, acoustic_scale, 1.0) <= best + beam + 1e-9:
                keep_arc[list(path.arcs)] = True
                keep_final[path.final_state] = True
    pruned = paths.prune(lattices, beam, acoustic_scale)
    assert pruned.keys == lattices.keys
    assert pruned.compact.tolist() == lattices.compact.tolist()
    assert pruned.num_arcs == keep_arc.sum()
    assert np.isfinite(pruned.final_graph).sum() == keep_final.sum()
    hidden = {"arc_graph": np.where(keep_arc, lattices.arc_graph, np.inf)}
    hidden["final_graph"] = np.where(keep_final, lattices.final_graph, np.inf)
    expected = SimpleNamespace(**{**arrays_of(lattices), **hidden})
    for index in range(len(lattices)):
        assert readable(pruned, index) == readable(expected, index)
    assert_sorted_and_trim(pruned)


@quick
@given(batches(), st.integers(1, 20), st.randoms(use_true_random=False))
def test_path_lattices_accept_exactly_the_paths(lattices, n, random) -> None:
    """The tree has the paths' words, transition-ids and acoustic costs, new graph costs, and shares prefixes."""
    found = paths.nbest(lattices, n, 0.1)
    new_cost: dict[tuple[int, ...], float] = {}
    arc_graph, expected = np.zeros(len(found.arcs)), [[] for _ in range(len(lattices))]
    final_graph = np.array([random.uniform(-5, 5) for _ in range(len(found))])
    for index in range(len(lattices)):
        offset = int(found.lattice_offsets[index])
        for p, path in enumerate(paths_of(found, index), start=offset):
            prefixes = [path.arcs[: i + 1] for i in range(len(path.arcs))]
            costs = [new_cost.setdefault(prefix, random.uniform(-5, 5)) for prefix in prefixes]
            arc_graph[found.arc_offsets[p] : found.arc_offsets[p + 1]] = costs
            words = tuple(int(lattices.arc_word[arc]) for arc in path.arcs)
            tids = tids_along(lattices, path)
            expected[index].append((words, tids, round(sum(costs) + final_graph[p], 6), round(path.acoustic, 6)))
    tree = paths.path_lattices(lattices, found, arc_graph, final_graph)
    assert tree.keys == lattices.keys
    assert tree.num_arcs == len(new_cost)
    assert tree.compact.all()
    for index in range(len(lattices)):
        assert readable(tree, index) == approximately(sorted(expected[index]))
    assert_sorted_and_trim(tree)


def test_paths_that_disagree_on_a_shared_arc_are_refused() -> None:
    """Graph costs of a shared prefix must agree; they must be finite; paths must be of the lattice and differ."""
    lattices = build(parse("0 1 1 0,0,\n1 2 2 0,0,\n1 2 3 1,0,\n2"))
    found = paths.nbest(lattices, 2, 1.0)
    final_graph = np.zeros(2)
    with pytest.raises(ValueError, match="path 1 disagrees"):
        paths.path_lattices(lattices, found, np.array([1.0, 2.0, 1.5, 2.0]), final_graph)
    with pytest.raises(NumericalError, match="NaN"):
        paths.path_lattices(lattices, found, np.full(4, np.nan), final_graph)
    twice = replace(found, arcs=found.arcs[[0, 1, 0, 1]])
    with pytest.raises(ValueError, match="has the arcs of path 0"):
        paths.path_lattices(lattices, twice, np.zeros(4), final_graph)
    with pytest.raises(ValueError, match="not a path of its lattice"):
        paths.path_lattices(lattices, replace(found, arcs=found.arcs[::-1]), np.zeros(4), final_graph)
    with pytest.raises(ValueError, match="arc_graph has 3 elements, expected 4"):
        paths.path_lattices(lattices, found, np.zeros(3), final_graph)


FAULTS = {
    "cyclic": "0 1 1 0,0,\n1 0 2 0,0,\n1",
    "cyclic, with a loop": "0 0 1 0,0,\n0 1 1 0,0,\n1",
    "no final state can be reached": "0 1 1 0,0,\n2 1 1 0,0,\n2",
    "NaN or -inf cost": "0 1 1 nan,0,\n1",
    "NaN or -inf cost, at the end": "0 1 1 0,0,\n1 0,-inf,",
    "NaN or -inf cost, from inf - inf": "0 1 1 inf,-inf,\n1",
    "word id 10 >= vocabulary size 10": "0 1 10 0,0,\n1",
    "negative word id -3": "0 1 -3 0,0,\n1",
}


@pytest.mark.parametrize("name", FAULTS)
def test_check_names_the_fault(name) -> None:
    """A lattice with a fault gets its reason, the good ones around it none; searches step over it."""
    good = parse(SMALL)
    lattices = build(good, parse(FAULTS[name]), good)
    reason = name.split(",")[0]
    assert paths.check(lattices, num_words=10) == [None, reason, None]
    found = paths.nbest(lattices, 5, 0.1)
    counts = np.diff(found.lattice_offsets).tolist()
    assert counts == [3, 1 if "word" in reason else 0, 3]
    assert not math.isnan(paths.forward_backward(lattices, 0.1)[0].sum())
    pruned = paths.prune(lattices, 100.0, 0.1)
    assert readable(pruned, 0) == readable(pruned, 2) == readable(lattices, 0)
    assert pruned.start.tolist() == [0, 0 if "word" in reason else -1, 0]
    assert_sorted_and_trim(pruned)


def test_empty_one_state_and_wordless_lattices() -> None:
    """An empty lattice has no path; one that is only a final state has one without arcs; epsilons are no words."""
    empty, one_state = Spec("empty", 0, (), {}), parse("0 1.5,2,4_4", "one")
    epsilons = parse("0 1 0 1,1,3\n1 2 0 1,1,3\n2", "eps")
    lattices = build(empty, one_state, epsilons)
    assert paths.check(lattices, 5) == ["empty", None, None]
    found = paths.nbest(lattices, 3, 1.0)
    assert found.lattice_offsets.tolist() == [0, 0, 1, 2]
    assert found.arc_offsets.tolist() == [0, 0, 2]
    assert (found.graph.tolist(), found.acoustic.tolist()) == ([1.5, 2.0], [2.0, 2.0])
    assert [array.tolist() for array in found.words(lattices)] == [[0, 0, 0], []]
    tree = paths.path_lattices(lattices, found, np.zeros(2), np.zeros(2))
    assert readable(tree, 1) == [((), (4, 4), 0.0, 2.0)]
    assert readable(tree, 2) == [((0, 0), (3, 3), 0.0, 2.0)]
    assert tree.start.tolist() == [-1, 0, 0]


def test_a_batch_of_nothing() -> None:
    """No lattices in, no lattices and no paths out."""
    nothing = build()
    assert len(paths.nbest(nothing, 5, 0.1)) == 0
    assert paths.check(nothing, 5) == []
    assert paths.prune(nothing, 5.0, 0.1).num_arcs == 0


def test_arcs_and_starts_outside_the_lattice_are_faults() -> None:
    """A damaged lattice in memory is named, not walked off its end."""
    good = parse("0 1 1 0,0,\n1")
    lattices = build(good, good)
    lattices.arc_dest[0] = 7
    lattices.start[1] = 9
    assert paths.check(lattices, 5) == ["an arc leads to a state that does not exist", "start state 9 does not exist"]
    assert len(paths.nbest(lattices, 5, 0.1)) == 0


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    """Offsets that point outside their arrays raise before anything is read through them."""
    lattices = build(parse(SMALL))
    damaged = SimpleNamespace(**{**arrays_of(lattices), "arc_offsets": lattices.arc_offsets * 1000})
    with pytest.raises(ValueError, match="arc_word has 6 elements, expected 6000"):
        paths.nbest(damaged, 1, 1.0)
    with pytest.raises(ValueError, match="keep_arc has 2 elements, expected 6"):
        paths.subset(lattices, [True, False], [True] * 6)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: paths.nbest(x, 0, 1.0),
        lambda x: paths.nbest(x, 1, math.nan),
        lambda x: paths.best_paths(x, 1.0, word_penalty=math.inf),
        lambda x: paths.prune(x, -1.0, 1.0),
        lambda x: paths.prune(x, math.nan, 1.0),
        lambda x: paths.forward_backward(x, math.inf),
    ],
)
def test_settings_out_of_range_are_refused(call) -> None:
    """n < 1, a negative beam, and scales that are not finite are the user's errors."""
    with pytest.raises(ConfigError, match="found"):
        call(build(parse(SMALL)))


def test_thousand_best_of_a_dense_lattice_are_found_fast_and_in_order() -> None:
    """600 arcs a frame, 40 frames, n = 1000: sorted, distinct, prefixes of each other for smaller n, in a moment."""
    lattices = build(dense(np.random.default_rng(1), num_frames=40, arcs_per_state=150))
    begun = time.perf_counter()
    found = paths.nbest(lattices, 1000, 0.1)
    seconds = time.perf_counter() - begun
    costs = found.graph + 0.1 * found.acoustic
    assert len(found) == 1000
    assert (np.diff(costs) >= -1e-9).all()
    assert len({tuple(row) for row in found.arcs.reshape(1000, 40).tolist()}) == 1000
    fewer = paths.nbest(lattices, 37, 0.1)
    assert (fewer.arcs == found.arcs[: len(fewer.arcs)]).all()
    assert seconds < 2.0  # 0.01 on an idle core


def test_large_costs_lose_no_precision() -> None:
    """A difference of 0.001 decides between paths whose costs are near 10^8."""
    lattices = build(parse("0 1 1 0,1e8,\n0 1 2 0,99999999.999,\n1 0,1,"))
    found = paths.nbest(lattices, 2, 1.0)
    assert found.words(lattices)[1].tolist() == [2, 1]
    assert np.diff(found.acoustic) == pytest.approx(0.001, abs=1e-6)
    assert paths.prune(lattices, 0.0005, 1.0).num_arcs == 1
    posterior = paths.forward_backward(lattices, 1.0)[0]
    assert posterior[1] / posterior[0] == pytest.approx(math.exp(0.001), rel=1e-6)


def test_other_threads_run_during_a_search() -> None:
    """The search lets go of Python's lock: a second thread counts on while it lasts."""
    lattices = build(*[dense(np.random.default_rng(1), num_frames=40, arcs_per_state=50)] * 6)
    running, ticks = threading.Event(), 0
    searching = threading.Thread(target=lambda: (running.set(), paths.nbest(lattices, 3000, 0.1), running.clear()))
    searching.start()
    running.wait()
    while running.is_set():
        ticks += 1
        time.sleep(0.0005)
    searching.join()
    assert ticks > 10


def arrays_of(lattices) -> dict[str, np.ndarray]:
    """The arrays of a batch by their names."""
    names = "compact start state_offsets arc_offsets final_graph final_acoustic final_tid_offsets final_tids arc_word "
    names += "arc_dest arc_graph arc_acoustic arc_tid_offsets arc_tids"
    return {name: getattr(lattices, name) for name in names.split()}


def tids_along(lattices, path: Path) -> tuple[int, ...]:
    """The transition-ids of a path, those of its final weight included."""
    tids = []
    for arc in path.arcs:
        tids += lattices.arc_tids[lattices.arc_tid_offsets[arc] : lattices.arc_tid_offsets[arc + 1]].tolist()
    state = path.final_state
    tids += lattices.final_tids[lattices.final_tid_offsets[state] : lattices.final_tid_offsets[state + 1]].tolist()
    return tuple(tids)


def approximately(rows: list[tuple]) -> list[tuple]:
    """The rows of `readable` with costs that may be off in the last digit."""
    return [(words, tids, pytest.approx(graph, abs=2e-6), pytest.approx(a, abs=2e-6)) for words, tids, graph, a in rows]


def assert_sorted_and_trim(lattices) -> None:
    """Starts are 0, arcs lead to higher states, and every state is on a complete path."""
    sources = np.repeat(np.arange(lattices.num_states), np.diff(lattices.arc_offsets))
    owner = np.repeat(np.arange(len(lattices)), np.diff(lattices.state_offsets))
    dests = lattices.arc_dest + lattices.state_offsets[owner[sources]]
    assert (dests > sources).all()
    assert (lattices.start == np.where(np.diff(lattices.state_offsets) > 0, 0, -1)).all()
    offsets, states = paths.useful_states(lattices)
    assert offsets.tolist() == lattices.state_offsets.tolist()
    assert states.tolist() == list(range(lattices.num_states))
