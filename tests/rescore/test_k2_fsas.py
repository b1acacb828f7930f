# SPDX-License-Identifier: Apache-2.0
"""Kaldi lattices to k2 and back: nothing is lost, and k2's own functions keep what they need to come back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings

from kaldi_mpq import native
from kaldi_mpq.errors import LatticeError
from kaldi_mpq.native import Lattices
from kaldi_mpq.rescore.k2_fsas import to_fsas
from kaldi_mpq.rescore.k2_kaldi import to_kaldi
from tests.native.random_lattices import Arc, Spec, batches, build, enumerate_paths, parse, readable

k2 = pytest.importorskip("k2", reason="k2 cannot be imported", exc_type=ImportError)
torch = pytest.importorskip("torch")

quick = settings(max_examples=60, deadline=None)
FIELDS = (
    "compact", "start", "state_offsets", "arc_offsets", "final_graph", "final_acoustic", "final_tid_offsets",
    "final_tids", "arc_word", "arc_dest", "arc_graph", "arc_acoustic", "arc_tid_offsets", "arc_tids",
)  # fmt: skip

# The paths: "1 2" (graph 3, acoustic 30) and "3" (7, 5); state 4 leads nowhere; the start is state 2.
SMALL = """
2 1 1 1,10,7_7
2 0 3 6,5,9
2 4 2 0,0,
1 0 2 1,20,5
0 1,0,6
"""


def assert_same(mine: Lattices, theirs: Lattices) -> None:
    """Equal keys and equal arrays, to the last bit."""
    assert mine.keys == theirs.keys
    for name in FIELDS:
        assert getattr(mine, name).tobytes() == getattr(theirs, name).tobytes(), name


@quick
@given(batches())
def test_there_and_back(lattices) -> None:
    """Bit for bit: both lattice types, unsorted, useless states, infinite costs, empty lattices."""
    assert_same(to_kaldi(to_fsas(lattices, 0.1)), lattices)


def test_there_and_back_where_lattices_are_odd() -> None:
    """Cyclic, no end, no arcs, half-infinite and NaN costs, words that k2 has no label for, keys that are no UTF-8."""
    nan, inf = math.nan, math.inf
    arcs = (Arc(1, 0, 5, inf, 2.0), Arc(1, 1, -1, -inf, 0.0, (1, 2)), Arc(0, 1, -7, nan, -0.0))
    odd = Spec("odd\udcff", 3, arcs, {0: (inf, 1.0, ()), 1: (1.5, nan, (3,)), 2: (inf, inf, (4,))}, start=1)
    specs = [parse("0 1 1 0,0,\n1 0 1 0,0,\n1", "cyclic"), parse("0 1 1 0,0,", "endless"), odd]
    alone = Spec("alone", 1, (), {0: (0.0, 0.0, ())}, compact=False)
    lattices = build(*specs, alone, Spec("dead", 2, (), {}), Spec("none", 0, (), {}))
    fsas = to_fsas(lattices, 0.1)
    assert fsas.shape[0] == 6
    assert not fsas.scores.isnan().any()
    assert_same(to_kaldi(fsas), lattices)
    assert_same(to_kaldi(to_fsas(build())), build())


def test_a_lattice_without_a_start_is_empty() -> None:
    """Kaldi finds nothing in it either; its neighbours keep everything."""
    good = parse(SMALL)
    startless = build(good, good, good)
    startless.start[1] = -1
    back = to_kaldi(to_fsas(startless))
    assert back.keys == startless.keys
    assert_same(back.select([0, 2]), startless.select([0, 2]))
    assert np.diff(back.state_offsets).tolist() == [5, 0, 5]


@pytest.mark.parametrize("job", ["lat.1.gz", "lat.2.gz", "lat.4.gz"])
def test_real_lattices_there_and_back(testbed, job) -> None:
    """Kaldi's own lattices, bit for bit."""
    with native.LatticeReader(str(testbed / "exp/chain/tdnn/decode_dev_tg" / job)) as reader:
        lattices = next(iter(reader.batches(max_lattices=50)))
    assert_same(to_kaldi(to_fsas(lattices, 0.1)), lattices)


