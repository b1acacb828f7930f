# SPDX-License-Identifier: Apache-2.0
"""G.fst: both readings against slow ones, the forms that a file can have; which file of a lang directory is taken."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import ConfigError, MissingInputError, OldLmError
from kaldi_mpq.native.old_lm import find_old_lm, open_old_lm
from tests.native.old_lm_files import Sentences, fst_bytes

INF = math.inf
WORDS = (1, 2, 3)

# A backoff bigram: state 0 is after <s>, state 1 the empty history, state 2 after word 1. There word 2 costs 5, but 1.5
# by backing off.
BIGRAM = [
    {"final": INF, "arcs": [(9, 0, 0.5, 1), (1, 1, 0.25, 2)]},
    {"final": 2.0, "arcs": [(1, 1, 1.0, 2), (2, 2, 1.0, 1), (3, 3, 3.0, 1)]},
    {"final": 0.75, "arcs": [(9, 0, 0.5, 1), (1, 1, 0.1, 2), (2, 2, 5.0, 1)]},
]


def all_paths(states, state, sentence):
    """Yield the cost of every path for a sentence, each as costs per word and a final cost."""
    for _, label, cost, dest in states[state]["arcs"]:
        if label == 0:
            for first, *rest in all_paths(states, dest, sentence):
                yield [cost + first, *rest]
        elif sentence and label == sentence[0]:
            for path in all_paths(states, dest, sentence[1:]):
                yield [cost, *path]
    if not sentence and states[state]["final"] < INF:
        yield [states[state]["final"]]


def backoff_path(states, state, sentence):
    """Return the costs of the deterministic reading."""
    cost, out = 0.0, []
    for word in sentence:
        while True:
            found = [arc for arc in states[state]["arcs"] if arc[1] == word]
            arc = found[0] if found else next((arc for arc in states[state]["arcs"] if arc[1] == 0), None)
            if arc is None:
                out.append(INF)
                break
            cost, state = cost + arc[2], arc[3]
            if found:
                out.append(cost)
                break
        cost = 0.0
    while states[state]["final"] == INF:
        arc = next((arc for arc in states[state]["arcs"] if arc[1] == 0), None)
        if arc is None:
            return [*out, INF]
        cost, state = cost + arc[2], arc[3]
    return [*out, cost + states[state]["final"]]


@st.composite
def automata(draw, deterministic):
    """Random states; epsilon arcs go to higher states only. Costs are sixteenths, which add without rounding."""
    count = draw(st.integers(1, 6))
    costs = st.integers(-16, 64).map(lambda n: n / 16)
    states = []
    for state in range(count):
        labels = draw(st.lists(st.sampled_from(WORDS), max_size=5, unique=deterministic))
        arcs = [(label, label, draw(costs), draw(st.integers(0, count - 1))) for label in labels]
        backoffs = draw(st.integers(0, 1 if deterministic else 2)) if state + 1 < count else 0
        arcs += [(9, 0, draw(costs), draw(st.integers(state + 1, count - 1))) for _ in range(backoffs)]
        states.append({"final": draw(st.one_of(st.just(INF), costs)), "arcs": draw(st.permutations(arcs))})
    return states


texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=5), max_size=5)


@settings(max_examples=150, deadline=None)
@given(states=automata(deterministic=False), lists=texts)
def test_best_reading_is_the_cheapest_of_all_paths(tmp_path_factory, states, lists):
    """The total is the least over all paths, and the costs of the words are those of one such path."""
    path = tmp_path_factory.getbasetemp() / "best.fst"
    path.write_bytes(fst_bytes(states))
    for sentence, costs in zip(lists, Sentences(lists).costs(open_old_lm(path), "best")):
        paths = list(all_paths(states, 0, sentence))
        least = min((sum(costs) for costs in paths), default=INF)
        assert sum(costs) == least
        if least < INF:
            # An epsilon arc counts with the word after it, as in `all_paths`.
            assert costs in paths


def word_by_word(lm, sentence, reading) -> list[float]:
    """Return the costs of a sentence's words and end, each read from the state that the one before led to."""
    row, costs = lm.initial(reading)[None], []
    for word in [*sentence, -1]:
        row, cost = lm.advance(row, np.array([word], np.int32), reading)
        costs.append(float(cost[0]))
    return costs


