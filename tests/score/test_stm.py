# SPDX-License-Identifier: Apache-2.0
"""Scoring against an stm: as hubscr.pl does, without its two traps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kaldi_mpq.errors import ScoringError, TextError
from kaldi_mpq.score.aligned import total
from kaldi_mpq.score.ctm import Recordings, ctm_lines
from kaldi_mpq.score.error_counts import ErrorCounts
from kaldi_mpq.score.inputs import read_table
from kaldi_mpq.score.sclite import ScliteScorer
from kaldi_mpq.score.sctk import read_raw_sum
from kaldi_mpq.score.stm import StmScorer
from kaldi_mpq.score.sweep import Hypothesis

HEADER = (
    '* name "x"\n* desc "y"\n* format = "NIST1"\n* max_nrules = "100"\n* copy_no_hit = "T"\n* case_sensitive = "F"\n'
)


def spread(words: tuple[str, ...]) -> Hypothesis:
    """A hypothesis whose words last ten frames each."""
    return Hypothesis(words, tuple(range(0, 10 * len(words), 10)), 10 * len(words))


@pytest.fixture
def told(sample) -> dict[str, tuple[str, ...]]:
    """Hypotheses for the sample's dev set, with errors of each kind."""
    texts = read_table(sample / "data" / "dev" / "text")
    found = {}
    for number, (name, words) in enumerate(texts.items()):
        wrong = list(words)
        if number % 2:
            wrong[number % len(wrong)] = "xylophone"
        if number % 3 == 0:
            wrong = wrong[1:]
        if number % 5 == 0:
            wrong.append("indeed")
        found[name] = tuple(wrong)
    return found


@pytest.fixture
def ctm(sample, told) -> list[str]:
    """Their words with times, many more than the segments have room for: they are squeezed in."""
    recordings = Recordings.read(sample / "data" / "dev")
    return ctm_lines({name: spread(words) for name, words in told.items()}, recordings, 1.0)


def test_stm_and_text_count_alike(sctk, sample, told, ctm, tmp_path):
    """Where the segments are the utterances and nothing is filtered, times change no count."""
    texts = read_table(sample / "data" / "dev" / "text")
    by_text = ErrorCounts.total(ScliteScorer(sctk).count([(texts[name], told[name]) for name in texts]))
    aligned = StmScorer(sctk, sample / "data" / "dev" / "stm", None, tmp_path).score(ctm, tmp_path)
    assert total(aligned) == by_text and by_text.errors > 20


def test_counts_are_those_of_hubscr(sctk, sample, ctm, tmp_path):
    """With the data directory's glm, which the sample's files let hubscr.pl survive."""
    data = sample / "data" / "dev"
    (tmp_path / "ours").mkdir()
    aligned = StmScorer(sctk, data / "stm", data / "glm", tmp_path / "ours").score(ctm, tmp_path / "ours")
    for name in ("stm", "glm"):
        shutil.copy(data / name, tmp_path / name)
    (tmp_path / "hyp.ctm").write_text("".join(f"{line}\n" for line in ctm))
    sctk.run("hubscr.pl", "-V", "-l", "english", "-h", "hub5", "-g", "glm", "-r", "stm", "hyp.ctm", cwd=tmp_path)
    counts = total(aligned)
    assert read_raw_sum(tmp_path / "hyp.ctm.filt.raw") == (
        counts.utterances, counts.correct, counts.substitutions, counts.deletions, counts.insertions,
    )  # fmt: skip


@pytest.fixture
def small(tmp_path) -> Path:
    """An stm without LABEL lines, with a hesitation in parentheses, an unscored stretch, two files out of order."""
    stm = tmp_path / "stm"
    stm.write_text(
        "f2 1 spkB 3.0 4.0 goodbye\n"
        "f1 1 spkA 0.0 2.0 (uh) hello well-known wor-\n"
        "f1 1 spkA 2.0 3.0 ignore_time_segment_in_scoring\n"
        ";; a comment\n"
    )
    return stm


CTM = ["f1 1 0.100 0.200 hello", "f1 1 0.300 0.300 well-known", "f1 1 0.700 0.300 word", "f1 1 2.5 0.1 noise"]


def test_glm_without_rules_does_not_crash(sctk, small, tmp_path, caplog):
    """rfilter1 would, and csrfilt would end with status 0 and no output."""
    (tmp_path / "glm").write_text(HEADER)
    (tmp_path / "out").mkdir()
    aligned = StmScorer(sctk, small, tmp_path / "glm", tmp_path / "out").score(CTM, tmp_path / "out")
    assert "has no rule" in caplog.text
    # Missing hesitation and matching fragment are correct; the hyphen was split; the unscored stretch does not count.
    assert [(one.ref, one.hyp, one.ops) for one in aligned] == [
        (("(uh)", "hello", "well", "known", "wor-"), ("@", "hello", "well", "known", "word"), "CCCCC"),
        (("goodbye",), (), "D"),
    ]


def test_rules_are_applied(sctk, small, tmp_path):
    """Both sides are mapped."""
    (tmp_path / "glm").write_text(HEADER + "[HELLO] => hi there / [ ] __ [ ]\n")
    aligned = StmScorer(sctk, small, tmp_path / "glm", tmp_path).score(CTM, tmp_path)
    assert aligned[0].ref[1:3] == ("hi", "there") and aligned[0].ops == "CCCCCC"


def test_crashing_filter_is_noticed(sctk, small, tmp_path):
    """A glm that rfilter1 cannot read: no output, whatever the status."""
    (tmp_path / "glm").write_text("not a glm => at all [\n")
    with pytest.raises(ScoringError, match="csrfilt"):
        StmScorer(sctk, small, tmp_path / "glm", tmp_path).score(CTM, tmp_path)


def test_nothing_recognized_is_all_deleted(sctk, small, tmp_path):
    """An empty CTM; what may be missing is correct."""
    counts = total(StmScorer(sctk, small, None, tmp_path).score([], tmp_path))
    assert (counts.correct, counts.deletions, counts.insertions) == (1, 4, 0)


@pytest.mark.parametrize("line", ["f1 1 spkA 0.0", "f1 1 spkA zero 1.0 a", "f1 1 spkA 0.0 one a"])
def test_bad_line_is_named(sctk, tmp_path, line):
    """With its number."""
    (tmp_path / "stm").write_text(f";; comment\n{line}\n")
    with pytest.raises(TextError, match="stm:2"):
        StmScorer(sctk, tmp_path / "stm", None, tmp_path)


def test_stm_without_segments_is_refused(sctk, tmp_path):
    """There is nothing to score against."""
    (tmp_path / "stm").write_text(";; comment\n")
    with pytest.raises(ScoringError, match="without segments"):
        StmScorer(sctk, tmp_path / "stm", None, tmp_path)
