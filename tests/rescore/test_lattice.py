# SPDX-License-Identifier: Apache-2.0
"""k2 and native code do the same to lattices; the FsaVec remembers the Kaldi arcs that it was made of."""

from __future__ import annotations

import logging
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.native import LatticeReader
from kaldi_mpq.native import paths as native
from kaldi_mpq.rescore import lattice
from tests.native.random_lattices import Spec, batches, build, dense, enumerate_paths, parse, readable

quick = settings(max_examples=40, deadline=None)
SCALES = st.sampled_from([(1.0, 1.0), (0.1, 1.0), (1.0, 0.0), (0.3, -2.0)])  # acoustic, graph
CLOSE = {"rel": 1e-4, "abs": 1e-4}

# The paths: "1 2" (graph 3, acoustic 30) and "3" (7, 5); state 4 leads nowhere.
SMALL = """
2 1 1 1,10,7_7
2 0 3 6,5,9
2 4 2 0,0,
1 0 2 1,20,5
0 1,0,6
"""


@pytest.fixture(scope="module")
def ops() -> lattice.LatticeOps:
    """The k2 backend."""
    pytest.importorskip("k2", reason="k2 cannot be imported", exc_type=ImportError)
    return lattice.lattice_ops("k2")


def costs(found: native.Paths, acoustic_scale: float, graph_scale: float) -> np.ndarray:
    """Scaled total costs of paths."""
    return graph_scale * found.graph + acoustic_scale * found.acoustic


def test_arcs_of_the_fsa_know_their_kaldi_arcs(ops) -> None:
    """Labels, scores and Kaldi numbers of a small lattice, arc by arc, the useless arc left out."""
    empty, cyclic = Spec("empty", 0, (), {}), parse("0 1 1 0,0,\n1 0 1 0,0,\n1")
    lattices = build(empty, parse(SMALL), cyclic, parse("0 1.5,2,4"))
    made = lattice.to_k2(lattices, acoustic_scale=0.1, graph_scale=2.0, word_penalty=0.25)
    assert made.index.tolist() == [1, 3]
    assert made.fsas.shape == (2, None, None)
    rows = made.fsas.arcs.values()[:, :3].tolist()
    # Kaldi's arcs: 0: state 1 -> 0; 1, 2, 3: from state 2; the batch's states 0 to 4 are those of SMALL.
    assert rows == [[0, 1, 1], [0, 2, 3], [1, 2, 2], [2, 3, -1], [0, 1, -1]]
    assert made.fsas.kaldi_arc.tolist() == [1, 2, 0, -1, -1]
    assert made.fsas.kaldi_state.tolist() == [-1, -1, -1, 0, 7]
    assert made.fsas.scores.tolist() == pytest.approx([-3.25, -12.75, -4.25, -2.0, -3.2])


@quick
@given(batches(), SCALES)
def test_the_fsa_has_the_paths_of_the_lattice(ops, lattices, scales) -> None:
    """Walking the FSA by Kaldi arc numbers gives the brute-force list of paths, with its costs as scores."""
    made = lattice.to_k2(lattices, *scales)
    truth = {index: enumerate_paths(lattices, index) for index in range(len(lattices))}
    usable = [index for index, listed in truth.items() if listed]
    assert (made.index.tolist() if made else []) == usable
    for number, index in enumerate(usable):
        expected = {(p.arcs, p.final_state): -scales[1] * p.graph - scales[0] * p.acoustic for p in truth[index]}
        walked = walk(made.fsas[number])
        assert walked.keys() == expected.keys()
        for path, score in walked.items():
            assert score == pytest.approx(expected[path], **CLOSE)


@quick
@given(batches(), SCALES, st.sampled_from([0.0, 1.5]))
def test_best_paths_are_the_native_ones(ops, lattices, scales, penalty) -> None:
    """Equal costs per lattice, and totals that are those of the arcs; where paths tie, either may be chosen."""
    mine, theirs = ops.best_paths(lattices, *scales, penalty), native.best_paths(lattices, *scales, penalty)
    assert mine.lattice_offsets.tolist() == theirs.lattice_offsets.tolist()
    words, others = (np.diff(found.words(lattices)[0]) for found in (mine, theirs))
    penalised = costs(theirs, *scales) + penalty * others
    assert costs(mine, *scales) + penalty * words == pytest.approx(penalised, **CLOSE)
    for index in range(len(lattices)):
        by_arcs = {(path.arcs, path.final_state): path for path in enumerate_paths(lattices, index)}
        for p in range(mine.lattice_offsets[index], mine.lattice_offsets[index + 1]):
            arcs = tuple(mine.arcs[mine.arc_offsets[p] : mine.arc_offsets[p + 1]].tolist())
            truth = by_arcs[arcs, int(mine.final_state[p])]
            assert (mine.graph[p], mine.acoustic[p]) == pytest.approx((truth.graph, truth.acoustic))