@settings(max_examples=150, deadline=None)
@given(states=automata(deterministic=False), lists=texts)
def test_best_reading_word_by_word_adds_up_to_the_cheapest_path(tmp_path_factory, states, lists):
    """Whatever follows: costs so far never exceed the cheapest path's, and with the end they are its."""
    path = tmp_path_factory.getbasetemp() / "steps.fst"
    path.write_bytes(fst_bytes(states))
    lm = open_old_lm(path)
    for sentence, costs in zip(lists, Sentences(lists).costs(lm, "best")):
        try:
            assert sum(word_by_word(lm, sentence, "best")) == sum(costs)
        except OldLmError as error:
            assert "not a backoff n-gram" in str(error) and "--old-reading backoff" in str(error)
            reject()


@pytest.mark.parametrize(("reading", "costs"), [("best", [0.25, 1.5, 2.0]), ("backoff", [0.25, 5.0, 2.0])])
def test_a_backoff_bigram_word_by_word(lm_files, reading, costs):
    """Word 2 after word 1 costs 5, but 1.5 by backing off: what is subtracted depends on the reading."""
    lm = open_old_lm(lm_files.write_fst(BIGRAM))
    assert word_by_word(lm, [1, 2], reading) == costs
    assert word_by_word(lm, [1, 7], reading)[1] == INF


@settings(max_examples=150, deadline=None)
@given(states=automata(deterministic=True), lists=texts)
def test_backoff_reading_takes_an_epsilon_arc_only_where_the_word_is_missing(tmp_path_factory, states, lists):
    """Word by word the costs are those of the slow reading, also after a word that is nowhere."""
    path = tmp_path_factory.getbasetemp() / "backoff.fst"
    path.write_bytes(fst_bytes(states))
    found = Sentences(lists).costs(open_old_lm(path), "backoff")
    for sentence, costs in zip(lists, found):
        slow = backoff_path(states, 0, sentence)
        if INF not in slow[:-1]:
            assert costs == slow
        else:
            first = slow.index(INF)
            assert costs[:first] == slow[:first] and costs[first] == INF


def test_readings_differ_where_backing_off_is_cheaper(lm_files):
    """Word 2 after word 1 costs 5, but 0.5 + 1 by the backoff arc."""
    lm = open_old_lm(lm_files.write_fst(BIGRAM))
    text = Sentences([[1, 2]])
    assert text.costs(lm, "backoff") == [[0.25, 5.0, 2.0]]
    assert text.costs(lm, "best") == [[0.25, 1.5, 2.0]]


def test_a_missing_word_costs_infinity_and_the_rest_is_read_with_an_empty_history(lm_files):
    """In both readings, and so does a sentence of such words only."""
    lm = open_old_lm(lm_files.write_fst(BIGRAM))
    for reading in ("best", "backoff"):
        assert Sentences([[1, 7, 3], [7]]).costs(lm, reading) == [[0.25, INF, 3.0, 2.0], [INF, 2.0]]


@pytest.mark.parametrize("reading", ["best", "backoff"])
def test_costs_do_not_depend_on_the_sentences_around(lm_files, reading):
    """What a sentence shares with the one before is not read again, yet its costs are those that it has on its own."""
    lm = open_old_lm(lm_files.write_fst(BIGRAM))
    text = lm_files.sentences(np.random.default_rng(1), 200, [0, 1, 2, 3, 7])
    alone = [Sentences([sentence]).costs(lm, reading)[0] for sentence in text.lists]
    assert text.costs(lm, reading) == alone
    assert Sentences(sorted(text.lists)).costs(lm, reading) == [
        costs for _, costs in sorted(zip(text.lists, alone), key=lambda pair: pair[0])
    ]


@pytest.mark.parametrize("reading", ["best", "backoff"])
def test_word_0_is_no_word(lm_files, reading):
    """Epsilons among the words cost nothing and change nothing."""
    lm = open_old_lm(lm_files.write_fst(BIGRAM))
    (plain,) = Sentences([[1, 2, 1]]).costs(lm, reading)
    (mixed,) = Sentences([[0, 1, 0, 2, 1, 0]]).costs(lm, reading)
    assert [mixed[i] for i in (1, 3, 4, 6)] == plain
    assert [mixed[i] for i in (0, 2, 5)] == [0, 0, 0]


