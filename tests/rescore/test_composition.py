# SPDX-License-Identifier: Apache-2.0
"""Composition of batches: nothing is lost, order is kept, company does not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq import native
from kaldi_mpq.rescore.composition import Composer, SearchSettings, Stage, compose_stages
from tests.native.automata import backoff_fst, table_of
from tests.native.random_lattices import batches, build, parse, readable
from tests.native.test_reversal import without_epsilons

MODEL = table_of(backoff_fst(np.random.default_rng(4), 4))
EXACT = SearchSettings(acoustic_scale=1.0, beam=math.inf)


def composer(model=MODEL, vocab_size: int = 5, **options) -> Composer:
    """Return a composer of exact searches."""
    return Composer(model, vocab_size, SearchSettings(**{**vars(EXACT), **options}))


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(batches(max_lattices=4), max_size=4), active=st.integers(1, 3), held=st.sampled_from([0, 10**6]))
def test_every_lattice_comes_out_once_in_order(drawn, active, held):
    """Whatever is wrong with some: same keys, batch by batch; the faulty ones as they were, the others exact."""
    drawn = [native.Lattices.concat([lattices]) for lattices in drawn]
    outputs = list(composer(active=active, held_arcs=held).compose(drawn))
    assert [out.lattices.keys for out in outputs] == [lattices.keys for lattices in drawn]
    for before, out in zip(drawn, outputs):
        reasons = native.check(before, 5)
        for i, key in enumerate(before.keys):
            if reasons[i] is not None:
                assert out.faults[key] == reasons[i]
                assert native.Lattices.select(out.lattices, [i]).num_arcs == before.select([i]).num_arcs
            else:
                rows = readable(before, i)
                wanted = sorted((w, t, round(g + MODEL.cost(w), 3), round(a, 3)) for w, t, g, a in rows)
                found = sorted((w, t, round(g, 3), round(a, 3)) for w, t, g, a in readable(out.lattices, i))
                assert [row[:2] for row in found] == [row[:2] for row in wanted]
                np.testing.assert_allclose([row[2:] for row in found], [row[2:] for row in wanted], atol=3e-3)


def test_an_impossible_lattice_is_named_and_unchanged():
    """The model lacks its word; the utterances beside it are rescored."""
    two = build(parse("0 1 4 1,2,3\n1 0,0,", "lost"), parse("0 1 1 1,2,3\n1 0,0,", "kept"))
    model = table_of(backoff_fst(np.random.default_rng(4), 1))
    del model.steps[0][4]
    out = composer(model).compose_all(two)
    assert out.faults == {"lost": "the language models allow no path"}
    assert readable(out.lattices, 0) == readable(two, 0)
    assert readable(out.lattices, 1) != readable(two, 1)


def test_while_the_model_is_full_searches_begin_one_after_the_other():
    """``is_full`` holds lattices back, but never the only one."""
    lattices = build(*(parse("0 1 1 1,2,3\n1 2 2 1,1,4\n2 0,0,", f"utt-{i}") for i in range(6)))
    full = Composer(MODEL, 5, EXACT, is_full=lambda: True)
    free = Composer(MODEL, 5, EXACT)
    assert full.compose_all(lattices).lattices.keys == free.compose_all(lattices).lattices.keys
    assert full.rounds == 6 * free.rounds


@settings(max_examples=40, deadline=None)
@given(lattices=batches(max_lattices=3))
def test_a_reversed_stage_reads_from_the_end(lattices):
    """A model in a reversed stage adds the cost of the reversed sentence; alignments keep their direction."""
    [out] = compose_stages([Stage(composer(), is_reversed=True)], [lattices])
    for i, key in enumerate(lattices.keys):
        if key in out.faults:
            assert readable(out.lattices, i) == readable(lattices, i)
            continue
        rows = [(w, t, g + MODEL.cost(w[::-1]), a) for w, t, g, a in readable(lattices, i)]
        wanted, found = without_epsilons(rows), without_epsilons(readable(out.lattices, i))
        assert [row[:2] for row in found] == [row[:2] for row in wanted]
        np.testing.assert_allclose([row[2:] for row in found], [row[2:] for row in wanted], atol=3e-3)


def test_a_lattice_that_fails_in_a_later_stage_is_as_it_was():
    """Not with the first stage's costs."""
    lattices = build(parse("0 1 4 1,2,3\n1 0,0,", "lost"), parse("0 1 1 1,2,3\n1 0,0,", "kept"))
    lacking = table_of(backoff_fst(np.random.default_rng(4), 1))
    del lacking.steps[0][4]
    [out] = compose_stages([Stage(composer()), Stage(composer(lacking))], [lattices])
    assert list(out.faults) == ["lost"]
    assert readable(out.lattices, 0) == readable(lattices, 0)
    assert out.lattices.keys == lattices.keys


