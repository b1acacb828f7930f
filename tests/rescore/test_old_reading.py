# SPDX-License-Identifier: Apache-2.0
"""Lattices lose the old language model as it is read: by cheapest paths, as decoding put it in, or by backing off."""

from __future__ import annotations

import itertools
import logging
import math

import numpy as np
import pytest

from kaldi_mpq import native
from kaldi_mpq.native.old_lm import open_old_lm
from kaldi_mpq.rescore.composition import SearchSettings
from kaldi_mpq.rescore.lattice_run import LatticeRescorer
from kaldi_mpq.rescore.old_lm_check import doubt_old_lm
from tests.native.old_lm_files import fst_bytes
from tests.native.random_lattices import build, dense, readable
from tests.native.test_search import ARRAYS


def lattices_of(seed: int) -> native.Lattices:
    """Return random lattices of three words."""
    rng = np.random.default_rng(seed)
    made = build(*(dense(rng, 5, 2, key=f"utt-{i}") for i in range(3)))
    arrays = {name: getattr(made, name) for name in ARRAYS if name != "arc_word"}
    return native.Lattices.from_arrays(**arrays, arc_word=made.arc_word % 3 + 1)


def graph_costs(lattices, index: int) -> dict[tuple, float]:
    """Return each path's graph cost; words and acoustic cost tell paths apart here."""
    rows = readable(lattices, index)
    costs = {(words, round(acoustic, 3)): graph for words, _, graph, acoustic in rows}
    assert len(costs) == len(rows)
    return costs


@pytest.mark.parametrize("reading", ["best", "backoff"])
def test_the_old_lm_is_taken_out_as_it_is_read(tmp_path, reading):
    """With weight 1 of the old model and no new one, every path loses what the reading says of its words."""
    loop = [(word, word, 1.0 + word, 1) for word in (1, 2, 3)]
    states = [
        {"final": math.inf, "arcs": [(9, 0, 0.5, 1), (1, 1, 4.0, 2)]},
        {"final": 2.0, "arcs": [*loop]},
        {"final": 0.75, "arcs": [(9, 0, 0.5, 1), (2, 2, 5.0, 1)]},
    ]
    (tmp_path / "G.fst").write_bytes(fst_bytes(states))
    old = open_old_lm(tmp_path / "G.fst")
    lattices, search = lattices_of(11), SearchSettings(acoustic_scale=1.0, beam=math.inf)
    out = LatticeRescorer((old, 1.0), [], 100, search, old_reading=reading).rescore(lattices)
    for i in range(len(lattices)):
        costs = graph_costs(lattices, i)
        assert costs.keys() == graph_costs(out, i).keys()
        for path, graph in graph_costs(out, i).items():
            words = np.array(path[0], np.int32)
            word, final = old.score(np.array([0, len(words)]), words, reading)
            assert graph == pytest.approx(costs[path] - word.sum() - final[0], abs=1e-3)


def test_both_ways_of_rescoring_take_out_the_same(testbed):
    """Real lattices without their old LM: every path is left with what an N-best list leaves it with."""
    with native.LatticeReader(str(testbed / "exp/chain/tdnn/decode_eval_tg/lat.4.gz")) as reader:
        lattices = next(iter(reader.batches(max_lattices=40)))
    old = open_old_lm(testbed / "data/lang_tg/G.fst")
    out = LatticeRescorer((old, 1.0), [], 2**31 - 1, SearchSettings(beam=4.0)).rescore(lattices)
    paths, before = native.nbest(out, 5, 0.1), native.nbest(lattices, 200, 0.1)
    known = _sentences(before, lattices)
    offsets, words = paths.words(out)
    word, final = old.score(offsets, words, "best")
    compared = 0
    for lattice, sentence, graph, acoustic, old_cost in zip(
        np.repeat(np.arange(len(out)), np.diff(paths.lattice_offsets)), _split(offsets, words), paths.graph,
        paths.acoustic, np.add.reduceat(np.append(word, 0.0), offsets[:-1]) * (np.diff(offsets) > 0) + final,
    ):  # fmt: skip
        for key, cost in known.items():
            if key[:2] == (lattice, sentence) and abs(key[2] - acoustic) < 1e-2:
                assert graph == pytest.approx(cost - old_cost, abs=5e-3)
                compared += 1
    assert compared > 100


def _split(offsets, words) -> list[tuple[int, ...]]:
    return [tuple(words[b:e].tolist()) for b, e in itertools.pairwise(offsets)]


def _sentences(paths, lattices) -> dict[tuple, float]:
    """Return the graph costs of paths by (lattice, words, acoustic cost)."""
    whose = np.repeat(np.arange(len(lattices)), np.diff(paths.lattice_offsets)).tolist()
    return dict(zip(zip(whose, _split(*paths.words(lattices)), paths.acoustic.tolist()), paths.graph.tolist()))


def test_the_other_reading_is_noticed(testbed, caplog):
    """Decoding takes cheapest paths: that reading of the G.fst inside raises no doubt, the other one does."""
    archive = testbed / "exp/chain/tdnn/decode_eval_tg/lat.4.gz"
    old = open_old_lm(testbed / "data/lang_tg/G.fst")
    with caplog.at_level(logging.WARNING):
        doubt_old_lm(old, archive, 0.1, "best", "--old-reading backoff")
        assert not caplog.text
        doubt_old_lm(old, archive, 0.1, "backoff", "--old-reading best")
    assert "backs off in another way" in caplog.text and "--old-reading best" in caplog.text