def test_labels_scores_and_numbers() -> None:
    """Words as labels and aux_labels, scores that split as icefall's do, numbers of Kaldi's arcs and states."""
    fsas = to_fsas(build(Spec("empty", 0, (), {}), parse(SMALL)), acoustic_scale=0.1, graph_scale=2.0)
    # Kaldi's arcs: 0: state 1 -> 0; 1, 2, 3: from state 2. FSA states: the start, then 0, 1, 3, 4, then the final one.
    rows = fsas.arcs.values()[:, :3].tolist()
    assert rows == [[0, 2, 1], [0, 1, 3], [0, 4, 2], [1, 5, -1], [2, 1, 2]]
    assert fsas.aux_labels.tolist() == [1, 3, 2, -1, 2]
    assert fsas.scores.tolist() == pytest.approx([-3.0, -12.5, 0.0, -2.0, -4.0])
    assert (fsas.scores - fsas.lm_scores).tolist() == pytest.approx([-1.0, -0.5, 0.0, 0.0, -2.0])
    assert (fsas.graph_cost.dtype, fsas.acoustic_cost.dtype) == (torch.float64, torch.float64)
    assert fsas.tids.tolist() == [[7, 7], [9], [], [6], [5]]
    assert fsas.kaldi_arc.tolist() == [1, 2, 3, -1, 0]
    assert fsas.kaldi_state.tolist() == [-1, -1, -1, 0, -1]
    assert fsas.kaldi_lattice.tolist() == [1] * 5


@quick
@given(batches())
def test_best_paths_of_k2_come_back(lattices) -> None:
    """connect, top_sort, shortest_path: words, costs and transition-ids are those of one of the best paths."""
    lattices = Lattices.concat([lattices, build(parse(SMALL, "small"))])  # k2 fails where there is one arc in all
    fsas = k2.top_sort(k2.connect(to_fsas(lattices, 0.1)))
    usable = [i for i in range(len(lattices)) if enumerate_paths(lattices, i)]
    chosen = k2.index_fsa(fsas, torch.tensor(usable, dtype=torch.int32))
    back = to_kaldi(k2.shortest_path(chosen, use_double_scores=True))
    assert back.keys == [lattices.keys[i] for i in usable]
    best = native.best_paths(lattices, 0.1)
    for row, index in enumerate(usable):
        (path,) = readable(back, row)
        cost = best.graph[row] + 0.1 * best.acoustic[row]
        assert path[2] + 0.1 * path[3] == pytest.approx(cost, rel=1e-4, abs=1e-4)
        same = [(words, tids) for words, tids, *costs in readable(lattices, index) if costs == pytest.approx(path[2:])]
        assert path[:2] in same


def test_removing_epsilons_keeps_costs_and_transition_ids() -> None:
    """k2 joins arcs: costs are added, transition-ids follow each other, a Lattice becomes a CompactLattice."""
    spec = Spec("utt", 4, (Arc(0, 1, 0, 1.0, 2.0, (1,)), Arc(1, 2, 5, 1.0, 4.0, (2,)), Arc(2, 3, 0, 0.5, 0.0, (3,))),
                {3: (0.25, 1.0, ())}, compact=False)  # fmt: skip
    lattices = build(Spec("first", 1, (), {0: (0.0, 0.0, ())}), spec)
    back = to_kaldi(k2.remove_epsilon(to_fsas(lattices)))
    assert back.keys == lattices.keys
    assert back.compact.tolist() == [1, 1]
    ((words, tids, graph, acoustic),) = readable(back, 1)
    assert (words, tids, graph, acoustic) == ((5,), (1, 2, 3), 2.75, 7.0)


def test_keys_follow_their_lattices() -> None:
    """Selected and reordered FSAs keep their keys; where that cannot be told, the user is asked."""
    lattices = build(*(parse(SMALL.replace("6,5,9", f"{i},5,9"), f"utt-{i}") for i in range(3)))
    fsas = to_fsas(lattices)
    chosen = k2.index_fsa(fsas, torch.tensor([2, 0], dtype=torch.int32))
    assert_same(to_kaldi(chosen), lattices.select([2, 0]))
    assert to_kaldi(fsas[1]).keys == ["utt-1"]
    twice = k2.cat([fsas, fsas])
    with pytest.raises(LatticeError, match=r"keys=\[\.\.\.\]"):
        to_kaldi(twice)
    assert to_kaldi(twice, list("abcdef")).keys == list("abcdef")
    with pytest.raises(LatticeError, match="expected 3 keys, found 2"):
        to_kaldi(fsas, ["a", "b"])


def test_composition_with_a_grammar_keeps_what_kaldi_needs() -> None:
    """An unweighted acceptor of "1 2" leaves that path of the lattice, with its transition-ids and both costs."""
    fsas = k2.connect(to_fsas(build(parse(SMALL))))
    grammar = k2.create_fsa_vec([k2.linear_fsa([1, 2])])
    left = k2.intersect_device(grammar, k2.arc_sort(fsas), torch.zeros(1, dtype=torch.int32), sorted_match_a=False)
    back = to_kaldi(k2.connect(left))
    assert readable(back, 0) == [((1, 2), (7, 7, 5, 6), 3.0, 30.0)]