@quick
@given(batches(), SCALES)
def test_posteriors_are_the_native_ones(ops, lattices, scales) -> None:
    """Posteriors of arcs and final weights, and totals, agree to 1e-4; unusable lattices have 0 and -inf in both."""
    for mine, theirs in zip(
        ops.forward_backward(lattices, *scales), native.forward_backward(lattices, *scales), strict=True
    ):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@quick
@given(batches(), st.floats(0, 40), st.sampled_from([0.1, 1.0]))
def test_pruned_lattices_are_the_native_ones(ops, lattices, beam, acoustic_scale) -> None:
    """The same paths are left, unless a path's distance from the best is the beam to five digits."""
    narrow, wide = (native.prune(lattices, max(beam + d, 0.0), acoustic_scale) for d in (-1e-4, 1e-4))
    mine = ops.prune(lattices, beam, acoustic_scale)
    assert mine.keys == lattices.keys
    for index in range(len(lattices)):
        kept = readable(mine, index)
        assert set(readable(narrow, index)) <= set(kept) <= set(readable(wide, index))
    if narrow.num_arcs == wide.num_arcs:
        assert mine.arc_dest.tolist() == narrow.arc_dest.tolist()
        assert mine.start.tolist() == narrow.start.tolist()


@quick
@given(batches(), st.floats(0, 1), SCALES)
def test_pruning_by_posterior_is_the_native_one(ops, lattices, threshold, scales) -> None:
    """The same paths are left, unless a posterior is the threshold to four digits; k2's own function says the same."""
    mine, native_ops = ops.prune_by_posterior(lattices, threshold, *scales), lattice.lattice_ops("native")
    few, many = (
        native_ops.prune_by_posterior(lattices, min(max(threshold + d, 0.0), 1.0), *scales) for d in (2e-4, -2e-4)
    )
    if few.num_arcs == many.num_arcs and few.num_states == many.num_states:
        assert [readable(mine, i) for i in range(len(lattices))] == [readable(few, i) for i in range(len(lattices))]
    made = lattice.to_k2(lattices, *scales)
    if made is None or not 0 < threshold < 1:
        return
    k2s = set(sys.modules["k2"].prune_on_arc_post(made.fsas, threshold, True).kaldi_arc.tolist()) - {-1}
    posterior = native.forward_backward(lattices, *scales)[0]
    likely, possible = (set(np.flatnonzero(posterior >= threshold + d).tolist()) for d in (2e-4, -2e-4))
    assert likely <= k2s <= possible


@quick
@given(batches(), SCALES)
def test_word_confidences_are_the_native_ones(ops, lattices, scales) -> None:
    """The same times and confidences of the words of the same path, to 1e-4; ties apart."""
    (mine, sure), (theirs, truth) = (
        chosen.word_confidences(lattices, *scales) for chosen in (ops, lattice.lattice_ops("native"))
    )
    if mine.arcs.tolist() == theirs.arcs.tolist():
        assert sure.begin_frame.tolist() == truth.begin_frame.tolist()
        assert sure.end_frame.tolist() == truth.end_frame.tolist()
        np.testing.assert_allclose(sure.confidence, truth.confidence, atol=1e-4)
    assert ((sure.confidence >= 0) & (sure.confidence <= 1)).all()


def test_a_batch_without_a_usable_lattice(ops) -> None:
    """No FsaVec, no paths, zero posteriors, empty lattices; settings out of range are refused as by native code."""
    lattices = build(Spec("empty", 0, (), {}), parse("0 1 1 0,0,\n1 0 1 0,0,\n1"))
    assert lattice.to_k2(lattices, 1.0) is None
    assert len(ops.best_paths(lattices, 1.0)) == 0
    assert [x.tolist() for x in ops.forward_backward(lattices, 1.0)] == [[0, 0], [0, 0], [-math.inf, -math.inf]]
    assert ops.prune(lattices, 1.0, 1.0).num_states == 0
    good = build(parse(SMALL))
    for call in (lambda: ops.prune(good, -1.0, 1.0), lambda: ops.best_paths(good, math.nan)):
        with pytest.raises(ConfigError):
            call()


