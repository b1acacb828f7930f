# SPDX-License-Identifier: Apache-2.0
"""Alignments survive Kaldi's per_utt format."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import MissingInputError, ScoringError
from kaldi_mpq.score.align import align_words
from kaldi_mpq.score.aligned import Aligned, Utterance, by_speaker, read_per_utt, total, write_per_spk, write_per_utt

WORD = st.one_of(
    st.sampled_from(["a", "***", "C", "\u00e9t\u00e9", "a\u00a0b", "#csid", "ref"]), st.text("xyz\u4e2d", min_size=1)
)
TEXT = st.lists(WORD, max_size=6).map(tuple)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_per_utt_round_trip(tmp_path_factory, texts):
    """Words such as ``***`` and non-breaking spaces included."""
    path = tmp_path_factory.mktemp("per_utt") / "per_utt"
    utterances = [Aligned(f"u-{i}", "", ref, hyp, align_words(ref, hyp)) for i, (ref, hyp) in enumerate(texts)]
    write_per_utt(path, utterances)
    assert read_per_utt(path) == {one.name: one for one in utterances}


def test_file_is_what_kaldi_writes(kaldi, real_pairs, tmp_path):
    """Kaldi's wer_per_utt_details.pl writes the same fields for the same alignment."""
    names = [(f"u-{i}", pair) for i, (_, pair, _) in enumerate(real_pairs[:40])]
    ours = [Utterance(name, "s", *pair).aligned(align_words(*pair)) for name, pair in names]
    write_per_utt(tmp_path / "ours", ours)
    lines = []
    for one in ours:  # the output of align-text, of our alignments
        pairs = " ; ".join(f"{ref or '***'} {hyp or '***'}" for ref, hyp in one.pairs())
        lines.append(f"{one.name} {pairs}\n")
    script = Path(os.environ["KALDI_ROOT"]) / "egs/wsj/s5/utils/scoring/wer_per_utt_details.pl"
    theirs = kaldi(f"perl {script} --special-symbol '***'", stdin="".join(lines).encode()).stdout.decode()
    assert [line.split() for line in (tmp_path / "ours").read_text().splitlines()] == [
        line.split() for line in theirs.splitlines()
    ]


def test_alignment_must_use_up_its_words():
    """A letter too many or too few is refused."""
    with pytest.raises(ScoringError, match="does not fit"):
        Aligned("u", "s", ("a",), ("a",), "CC")


def test_speakers_add_up(tmp_path):
    """The sum over speakers is the total, and the table has both."""
    utterances = [
        Utterance(f"{speaker}-{i}", speaker, ("a", "b"), hyp).aligned(align_words(("a", "b"), hyp))
        for i, (speaker, hyp) in enumerate([("z", ("a",)), ("y", ("a", "b")), ("z", ("b", "b", "c"))])
    ]
    speakers = by_speaker(utterances)
    assert list(speakers) == ["y", "z"] and speakers["y"] + speakers["z"] == total(utterances)
    write_per_spk(tmp_path / "per_spk", speakers)
    rows = [line.split() for line in (tmp_path / "per_spk").read_text().splitlines()]
    assert rows[-2] == ["SUM", "raw", "3", "6", "4", "1", "1", "1", "3", "2"]
    assert rows[-1][-2:] == ["50.00", "66.67"]


@pytest.mark.parametrize("damage", ["", "u ref a\nu hyp a\nu op C\n", "u ref a\nv hyp a\nu op C\nu #csid 1 0 0 0\n"])
def test_damaged_file_is_refused(tmp_path, damage):
    """Cut off or mixed up; an empty file simply has no utterances."""
    path = tmp_path / "per_utt"
    path.write_text(damage)
    if not damage:
        assert read_per_utt(path) == {}
        return
    with pytest.raises(ScoringError, match=r"per_utt:1.*not a per_utt file"):
        read_per_utt(path)


def test_missing_file_is_named(tmp_path):
    """As every missing input is."""
    with pytest.raises(MissingInputError, match="nowhere"):
        read_per_utt(tmp_path / "nowhere")


def test_values_cannot_be_changed():
    """Results are frozen."""
    one = Utterance("u", "s", (), ()).aligned("")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.ops = "C"