def test_symbol_tables_and_arc_order_and_unknown_state_count_change_nothing(lm_files):
    """Files with symbol tables, unsorted arcs, or -1 for the number of states read alike."""
    text = lm_files.sentences(np.random.default_rng(2), 50, [1, 2, 3])
    expected = text.costs(open_old_lm(lm_files.write_fst(BIGRAM)))
    backwards = [{**state, "arcs": state["arcs"][::-1]} for state in BIGRAM]
    for variant in (
        lm_files.write_fst(BIGRAM, symbols=["<eps>", "é", "b", "c"]),
        lm_files.write_fst(backwards),
        lm_files.write_fst(BIGRAM, num_states=-1),
    ):
        assert text.costs(open_old_lm(variant)) == expected


def test_backoff_symbol_on_the_output_side_is_epsilon_too(lm_files):
    """An acceptor whose backoff arcs carry #0 on both sides reads like a transducer."""
    acceptor = [{**s, "arcs": [(9, 9, c, d) if o == 0 else (i, o, c, d) for i, o, c, d in s["arcs"]]} for s in BIGRAM]
    text = Sentences([[1, 2], [3, 1]])
    expected = text.costs(open_old_lm(lm_files.write_fst(BIGRAM)))
    assert text.costs(open_old_lm(lm_files.write_fst(acceptor), {"<eps>": 0, "x": 3, "#0": 9})) == expected


def test_labels_beyond_words_txt_are_refused(lm_files):
    """A G.fst of another lang directory is named as such."""
    with pytest.raises(OldLmError, match=r"G\.fst: .* words\.txt, expected ids up to 2, found 3"):
        open_old_lm(lm_files.write_fst(BIGRAM), {"<eps>": 0, "a": 1, "b": 2})


def test_ambiguous_arcs_are_reported(lm_files, caplog):
    """Two arcs of one word from one state: the log says how the backoff reading takes them."""
    states = [{"final": 0.0, "arcs": [(1, 1, 2.0, 0), (1, 1, 1.0, 0)]}]
    with caplog.at_level(logging.WARNING):
        open_old_lm(lm_files.write_fst(states))
    assert "1 states have several arcs of one label" in caplog.text


def test_no_sentences_and_bad_arrays(lm_files):
    """No sentences have no costs; arrays that are not sentences, and readings that do not exist, are ValueErrors."""
    lm = open_old_lm(lm_files.write_fst(BIGRAM))
    word, final = lm.score(np.zeros(1, np.int64), np.zeros(0, np.int32))
    assert len(word) == len(final) == 0
    for offsets, words in (([0, 3], [1, 2]), ([0, 2, 1, 2], [1, 2]), ([1, 2], [1, 2]), ([], []), ([0, 1], [-1])):
        with pytest.raises(ValueError, match=r"word"):
            lm.score(np.array(offsets, np.int64), np.array(words, np.int32))
    with pytest.raises(ValueError, match="reading"):
        lm.score(np.zeros(1, np.int64), np.zeros(0, np.int32), "viterbi")


def test_auto_takes_what_the_replaced_script_takes_and_says_so(tmp_path, caplog):
    """With both files: G.carpa or G.fst by preference, and a warning; with one file: that one, silently."""
    for name in ("G.fst", "G.carpa"):
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        assert find_old_lm(tmp_path) == tmp_path / "G.carpa"
        assert find_old_lm(tmp_path, prefer="fst") == tmp_path / "G.fst"
    assert caplog.text.count("has both G.fst and G.carpa") == 2
    (tmp_path / "G.carpa").unlink()
    caplog.clear()
    assert find_old_lm(tmp_path) == tmp_path / "G.fst"
    assert not caplog.records


def test_a_named_old_lm_is_taken_or_missing(tmp_path):
    """fst, carpa and a path mean that file; what is not there is named."""
    (tmp_path / "lm.arpa").touch()
    assert find_old_lm(tmp_path, tmp_path / "lm.arpa") == tmp_path / "lm.arpa"
    with pytest.raises(MissingInputError, match=r"G\.carpa, .*G\.fst|G\.fst, .*G\.carpa"):
        find_old_lm(tmp_path)
    for choice, name in (("fst", r"G\.fst"), ("carpa", r"G\.carpa"), ("no/such/file", "no/such/file")):
        with pytest.raises(MissingInputError, match=name):
            find_old_lm(tmp_path, choice)
    with pytest.raises(ConfigError, match="prefer"):
        find_old_lm(tmp_path, prefer="arpa")
