# SPDX-License-Identifier: Apache-2.0
"""Error counts add like counts and refuse what cannot be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaldi_mpq.errors import ScoringError
from kaldi_mpq.score.error_counts import ErrorCounts

ALIGNMENTS = st.lists(st.text("CSDI", max_size=20), max_size=8)


@given(ALIGNMENTS, ALIGNMENTS)
def test_counts_of_parts_add_up_to_the_whole(first, second):
    """The sum over two lists is the sum over both together, in any order, with zero as its start."""

    def counts(alignments):
        return ErrorCounts.total(map(ErrorCounts.of, alignments))

    assert counts(first) + counts(second) == counts(second + first)
    joined = "".join(first + second)
    whole = counts(first + second)
    assert (whole.ref_words, whole.errors) == (len(joined) - joined.count("I"), len(joined) - joined.count("C"))
    assert whole == sum(map(ErrorCounts.of, first + second), ErrorCounts())
    assert whole.utterances == len(first) + len(second)


@given(st.text("CSDI", max_size=20))
def test_dict_round_trip(ops):
    """What is written to wer.json comes back."""
    counts = ErrorCounts.of(ops)
    assert ErrorCounts.from_dict(counts.to_dict()) == counts


def test_rate_is_errors_over_reference_words():
    """The rate of a sum is not the mean of the rates."""
    short, long = ErrorCounts.of("S"), ErrorCounts.of("CCCCCCCCC")
    assert short.wer == 100.0
    assert (short + long).wer == 10.0
    assert str(short + long) == "%WER 10.00 [ 1 / 10, 0 ins, 0 del, 1 sub ]"


def test_rate_without_reference_words():
    """Nothing said and nothing recognized is no error; something recognized is infinitely many."""
    assert ErrorCounts.of("").wer == 0.0
    assert math.isinf(ErrorCounts.of("I").wer)
    assert ErrorCounts.of("I").to_dict()["wer"] is None  # JSON has no infinity


@pytest.mark.parametrize(
    "values",
    [
        {"ref_words": 2, "utterances": 1, "wrong": 1, "deletions": 3},
        {"ref_words": -1},
        {"ref_words": 2, "utterances": 1, "wrong": 0, "deletions": 1},
        {"ref_words": 2, "utterances": 1, "wrong": 1},
        {"ref_words": 2.5},
    ],
)
def test_impossible_counts_are_refused(values):
    """More deletions than words, negative or broken numbers, errors without a wrong utterance."""
    with pytest.raises(ScoringError):
        ErrorCounts(**values)


def test_other_letters_are_refused():
    """An alignment has four letters."""
    with pytest.raises(ScoringError, match="C, S, D and I"):
        ErrorCounts.of("CX")


def test_missing_count_is_named():
    """A damaged wer.json is told from a good one."""
    with pytest.raises(ScoringError, match=r"wer\.json.*deletions"):
        ErrorCounts.from_dict(
            {"utterances": 1, "wrong": 0, "ref_words": 0, "substitutions": 0, "insertions": 0}, where="wer.json"
        )
