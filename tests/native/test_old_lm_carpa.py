# SPDX-License-Identifier: Apache-2.0
"""G.carpa: costs by the book in either layout, near and far children, and unknown words as Kaldi treats them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kaldi_mpq.native.old_lm import open_old_lm
from tests.native.old_lm_files import CarpaLayout, Sentences, SlowArpa, carpa_bytes

LAYOUTS = {
    "new": CarpaLayout(),
    "old": CarpaLayout(old=True),
    "far children": CarpaLayout(overflow_beyond=6),
    "all children far": CarpaLayout(overflow_beyond=0, old=True),
}


def write(lm_files, layout, text=None, name="G.carpa"):
    """Write a carpa of the toy trigram or of ``text``."""
    path = lm_files.folder / name
    path.write_bytes(carpa_bytes(text or lm_files.arpa, lm_files.words, layout))
    return path


@pytest.mark.parametrize("name", LAYOUTS)
def test_costs_are_those_of_the_lookup_rule(lm_files, name):
    """Every word's cost in both layouts, with and without the overflow table."""
    lm = open_old_lm(write(lm_files, LAYOUTS[name]), lm_files.words)
    slow = SlowArpa(lm_files.arpa, lm_files.words)
    text = lm_files.sentences(np.random.default_rng(10), 500, [1, 2, 3, 4, 6])
    expected = [slow.costs(sentence) for sentence in text.lists]
    for found, wanted in zip(text.costs(lm), expected):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_both_readings_of_a_carpa_are_the_same(lm_files):
    """There is no cheapest path."""
    lm = open_old_lm(write(lm_files, CarpaLayout()))
    text = lm_files.sentences(np.random.default_rng(11), 50, [1, 2, 3, 4])
    assert text.costs(lm, "best") == text.costs(lm, "backoff")


def test_unknown_words_cost_as_the_unknown_word_and_leave_no_history(lm_files):
    """As Kaldi's rescoring does: scored as <unk> after its history, then forgotten; <unk> itself is a history."""
    lm = open_old_lm(write(lm_files, CarpaLayout()))
    rare, unk, b = lm_files.words["rare"], lm_files.words["<unk>"], lm_files.words["b"]
    (first,), (second,) = Sentences([[rare, b]]).costs(lm), Sentences([[unk, b]]).costs(lm)
    assert first[0] == second[0]
    assert first[1] == pytest.approx(0.5 * math.log(10))
    assert second[1] == pytest.approx(0.2 * math.log(10))
    beyond = Sentences([[1000, b]]).costs(lm)
    assert beyond == [first]


def test_unknown_words_are_impossible_without_an_unknown_word(lm_files):
    """A file that has no id for it."""
    lm = open_old_lm(write(lm_files, CarpaLayout(unk=-1)))
    (costs,) = Sentences([[2, lm_files.words["rare"], 3]]).costs(lm)
    assert [math.isinf(cost) for cost in costs] == [False, True, False, False]


def test_unigram_model(lm_files):
    """Order 1: no histories at all."""
    text = "\\data\\\nngram 1=4\n\n\\1-grams:\n-99\t<s>\n-0.5\t</s>\n-0.25\ta\n-1\tb\n\n\\end\\\n"
    words = lm_files.words
    for path in (write(lm_files, CarpaLayout(unk=-1), text), lm_files.write_arpa(text)):
        (costs,) = Sentences([[words["a"], words["b"], words["a"]]]).costs(open_old_lm(path, words))
        np.testing.assert_allclose(costs, np.array([0.25, 1, 0.25, 0.5]) * math.log(10), rtol=1e-6)
