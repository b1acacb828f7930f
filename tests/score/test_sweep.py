# SPDX-License-Identifier: Apache-2.0
"""Best paths at every point are Kaldi's."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from kaldi_mpq.errors import LatticeError, ScoringError
from kaldi_mpq.native.decode_dir import expected_archives
from kaldi_mpq.score.sweep import Hypothesis, Point, points_of, sweep_lattices
from kaldi_mpq.text.vocab import read_words

pytest.importorskip("kaldi_mpq.native._archive", reason="the C++ extension is not built")

WORDS = ["<eps>", "a", "b", "c"]
# Two paths: "a b" (graph 3, acoustic 20, 5 frames) and "c" (graph 1, acoustic 50, 4 frames, one of them final).
TWO_PATHS = "u1\n0 1 1 1,8,1_2\n0 3 3 1,50,1_2_3\n1 2 0 0,2,\n2 3 2 2,10,3_4_5\n3 0,0,6\n\n"
NO_PATH = "u2\n0 1 1 1,8,1_2\n1 2 2 1,8,1_2\n\n"


def archive(path: Path, text: str) -> Path:
    """Write a gzipped archive."""
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.fixture
def lattices(tmp_path) -> Path:
    """Return an archive of one lattice with two paths."""
    return archive(tmp_path / "lat.1.gz", TWO_PATHS)


def test_acoustic_weight_and_penalty_choose_the_path(lattices):
    """a / LMWT + g + wip * words: 20/k + 3 + 2w for "a b", 50/k + 1 + w for "c"."""
    points = (Point(10, 0.0), Point(10, 1.5), Point(20, 0.0), Point(5, 1.5))
    sweep = sweep_lattices([lattices], points, WORDS)
    assert [sweep.at(point)["u1"].words for point in points] == [("a", "b"), ("c",), ("c",), ("a", "b")]
    assert sweep.hypotheses["u1"] == [Hypothesis(("a", "b"), (), 0), Hypothesis(("c",), (), 0)]


def test_times_are_counted_in_transition_ids(lattices):
    """A word begins after the frames of the arcs before it; the final weight's frames count too."""
    sweep = sweep_lattices([lattices], (Point(10, 0.0), Point(20, 0.0)), WORDS, with_times=True)
    assert sweep.at(Point(10, 0.0))["u1"] == Hypothesis(("a", "b"), (0, 2), 6)
    assert sweep.at(Point(20, 0.0))["u1"] == Hypothesis(("c",), (0,), 4)


def test_points_are_in_kaldis_order():
    """The first of equals wins there: penalties outside, LM weights inside."""
    assert points_of(7, 8, (0.0, 0.5)) == (Point(7, 0.0), Point(8, 0.0), Point(7, 0.5), Point(8, 0.5))


def test_lattice_without_a_path_is_unusable(tmp_path, caplog):
    """It is named and loses nothing else."""
    path = archive(tmp_path / "lat.1.gz", NO_PATH + TWO_PATHS)
    sweep = sweep_lattices([path], points_of(7, 9, (0.0,)), WORDS)
    assert sweep.unusable == ["u2"] and list(sweep.hypotheses) == ["u1"]
    assert "u2" in caplog.text


def test_utterance_in_two_archives_is_refused(tmp_path, lattices):
    """Scoring one of them silently would be a guess."""
    other = archive(tmp_path / "lat.2.gz", TWO_PATHS)
    with pytest.raises(LatticeError, match=r"lat\.2\.gz.*u1 is there twice"):
        sweep_lattices([lattices, other], (Point(10, 0.0),), WORDS)


def test_unknown_word_is_refused(lattices):
    """Lattices of another vocabulary."""
    with pytest.raises(LatticeError, match="word ids beyond words"):
        sweep_lattices([lattices], (Point(20, 0.0),), WORDS[:3])


def test_no_lattices_at_all(tmp_path):
    """An empty archive is a decoding that failed."""
    with pytest.raises(ScoringError, match="no lattices"):
        sweep_lattices([archive(tmp_path / "lat.1.gz", "")], (Point(10, 0.0),), WORDS)


def test_unknown_utterances_are_named(lattices):
    """The first of them."""
    sweep = sweep_lattices([lattices], (Point(10, 0.0),), WORDS)
    sweep.require_references(["u1", "u9"], "text")
    with pytest.raises(ScoringError, match=r"1 utterance\(s\) without a reference.*u1"):
        sweep.require_references(["u9"], "text")


@pytest.mark.parametrize("point", [Point(7, 0.0), Point(11, 0.5), Point(17, 1.0)])
def test_words_and_frames_are_kaldis(kaldi, sample, tmp_path, point):
    """lattice-scale, lattice-add-penalty and lattice-best-path on real lattices."""
    decode, words = sample / "exp/chain/tdnn/decode_dev_tg", read_words(sample / "data/lang_tg/words.txt")
    ours = sweep_lattices(expected_archives(decode), (point,), words, with_times=True).at(point)
    kaldi(
        f"lattice-scale --inv-acoustic-scale={point.lmwt} 'ark:gunzip -c {decode}/lat.*.gz|' ark:- |"
        f" lattice-add-penalty --word-ins-penalty={point.word_ins_penalty} ark:- ark:- |"
        f" lattice-best-path ark:- ark,t:{tmp_path}/words ark,t:{tmp_path}/alignment"
    )
    rows = [line.split() for line in (tmp_path / "words").read_text().splitlines()]
    assert {row[0]: tuple(words[int(word)] for word in row[1:]) for row in rows} == {
        name: found.words for name, found in ours.items()
    }
    alignments = [line.split() for line in (tmp_path / "alignment").read_text().splitlines()]
    assert {row[0]: len(row) - 1 for row in alignments} == {name: found.frames for name, found in ours.items()}
