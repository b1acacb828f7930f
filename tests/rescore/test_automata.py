# SPDX-License-Identifier: Apache-2.0
"""Language models as automata: their costs are those of whole sentences, their states those of Kaldi's histories."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kaldi_mpq import native
from kaldi_mpq.lm.carried import Carried, carried
from kaldi_mpq.native.search import END
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.rescore.automata import NeuralAutomaton, NgramAutomaton, WeightedSum
from tests.native.old_lm_files import LmFiles, Sentences


@pytest.fixture(params=["lstm", "transformer"])
def model(request, make_lm):
    """A random model of each kind."""
    return open_lm(make_lm(model=request.param))


def read_sentence(automaton, words, owner: int = 0, context=None) -> list[float]:
    """Return the costs of a sentence's words and end, read one by one."""
    state, costs = automaton.start(owner, context), []
    for word in [*words, END]:
        following, cost = automaton.read(*(np.array([value], np.int32) for value in (owner, state, word)))
        state = int(following[0])
        costs.append(float(cost[0]))
    return costs


@torch.no_grad()
def whole(model, words, normalize: bool = True, before=()) -> list[float]:
    """Return the same by one call of the model, after what was fed before."""
    hidden, _ = model(torch.tensor([[*before, model.config.bos, *words]]))
    logits = model.logits(hidden)[0, len(before) :]
    scores = torch.log_softmax(logits, dim=1) if normalize else logits
    return [-float(scores[i, word]) for i, word in enumerate([*words, model.config.eos])]


def sentences(model, count: int = 12) -> list[list[int]]:
    """Return random sentences of 0 to 9 words, many of which begin alike."""
    rng = np.random.default_rng(5)
    return [rng.integers(1, 4, rng.integers(0, 10)).tolist() for _ in range(count)]


@pytest.mark.parametrize("order", [0, -1, 20])
@pytest.mark.parametrize("normalize", [True, False])
def test_costs_are_those_of_whole_sentences(model, order, normalize):
    """Without merging, reading word by word costs what the model says of the sentence, whoever owns the states."""
    automaton = NeuralAutomaton(model, order, normalize)
    for i, words in enumerate(sentences(model)):
        found = read_sentence(automaton, words, owner=i % 3)
        np.testing.assert_allclose(found, whole(model, words, normalize), atol=2e-4)


def test_many_questions_at_once_cost_the_same(model):
    """A batch of questions of different lengths of history, some asked twice, is what they are one by one."""
    automaton, alone = NeuralAutomaton(model, 0), NeuralAutomaton(model, 0)
    rows = sentences(model, 30)
    states = np.array([automaton.start(0)] * len(rows), np.int32)
    costs = np.zeros(len(rows))
    for step in range(11):
        words = np.array([[*row, END][step] if step <= len(row) else 1 for row in rows], np.int32)
        going = np.array([step <= len(row) for row in rows])
        states[going], cost = automaton.read(np.zeros(going.sum(), np.int32), states[going], words[going])
        costs[going] += cost
    np.testing.assert_allclose(costs, [sum(read_sentence(alone, row)) for row in rows], atol=1e-3)
    prefixes = {tuple(row[:k]) for row in rows for k in range(len(row) + 1)}
    assert automaton.evaluations == alone.evaluations == len(prefixes)


def test_histories_with_equal_last_words_are_one_state(make_lm):
    """With order 3 the last two words count, the sentence start being one; the first to come keeps its hidden state."""
    model = open_lm(make_lm())
    automaton = NeuralAutomaton(model, 3)

    def state_after(words, owner=0):
        state = automaton.start(owner)
        for word in words:
            state = int(automaton.read(*(np.array([v], np.int32) for v in (owner, state, word)))[0][0])
        return state

    assert state_after([5, 6, 7]) == state_after([9, 6, 7]) == state_after([6, 6, 7])
    assert len({state_after(words) for words in ([], [7], [6, 7], [7, 7])}) == 4
    assert state_after([6, 7], owner=1) != state_after([6, 7], owner=2)
    first, later = whole(model, [5, 6, 7])[-1], read_sentence(automaton, [9, 6, 7])[-1]
    assert later == pytest.approx(first, abs=1e-4)