def test_no_stage_changes_nothing(sample):
    """As with weights of 0."""
    with native.LatticeReader(str(sample / "exp/chain/tdnn/decode_dev_tg/lat.1.gz")) as reader:
        lattices = next(iter(reader.batches()))
    [out] = compose_stages([], [lattices])
    assert out.lattices is lattices


@pytest.mark.parametrize("frontier", [1, 16])
def test_company_does_not_matter(sample, frontier):
    """A real lattice comes out the same alone and among others."""
    with native.LatticeReader(str(sample / "exp/chain/tdnn/decode_dev_tg/lat.1.gz")) as reader:
        lattices = next(iter(reader.batches(max_lattices=8)))
    model = table_of(backoff_fst(np.random.default_rng(4), 1))
    model.step = lambda state, word: (word % 3, 0.1 * (word % 7) + 0.3 * state)
    settings = {"acoustic_scale": 0.1, "beam": 6.0, "frontier": frontier}
    together = composer(model, 2**31 - 1, **settings).compose_all(lattices).lattices
    for i in range(len(lattices)):
        alone = composer(model, 2**31 - 1, **settings).compose_all(lattices.select([i])).lattices
        assert alone.num_arcs == together.select([i]).num_arcs
        np.testing.assert_array_equal(alone.arc_graph, together.select([i]).arc_graph)


def test_a_lattice_of_a_million_arcs_ends_within_the_limit():
    """However dense, there is a complete path and no more arcs than allowed."""
    rng, frames, width, leaving = np.random.default_rng(0), 1000, 10, 100
    count = 1 + frames * width
    arcs_of = np.r_[np.full(count - width, leaving), np.zeros(width, np.int64)]
    source = np.repeat(np.arange(count), arcs_of)
    next_frame = np.where(source == 0, 0, (source - 1) // width + 1)
    total = len(source)
    final = np.where(arcs_of == 0, 0.0, np.inf)
    lattice = native.Lattices.from_arrays(
        keys=["dense"], compact=np.ones(1, np.uint8), start=np.zeros(1, np.int32), state_offsets=np.array([0, count]),
        arc_offsets=np.r_[0, np.cumsum(arcs_of)], final_graph=final, final_acoustic=final.copy(),
        final_tid_offsets=np.zeros(count + 1, np.int64), final_tids=np.empty(0, np.int32),
        arc_word=rng.integers(1, 5, total).astype(np.int32),
        arc_dest=(1 + next_frame * width + rng.integers(0, width, total)).astype(np.int32),
        arc_graph=rng.exponential(3.0, total), arc_acoustic=rng.normal(0.0, 30.0, total),
        arc_tid_offsets=np.arange(total + 1), arc_tids=np.ones(total, np.int32),
    )  # fmt: skip
    assert lattice.num_arcs == 999_100
    out = composer(acoustic_scale=0.1, beam=8.0, max_arcs=20_000).compose_all(lattice)
    assert out.faults == {} and out.lattices.num_arcs <= 20_000
    assert len(native.best_paths(out.lattices, 0.1)) == 1
