# SPDX-License-Identifier: Apache-2.0
"""Conversations and their sides, with and without the files that say what they are."""

from __future__ import annotations

import pytest

from kaldi_mpq.errors import MissingInputError, TextError
from kaldi_mpq.text.conversations import conversations_of

SPEAKERS = "sw1-A_1 sw1-A\nsw1-A_2 sw1-A\nsw1-B_1 sw1-B\nsw2-A_1 sw2-A\n"


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a data directory of some files."""

    def make(**files: str):
        for name, text in {"utt2spk": SPEAKERS, **files}.items():
            (tmp_path / name).write_text(text)
        return tmp_path

    return make


SEGMENTS = "sw1-A_1 sw1-A 10.0 11\nsw1-A_2 sw1-A 0.5 1\nsw1-B_1 sw1-B 2.25 3\nsw2-A_1 sw2-A 0.0 1\n"


def test_the_sides_of_a_conversation_interleave_as_spoken(make):
    """Times and files decide, not the order of the utterances' names; each side alone is in time order too."""
    data = make(segments=SEGMENTS, reco2file_and_channel="sw1-A sw1 A\nsw1-B sw1 B\nsw2-A sw2 A\n")
    assert conversations_of(data) == [["sw1-A_2", "sw1-B_1", "sw1-A_1"], ["sw2-A_1"]]
    assert conversations_of(data, sides=True) == [["sw1-A_2", "sw1-A_1"], ["sw1-B_1"], ["sw2-A_1"]]


def test_without_times_the_order_is_kept(make):
    """A conversation is then what the names begin with, a side what one speaker says in it."""
    data = make()
    assert conversations_of(data) == [["sw1-A_1", "sw1-A_2", "sw1-B_1"], ["sw2-A_1"]]
    assert conversations_of(data, sides=True) == [["sw1-A_1", "sw1-A_2"], ["sw1-B_1"], ["sw2-A_1"]]


def test_bad_directories_are_refused(make):
    """A start that is no number; no utt2spk."""
    data = make(segments=SEGMENTS.replace("2.25", "soon"))
    with pytest.raises(TextError, match="bad start of sw1-B_1"):
        conversations_of(data)
    (data / "utt2spk").unlink()
    with pytest.raises(MissingInputError, match="utt2spk"):
        conversations_of(data)
