# SPDX-License-Identifier: Apache-2.0
"""Without sclite the counts, and even the alignments, are sclite's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaldi_mpq.score.align import KaldialignScorer, align_words, count_errors
from kaldi_mpq.score.aligned import Utterance
from kaldi_mpq.score.error_counts import ErrorCounts
from kaldi_mpq.score.sclite import ScliteScorer

WORDS = st.lists(st.sampled_from("abcde"), max_size=9).map(tuple)


def by_sclite(sctk, pairs, directory):
    """Return the operations that sclite chooses for each pair."""
    utterances = [Utterance(str(number), "all", *pair) for number, pair in enumerate(pairs)]
    return [one.ops for one in ScliteScorer(sctk).report(utterances, directory)]


def test_alignments_of_random_words_are_those_of_sclite(sctk, random_pairs, tmp_path):
    """Letter by letter, though every fiftieth pair has two cheapest alignments with different counts."""
    assert [align_words(*pair) for pair in random_pairs] == by_sclite(sctk, random_pairs, tmp_path)


def test_counts_of_random_words_are_those_of_sclite(sctk, random_pairs):
    """The shortcut through kaldialign changes no count."""
    assert KaldialignScorer().count(random_pairs) == ScliteScorer(sctk).count(random_pairs)


def test_real_text_is_scored_as_by_sclite(sctk, real_pairs, tmp_path):
    """Real hypotheses, best and fifth of a 10-best list."""
    pairs = [pair for _, best, fifth in real_pairs for pair in (best, fifth)]
    assert [align_words(*pair) for pair in pairs] == by_sclite(sctk, pairs, tmp_path)
    assert KaldialignScorer().count(pairs) == ScliteScorer(sctk).count(pairs)


def test_golden_alignments():
    """What sclite said once is still said where there is no sclite."""
    golden = json.loads(Path(__file__).with_name("golden_sclite.json").read_text())
    for ref, hyp, ops in golden["aligned"]:
        assert align_words(ref.split(), hyp.split()) == ops
        assert count_errors(ref.split(), hyp.split()) == ErrorCounts.of(ops)


def test_kaldialign_alone_would_count_otherwise():
    """The reason for the second alignment: three substitutions weigh as much as four gaps around a correct word."""
    kaldialign = pytest.importorskip("kaldialign")
    ref, hyp = ["d", "e", "f"], ["f", "c", "b"]
    assert kaldialign.edit_distance(ref, hyp, sclite_mode=True)["total"] == 4
    assert count_errors(ref, hyp).errors == 3 and align_words(ref, hyp) == "SSS"


@given(WORDS, WORDS)
def test_counts_are_those_of_the_alignment(ref, hyp):
    """Shortcut and alignment agree, and the alignment uses up both texts."""
    ops = align_words(ref, hyp)
    assert count_errors(ref, hyp) == ErrorCounts.of(ops)
    assert len(ops) - ops.count("I") == len(ref) and len(ops) - ops.count("D") == len(hyp)
    assert Utterance("u", "s", ref, hyp).aligned(ops).counts.ref_words == len(ref)


@given(WORDS, WORDS)
def test_weight_is_the_least(ref, hyp):
    """No alignment is cheaper than kaldialign's, whose weights are the same."""
    kaldialign = pytest.importorskip("kaldialign")
    counts, ours = kaldialign.edit_distance(list(ref), list(hyp), sclite_mode=True), count_errors(ref, hyp)
    weight = 4 * ours.substitutions + 3 * (ours.deletions + ours.insertions)
    assert weight == 4 * counts["sub"] + 3 * (counts["del"] + counts["ins"])
