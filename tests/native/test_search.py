# SPDX-License-Identifier: Apache-2.0
"""Pruned composition: held against all paths by brute force; and numbers for rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.native.search import RowTable, Searches
from tests.native.automata import Table, backoff_fst, search, table_of
from tests.native.random_lattices import batches, build, dense, parse, readable

MODELS = st.integers(0, 2**32 - 1).map(np.random.default_rng).map(lambda rng: table_of(backoff_fst(rng, 4)))


def trimmed(lattices: native.Lattices) -> native.Lattices:
    """Return the usable lattices, sorted, without dead ends."""
    usable = np.array([reason is None for reason in native.check(lattices, 2**31 - 1)])
    return native.prune(lattices.select(np.flatnonzero(usable)), math.inf, 1.0)


def check_close(ours: list[tuple], wanted: list[tuple], tolerance: float = 1e-3) -> None:
    """Fail unless two lists of `readable` paths are the same, costs aside by less than the tolerance."""
    assert [row[:2] for row in ours] == [row[:2] for row in wanted]
    for column in (2, 3):
        np.testing.assert_allclose([row[column] for row in ours], [row[column] for row in wanted], atol=tolerance)


@settings(max_examples=150, deadline=None)
@given(lattices=batches(max_lattices=2), model=MODELS, frontier=st.sampled_from([1, 3, 50]))
def test_without_a_beam_every_path_gets_the_models_cost(lattices, model, frontier):
    """Exact composition keeps all paths with their words, alignments and acoustic costs, and adds the model's cost."""
    lattices = trimmed(lattices)
    out = search(lattices, model, frontier=frontier)
    for i in range(len(lattices)):
        wanted = [
            (words, tids, graph + model.cost(words), acoustic)
            for words, tids, graph, acoustic in readable(lattices, i)
        ]
        check_close(readable(out, i), sorted(wanted))


@settings(max_examples=100, deadline=None)
@given(lattices=batches(max_lattices=2), model=MODELS, beam=st.floats(0, 20), frontier=st.sampled_from([1, 4]))
def test_a_beam_only_leaves_out_paths(lattices, model, beam, frontier):
    """What is left are paths of the exact composition, at least one."""
    lattices = trimmed(lattices)
    exact, pruned = search(lattices, model), search(lattices, model, beam=beam, frontier=frontier)
    for i in range(len(lattices)):
        all_paths = {row[:2] for row in readable(exact, i)}
        paths = {row[:2] for row in readable(pruned, i)}
        assert paths and paths <= all_paths


def test_the_best_path_is_found_and_most_of_a_dense_lattice_left_out():
    """On a lattice of 10^20 paths and a model that changes little, the output is small and has the very best path."""
    rng = np.random.default_rng(1)
    spec = dense(rng, 40, 6)
    lattices = trimmed(build(spec))
    lattices = native.Lattices.from_arrays(
        **{name: getattr(lattices, name) for name in ARRAYS if name != "arc_word"}, arc_word=lattices.arc_word % 4 + 1
    )
    model = table_of(backoff_fst(rng, 5), weight=0.1)
    pruned = search(lattices, model, beam=6.0, acoustic_scale=0.1, frontier=1)
    whole = search(lattices, model, acoustic_scale=0.1)
    best, truth = (native.best_paths(out, 0.1) for out in (pruned, whole))
    assert pruned.num_arcs < whole.num_arcs / 2
    found = best.graph + 0.1 * best.acoustic
    assert found == pytest.approx(truth.graph + 0.1 * truth.acoustic, abs=1e-3)


ARRAYS = ("keys", "compact", "start", "state_offsets", "arc_offsets", "final_graph", "final_acoustic")
ARRAYS += ("final_tid_offsets", "final_tids", "arc_word", "arc_dest", "arc_graph", "arc_acoustic")
ARRAYS += ("arc_tid_offsets", "arc_tids")


def test_max_arcs_stops_the_search_but_never_before_a_complete_path():
    """The limit holds once there is a path; a limit of one arc still leaves a whole path."""
    lattices = trimmed(build(dense(np.random.default_rng(2), 30, 5)))
    model = Table([{}], [0.0])
    model.step = lambda state, word: (0, 1.0)
    one = search(lattices, model, max_arcs=1)
    assert len(native.best_paths(one, 1.0)) == 1 and one.num_arcs < 200
    assert search(lattices, model, max_arcs=300).num_arcs <= 300


