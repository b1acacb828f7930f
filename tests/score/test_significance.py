# SPDX-License-Identifier: Apache-2.0
"""The test is sc_stats', the interval compute-wer-bootci's."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import ScoringError
from kaldi_mpq.score.align import align_words
from kaldi_mpq.score.aligned import Aligned, Utterance, total
from kaldi_mpq.score.sclite import ScliteScorer
from kaldi_mpq.score.significance import bootstrap, matched_pairs, segment_errors

WORDS = st.lists(st.sampled_from("abc"), max_size=8).map(tuple)


def utterances(rows, column):
    """Return the utterances of one of two systems."""
    return [Utterance(name, name.split("-")[0], *(best, other)[column]) for name, best, other in rows]


def aligned(rows, column) -> dict[str, Aligned]:
    """Return the alignments of one system by utterance."""
    return {one.name: one.aligned(align_words(one.ref, one.hyp)) for one in utterances(rows, column)}


@pytest.mark.parametrize("count", [500, 60])
def test_matched_pairs_is_that_of_sc_stats(sctk, real_pairs, tmp_path, count):
    """Segments, mean and Z to the last digit that sc_stats prints, p to three decimals."""
    for column, name in enumerate(("one", "two")):
        ScliteScorer(sctk).report(utterances(real_pairs[:count], column), tmp_path / name)
    sgml = b"".join(
        (tmp_path / name / "hyp.trn.sgml").read_bytes().replace(b'title="hyp.trn"', f'title="{name}"'.encode())
        for name in ("one", "two")
    )
    sctk.run("sc_stats", "-p", "-t", "mapsswe", "-v", "-n", "out", cwd=tmp_path, stdin=sgml)
    theirs = (tmp_path / "out.stats.mapsswe").read_text()
    segments, mean, z = re.search(r"# segs: (\d+)\).*\(mean: +(\S+)\).*Z Stat: +(\S+)\)", theirs).groups()
    ours = matched_pairs(aligned(real_pairs[:count], 0), aligned(real_pairs[:count], 1))
    assert (ours.segments, f"{ours.mean:.3f}", f"{ours.z:.3f}") == (int(segments), mean, z)
    unified = sctk.run("sc_stats", "-p", "-t", "mapsswe", "-u", "-n", "-", cwd=tmp_path, stdin=sgml).decode()
    p = re.search(r"\|\| +one +\|.*?(<?0\.\d{3})", unified).group(1)
    assert p == ("<0.001" if ours.p < 0.001 else f"{ours.p:.3f}")


def test_segments_by_hand():
    """Two words in a row right in both systems end a segment; an insertion belongs to the gap where it stands."""
    #                     a b c d e f g      a b c d e f g
    assert segment_errors("CSCCCCD", "CCCCCCD") == [(1, 0), (1, 1)]
    assert segment_errors("CSCSC", "CCCCC") == [(2, 0)]  # one right word between two errors joins them
    assert segment_errors("SCCS", "CCCC") == [(1, 0), (1, 0)]
    assert segment_errors("CCICC", "CCCC") == [(1, 0)]
    assert segment_errors("CCCCI", "CCCC") == [(1, 0)]
    assert segment_errors("", "I") == [(0, 1)] and segment_errors("CC", "CC") == []


def test_references_of_different_length_make_one_segment():
    """As after a glm that maps words one way or another."""
    assert segment_errors("SCCCCS", "CCCCCCS") == [(2, 1)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=8))
def test_matched_pairs_is_antisymmetric_and_complete(texts):
    """Swapping the systems swaps the sign; every error is in a segment; a system is not better than itself."""
    one, two = (
        {str(i): Aligned(str(i), "", row[0], row[k], align_words(row[0], row[k])) for i, row in enumerate(texts)}
        for k in (1, 2)
    )
    forth, back = matched_pairs(one, two), matched_pairs(two, one)
    assert (forth.segments, forth.p) == (back.segments, back.p) and forth.z == -back.z
    assert 0.0 <= forth.p <= 1.0 and matched_pairs(one, one).p == 1.0
    counted = [errors for i in one for errors in segment_errors(one[i].ops, two[i].ops)]
    assert sum(errors for errors, _ in counted) == total(one.values()).errors
    assert sum(errors for _, errors in counted) == total(two.values()).errors


def test_different_utterances_are_refused():
    """Matched pairs need the same utterances."""
    one = {"u1": Aligned("u1", "", ("a",), ("a",), "C")}
    with pytest.raises(ScoringError, match=r"different utterances.*u1"):
        matched_pairs(one, {})


def test_interval_is_that_of_kaldi(kaldi, real_pairs, tmp_path):
    """Mean and width of compute-wer-bootci, up to the noise of drawing."""
    for column, name in enumerate(("ref", "hyp")):
        lines = [f"{key} {' '.join(pair[column])}\n" for key, pair, _ in real_pairs]
        (tmp_path / name).write_text("".join(lines))
    done = kaldi(f"compute-wer-bootci --mode=present ark:{tmp_path}/ref ark:{tmp_path}/hyp").stdout.decode()
    mean, low, high = (float(x) for x in re.search(r"%WER (\S+) .*Interval \[ (\S+), (\S+) \]", done).groups())
    ours = bootstrap(list(aligned(real_pairs, 0).values()))
    assert abs(ours.mean - mean) < 0.15
    assert np.isclose(ours.high - ours.low, high - low, rtol=0.1)


def test_interval_is_repeatable_and_holds_the_rate(real_pairs):
    """The same seed draws the same utterances."""
    found = list(aligned(real_pairs, 0).values())
    interval = bootstrap(found)
    assert interval == bootstrap(found) != bootstrap(found, seed=1)
    assert interval.low < total(found).wer < interval.high


def test_interval_without_words_is_refused():
    """There is no rate to be sure of."""
    with pytest.raises(ScoringError, match="no reference words"):
        bootstrap([Aligned("u", "", (), ("a",), "I")])