def test_what_one_owner_reads_does_not_change_what_another_gets(model):
    """Merging is within an owner, so a search's costs do not depend on its company."""
    alone, company = NeuralAutomaton(model, 3), NeuralAutomaton(model, 3)
    read_sentence(company, [3, 1, 2, 2, 1], owner=7)
    for words in ([1, 1, 2, 2, 1], [2, 1, 2, 2, 3]):
        found, wanted = (read_sentence(automaton, words, owner=1) for automaton in (company, alone))
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_released_rows_are_used_again_and_short_histories_kept(model):
    """Many owners one after the other need no more memory than one; what they share is evaluated once."""
    automaton = NeuralAutomaton(model, 4)
    words = [1, 2, 3, 1, 2, 3, 3]
    expected = read_sentence(automaton, words, owner=0)
    rows, evaluations = automaton.rows, automaton.evaluations
    for owner in range(1, 5):
        automaton.release(owner - 1)
        np.testing.assert_allclose(read_sentence(automaton, words, owner), expected, atol=1e-4)
        assert automaton.rows == rows
    assert automaton.evaluations < 5 * evaluations


def test_no_more_histories_are_shared_than_allowed(model):
    """Beyond the limit they belong to whoever asks, and are released with it; costs stay the same."""
    automaton, free = NeuralAutomaton(model, 4, max_rows=4), NeuralAutomaton(model, 4)
    for owner, words in enumerate(sentences(model)):
        np.testing.assert_allclose(read_sentence(automaton, words, owner), read_sentence(free, words, owner), atol=1e-4)
    for owner in range(12):
        automaton.release(owner)
    assert automaton.rows <= 4


@pytest.mark.parametrize("order", [0, 3])
@pytest.mark.parametrize("max_rows", [1, 12, 40])
def test_histories_that_were_given_up_are_evaluated_again(model, order, max_rows):
    """Sentences that take turns in too little memory cost what they do in enough of it, and no more rows are held."""
    small, large = NeuralAutomaton(model, order, max_rows=max_rows), NeuralAutomaton(model, order)
    rows = sentences(model, 20)
    owners = np.arange(len(rows), dtype=np.int32)
    states = {lm: np.array([lm.start(owner) for owner in owners], np.int32) for lm in (small, large)}
    rng = np.random.default_rng(3)
    position = np.zeros(len(rows), int)
    while (left := np.flatnonzero(position <= np.array([len(row) for row in rows]))).size:
        now = rng.permutation(left)[:3]
        words = np.array([[*rows[i], END][position[i]] for i in now], np.int32)
        costs = {}
        for automaton, at in states.items():
            at[now], costs[automaton] = automaton.read(owners[now], at[now], words)
        np.testing.assert_allclose(costs[small], costs[large], atol=2e-4)
        position[now] += 1
        assert small.rows <= max(max_rows, 30)  # three sentences of ten words may be wanted at a time
    assert large.histories == large.rows == large.evaluations
    assert max_rows == 40 or small.evaluations > large.evaluations
    for owner in owners:
        small.release(int(owner))
    assert small.rows <= small.histories <= max_rows  # what all share


def test_a_context_is_never_given_up(model):
    """What was said before cannot be computed again, so it stays while others come and go."""
    automaton, contexts = NeuralAutomaton(model, 0, max_rows=8), conversations(model)
    state = automaton.start(50, context_of(automaton, contexts, 0))
    for owner, words in enumerate(sentences(model)):
        read_sentence(automaton, words, owner)
        automaton.release(owner)
    cost = automaton.read(np.array([50], np.int32), np.array([state], np.int32), np.array([END], np.int32))[1]
    np.testing.assert_allclose(cost, whole(model, [], before=said(model, 0)), atol=5e-4)


def test_it_grows_beyond_its_rows(make_lm):
    """Two thousand histories at a time; the last costs what it does alone."""
    model = open_lm(make_lm(model="transformer"))
    automaton = NeuralAutomaton(model, 0, max_rows=100)
    start = np.full(2000, automaton.start(0), np.int32)
    owners, words = np.zeros(2000, np.int32), np.arange(1, 2001, dtype=np.int32)
    states, _ = automaton.read(owners, start, words)
    costs = automaton.read(owners, states, np.full(2000, END, np.int32))[1]
    np.testing.assert_allclose(costs[[0, 1999]], [whole(model, [1])[-1], whole(model, [2000])[-1]], atol=2e-4)


def test_ngrams_cost_what_sentences_cost(tmp_path):
    """G.fst-like, carpa and ARPA n-grams, word by word."""
    from tests.native.old_lm_files import carpa_bytes

    files = LmFiles(tmp_path)
    (tmp_path / "G.carpa").write_bytes(carpa_bytes(files.arpa, files.words))
    rows = Sentences([[], [2], [2, 3, 4, 1, 1], [3, 2, 4, 2, 3], [5, 2]])
    for path in (files.write_arpa(), tmp_path / "G.carpa"):
        lm = native.open_old_lm(path, files.words)
        automaton = NgramAutomaton(lm)
        for words, costs in zip(rows.lists, rows.costs(lm, "backoff")):
            np.testing.assert_allclose(read_sentence(automaton, words), costs, rtol=1e-5)


SAID = [[[3, 4, 5], [], [7]], [], [[2, 2, 2], [4]]]  # sentences of three conversations


