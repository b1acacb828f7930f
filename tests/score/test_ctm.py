# SPDX-License-Identifier: Apache-2.0
"""Word times are in order and inside their utterance, whatever the lattice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import TextError
from kaldi_mpq.score.ctm import Recordings, ctm_lines, frame_shift_of, word_times
from kaldi_mpq.score.sweep import Hypothesis

RECORDINGS = Recordings({"u1": ("f2", "A", 1.0, 3.0), "u2": ("f1", "B", 10.0, 11.0), "u3": ("f1", "A", 5.0, 5.5)})


def hypothesis(words: str, begins: list[int], frames: int) -> Hypothesis:
    """Return a hypothesis of words and the frames that they begin in."""
    return Hypothesis(tuple(words.split()), tuple(begins), frames)


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(0, 20), st.floats(0.1, 5.0))
def test_times_rise_inside_the_utterance(begins, after, seconds):
    """Words without frames, words at the very end, more frames than the segment has time for."""
    begins = sorted(begins)
    times = word_times(hypothesis("w " * len(begins), begins, begins[-1] + after), seconds, 0.03)
    assert len(times) == len(begins) + 1
    assert times[0] >= 0.0 and times[-1] <= seconds + 1e-9 and (np.diff(times) > 0).all()


def test_times_are_those_of_the_frames():
    """Where every word has frames of its own."""
    assert np.allclose(word_times(hypothesis("a b c", [2, 10, 15], 20), 9.0, 0.03), [0.06, 0.30, 0.45, 0.60])


def test_words_without_frames_share_the_time():
    """Of the word before them."""
    assert np.allclose(word_times(hypothesis("a b c d", [0, 5, 5, 9], 10), 9.0, 1.0 / 10), [0.0, 0.5, 0.7, 0.9, 1.0])


def test_lines_are_sorted_and_filtered():
    """By file, channel and time of the recording; empty hypotheses have none."""
    found = {"u1": hypothesis("x uh", [0, 10], 20), "u2": hypothesis("Y", [0], 10), "u3": hypothesis("", [], 7)}
    assert ctm_lines(found, RECORDINGS, 0.03, ["UH"]) == ["f1 B 10.000 0.300 Y", "f2 A 1.000 0.300 x"]


def test_frame_shift_is_found_as_kaldi_finds_it(tmp_path):
    """Beside the decode directory: frame_shift, else frame_subsampling_factor, else 10 ms."""
    decode = tmp_path / "decode"
    decode.mkdir()
    assert frame_shift_of(decode) == 0.01
    (tmp_path / "frame_subsampling_factor").write_text("3\n")
    assert frame_shift_of(decode) == pytest.approx(0.03)
    (tmp_path / "frame_shift").write_text("0.04\n")
    assert frame_shift_of(decode) == pytest.approx(0.04)
    for bad in ("three", "0"):
        (tmp_path / "frame_shift").write_text(bad)
        with pytest.raises(TextError, match="frame_shift"):
            frame_shift_of(decode)


@pytest.mark.parametrize(
    "segment", ["u1 rec 0.0", "u1 rec 0.0 x", "u1 other 0.0 1.0", "u1 rec 2.0 1.0", "u1 rec nan 1.0"]
)
def test_bad_segment_is_named(tmp_path, segment):
    """Fields missing, no number, an unknown recording, an end before the begin."""
    (tmp_path / "reco2file_and_channel").write_text("rec f A\n")
    (tmp_path / "segments").write_text(segment + "\n")
    with pytest.raises(TextError, match=r"segments: bad .* u1"):
        Recordings.read(tmp_path)