def test_dense_lattices_agree(ops) -> None:
    """More than 10^20 paths: total, posteriors and best path are the native ones at the acoustic scales in use."""
    lattices = build(*(dense(np.random.default_rng(i), 30, 40, f"utt-{i}") for i in range(3)))
    assert_equal_on(ops, lattices)


@pytest.mark.parametrize("job", ["decode_dev_tg/lat.1.gz", "decode_dev_tg/lat.4.gz"])
def test_real_lattices_agree(ops, testbed, job) -> None:
    """The same on Kaldi's lattices, sparse and dense."""
    with LatticeReader(str(testbed / "exp/chain/tdnn" / job)) as reader:
        assert_equal_on(ops, next(iter(reader.batches(max_lattices=20))))


def test_the_backend_is_chosen_once_and_logged(caplog, monkeypatch) -> None:
    """Without k2 "auto" is native and says what to install; asking for k2 is then an error, and nonsense always is."""
    monkeypatch.setitem(sys.modules, "k2", None)  # makes "import k2" fail
    lattice.lattice_ops.cache_clear()
    try:
        with caplog.at_level(logging.INFO):
            chosen = lattice.lattice_ops("auto")
            assert lattice.lattice_ops("auto") is chosen
        assert len(caplog.records) == 1
        assert "native: no k2 for this torch" in caplog.text and "k2==1.23.4" in caplog.text
        assert chosen.prune is native.prune
        with pytest.raises(ConfigError, match=r"install k2==1\.23\.4"):
            lattice.lattice_ops("k2")
        with pytest.raises(ConfigError, match="unknown lattice backend"):
            lattice.lattice_ops("k3")
    finally:
        lattice.lattice_ops.cache_clear()


def test_k2_is_the_default_where_it_can_be_imported(ops) -> None:
    """auto = k2 here; N-best lists are native, because k2 has no exact ones."""
    chosen = lattice.lattice_ops("auto")
    assert chosen.name.startswith("k2 1.")
    assert chosen.best_paths is ops.best_paths
    assert chosen.nbest is native.nbest


def walk(fsa) -> dict[tuple[tuple[int, ...], int], float]:
    """Every path of one FSA: (Kaldi arcs, Kaldi final state) -> score."""
    rows, scores = fsa.arcs.values()[:, :3].tolist(), fsa.scores.tolist()
    arcs, states = fsa.kaldi_arc.tolist(), fsa.kaldi_state.tolist()
    found, open_paths = {}, [((), 0, 0.0)]
    while open_paths:
        path, state, score = open_paths.pop()
        for i, (source, dest, label) in enumerate(rows):
            if source != state:
                continue
            if label == -1:
                found[path, states[i]] = score + scores[i]
            else:
                open_paths.append(((*path, arcs[i]), dest, score + scores[i]))
    return found


def assert_equal_on(ops: lattice.LatticeOps, lattices) -> None:
    """Every operation of the backend gives what native code gives on these lattices."""
    for scales in ((0.1, 1.0), (1 / 7, 1.0), (1.0, 1.0)):
        mine, theirs = ops.best_paths(lattices, *scales), native.best_paths(lattices, *scales)
        assert costs(mine, *scales) == pytest.approx(costs(theirs, *scales), rel=1e-4)
        posteriors, truth = ops.forward_backward(lattices, *scales), native.forward_backward(lattices, *scales)
        for ours, true in zip(posteriors, truth, strict=True):
            np.testing.assert_allclose(ours, true, rtol=1e-4, atol=1e-4)
    (best, sure), (_, truth) = (
        chosen.word_confidences(lattices, 0.1) for chosen in (ops, lattice.lattice_ops("native"))
    )
    assert len(sure.confidence) == len(best.words(lattices)[1])
    np.testing.assert_allclose(sure.confidence, truth.confidence, atol=1e-3)
    mine, theirs = ops.prune(lattices, 6.0, 0.1), native.prune(lattices, 6.0, 0.1)
    assert abs(mine.num_arcs - theirs.num_arcs) <= 1e-4 * theirs.num_arcs