def said(model, row: int) -> list[int]:
    """Return what a model was fed in a conversation."""
    return [token for words in SAID[row] for token in (model.config.bos, *words)]


def conversations(model) -> Carried:
    """Return what the conversations have left a model with."""
    contexts = carried(model, len(SAID), 70)
    for row, sentences in enumerate(SAID):
        for words in sentences:
            contexts.feed(np.array([row]), [np.array(words, np.int32)])
    return contexts


def context_of(automaton, contexts: Carried, row: int):
    """Return what a sentence of a conversation starts from."""
    return {automaton: contexts.states(np.array([row]), np.array([12]))}


@pytest.mark.parametrize("order", [0, 20])
def test_in_context_costs_are_those_after_what_was_said(model, order):
    """One pass over conversation and sentence costs the same; sentences without context beside them cost as ever."""
    automaton, contexts = NeuralAutomaton(model, order), conversations(model)
    for owner, words in enumerate(sentences(model)):
        row = owner % 4
        context, before = (context_of(automaton, contexts, row), said(model, row)) if row < 3 else (None, ())
        found = read_sentence(automaton, words, owner, context)
        np.testing.assert_allclose(found, whole(model, words, before=before), atol=5e-4)


@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_what_follows_from_a_context_is_its_owners_alone(model, order):
    """No state is shared, and all rows are given back with the owner, those of the context too."""
    automaton, contexts = NeuralAutomaton(model, order), conversations(model)
    rows = automaton.rows
    for owner in (5, 6):
        read_sentence(automaton, [1, 2, 1], owner, context_of(automaton, contexts, 0))
    held, evaluations = automaton.rows, automaton.evaluations
    states = [automaton.start(owner, context_of(automaton, contexts, 0)) for owner in (5, 6)]
    assert automaton.start(5) not in states and states[0] != states[1]
    automaton.release(5)
    assert automaton.rows == rows + (held - rows) // 2
    automaton.release(6)
    assert automaton.rows == rows
    first = read_sentence(automaton, [1, 2, 1], 5, context_of(automaton, contexts, 0))
    other = read_sentence(automaton, [1, 2, 1], 6, context_of(automaton, contexts, 2))
    assert automaton.rows <= held and automaton.evaluations == 2 * evaluations
    assert abs(first[0] - other[0]) > 1e-3


def test_contexts_go_on_when_rows_are_added(model):
    """More conversations and histories than there were rows at first: the last one costs what it should."""
    automaton, contexts = NeuralAutomaton(model, 0, max_rows=50), conversations(model)
    for owner in range(60):
        state = automaton.start(owner, context_of(automaton, contexts, 0))
        owners = np.full(30, owner, np.int32)
        states, _ = automaton.read(owners, np.full(30, state, np.int32), np.arange(1, 31, dtype=np.int32))
        costs = automaton.read(owners, states, np.full(30, END, np.int32))[1]
    np.testing.assert_allclose(costs[29], whole(model, [30], before=said(model, 0))[-1], atol=5e-4)


def test_a_weighted_sum_hands_on_the_context(model, tmp_path):
    """To the terms that carry anything on; an n-gram begins anew."""
    files = LmFiles(tmp_path)
    lm = native.open_old_lm(files.write_arpa(), files.words)
    neural, contexts = NeuralAutomaton(model, 0), conversations(model)
    total = WeightedSum([(NgramAutomaton(lm), 1.0), (neural, 0.5)])
    found = read_sentence(total, [2, 3], 0, context_of(neural, contexts, 2))
    new, old = whole(model, [2, 3], before=said(model, 2)), read_sentence(NgramAutomaton(lm), [2, 3])
    np.testing.assert_allclose(found, [a + 0.5 * b for a, b in zip(old, new)], atol=5e-4)


def test_a_weighted_sum_adds_its_terms(model, tmp_path):
    """Weights may be negative or 0, words cost extra, and a word that one term lacks has no cost."""
    files = LmFiles(tmp_path)
    lm = native.open_old_lm(files.write_arpa(), files.words, unk=None)
    total = WeightedSum([(NgramAutomaton(lm), -0.5), (NeuralAutomaton(model, 0), 0.7), (NgramAutomaton(lm), 0.0)], 0.25)
    words = [2, 3, 4]
    old = read_sentence(NgramAutomaton(lm), words)
    new = whole(model, words)
    extra = [0.25, 0.25, 0.25, 0.0]
    wanted = [-0.5 * a + 0.7 * b + c for a, b, c in zip(old, new, extra)]
    np.testing.assert_allclose(read_sentence(total, words), wanted, atol=2e-4)
    assert read_sentence(total, [2, 5])[1] == np.inf  # "rare" is in words.txt alone