def test_what_the_model_lacks_is_left_out_and_nothing_possible_is_an_empty_lattice():
    """A word that costs infinity takes its arc away; a lattice with no other becomes empty, its neighbour does not."""
    two_words = build(parse("0 1 1 1,2,3\n0 1 2 5,6,7\n1 0,0,", "a"), parse("0 1 2 1,2,3\n1 0,0,", "b"))
    model = Table([{1: (0, 0.5)}], [0.25])
    out = search(two_words, model)
    assert readable(out, 0) == [((1,), (3,), 1.75, 2.0)]
    assert list(out.start) == [0, -1]


def test_a_model_that_allows_no_end_gives_an_empty_lattice():
    """Every path dies at its last word."""
    assert list(search(build(parse("0 1 1 1,2,3\n1 0,0,")), Table([{1: (0, 0.5)}], [math.inf])).start) == [-1]


def test_one_question_is_asked_once_in_a_search():
    """What was answered before is remembered, whichever path asks."""
    lattices = build(parse("\n".join(f"{i} {i + 1} 1 1,{k},3" for i in range(6) for k in range(3)) + "\n6 0,0,"))
    model = Table([{1: (0, 0.5)}], [0.0])
    search(lattices, model, frontier=1)
    assert model.calls == 2  # the word and the end


@pytest.mark.parametrize(
    "text", ["0 1 1 1,2,3\n1 0 1 1,1,\n1 0,0,", "1 0 1 1,2,3\n0 0,0,", "0 1 1 1,2,3\n0 2 1 1,1,\n1 0,0,"]
)
def test_lattices_that_are_not_prepared_are_refused(text):
    """A cycle, states in the wrong order, a dead end: ValueError, and no crash."""
    with pytest.raises(ValueError, match="trimmed"):
        search(build(parse(text)), Table([{}], [0.0]))


def test_only_those_asked_go_on():
    """A search that is not named waits, and ends as if it had not."""
    lattices = build(*(parse("0 1 1 1,2,3\n1 0,0,", f"utt-{i}") for i in range(2)))
    model = Table([{1: (0, 0.5)}], [0.0])
    searches, batch = Searches(1.0, 8.0), Searches.batch(lattices)
    for i in range(2):
        searches.add(i, batch, i, 0)
    for number in (0, 1):
        while len(questions := searches.ask([number])):
            assert set(questions.owners) == {number}
            searches.answer(*model.read(questions.owners, questions.states, questions.words))
        assert searches.done() == list(range(number + 1))
    out = searches.take([0, 1], lattices.keys)
    assert readable(out, 0) == readable(out, 1) == [((1,), (3,), 1.5, 2.0)]
    with pytest.raises(IndexError):
        searches.ask([0])


def test_answers_must_fit_the_questions():
    """As many as there are questions, and no NaN."""
    searches = Searches(1.0, 8.0)
    searches.add(0, Searches.batch(build(parse("0 1 1 1,2,3\n1 0,0,"))), 0, 0)
    assert len(searches.ask([0])) == 1
    with pytest.raises(ValueError, match="elements"):
        searches.answer(np.zeros(2, np.int32), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="NaN"):
        searches.answer(np.zeros(1, np.int32), np.full(1, np.nan, np.float32))


@pytest.mark.parametrize(
    "bad", [{"acoustic_scale": 0.0}, {"beam": -1.0}, {"max_arcs": 0}, {"growth": 1.0}, {"frontier": 0}]
)
def test_settings_out_of_range(bad):
    """Each is refused by name."""
    with pytest.raises(ConfigError, match=next(iter(bad))):
        Searches(**{"acoustic_scale": 1.0, "beam": 8.0, **bad})


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.tuples(st.integers(-2, 2), st.integers(-2, 2)), st.booleans()), max_size=60
    )
)
def test_row_table_is_a_dict_for_each_owner(steps):
    """Equal rows of an owner have one number, others different ones, and released numbers are used again."""
    table, known = RowTable(2), {}
    for owner, row, release in steps:
        if release:
            numbers = {number for (who, _), number in known.items() if who == owner}
            assert set(table.release(owner).tolist()) == numbers
            known = {key: number for key, number in known.items() if key[0] != owner}
            continue
        numbers, is_new = table.intern(np.array([owner], np.int32), np.array([row], np.int64))
        assert bool(is_new[0]) == ((owner, row) not in known)
        assert known.setdefault((owner, row), int(numbers[0])) == numbers[0]
        assert len(set(known.values())) == len(known) == len(table)
        assert table.rows(numbers).tolist() == [list(row)]
        assert table.find(owner, np.array([row, (9, 9)], np.int64)).tolist() == [int(numbers[0]), -1]
