# SPDX-License-Identifier: Apache-2.0
"""Every word survives sclite, speakers are Kaldi's, and a failing sclite is noticed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import ScoringError
from kaldi_mpq.score.aligned import Utterance, by_speaker
from kaldi_mpq.score.sclite import ScliteScorer, trn_word
from kaldi_mpq.score.sctk import Sctk, read_raw_sum, read_sgml

CHARACTERS = [chr(code) for code in range(33, 127)] + list("\u00e9\u0130\u00df\u4e2d\u00a0\u0085\u3000\u2019")


def test_every_character_is_only_a_character(sctk):
    """Alone, doubled, first, last and inside a word: one word each, equal to itself and to no other."""
    words = [form for c in CHARACTERS for form in (c, c + c, c + "a", "a" + c, "a" + c + "b", c + "a" + c)]
    words = list(dict.fromkeys(words))
    same = [((word,), (word,)) for word in words]
    different = [((word,), (other,)) for word, other in zip(words, words[1:] + words[:1])]
    whole = [(tuple(words), tuple(words))]
    counts = ScliteScorer(sctk).count(same + different + whole)
    wrong = [word for word, count in zip(words, counts) if count.correct != 1 or count.errors]
    assert wrong == []
    confused = [
        pair for pair, count in zip(different, counts[len(same) :]) if count.substitutions != 1 or count.correct
    ]
    assert confused == []
    assert counts[-1].correct == len(words)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=8, unique=True))
def test_written_words_stay_different(words):
    """What sclite reads tells words apart, and holds none of its special characters."""
    written = [trn_word(word) for word in words]
    assert len(set(written)) == len(words)
    assert not re.search(r'[*;@\\{}()"]', "".join(written))


def test_case_is_kept(sctk):
    """Folding was decided before; sclite does none of its own."""
    (counts,) = ScliteScorer(sctk).count([(("Ab", "c"), ("ab", "c"))])
    assert counts.substitutions == 1 and counts.correct == 1


def test_empty_and_endless_texts(sctk):
    """Nothing said, nothing recognized, words and names beyond sclite's buffers, a long monologue."""
    long = "x" * 5000
    utterances = [
        Utterance("u1", "s", (), ()),
        Utterance("u2", "s", (), ("a",)),
        Utterance("u3", "s", ("a",), ()),
        Utterance("n" * 2000, "s" * 2000, (long, "a"), (long + "y", "a")),
        Utterance("u5", "t", ("a", "b") * 400, ("b", "a") * 400),
    ]
    counts = ScliteScorer(sctk).count([(one.ref, one.hyp) for one in utterances])
    assert [(one.correct, one.substitutions, one.deletions, one.insertions) for one in counts] == [
        (0, 0, 0, 0),
        (0, 0, 0, 1),
        (0, 0, 1, 0),
        (1, 1, 0, 0),
        (799, 0, 1, 1),
    ]


def test_reports_have_kaldis_speakers(sctk, tmp_path):
    """Dashes, underscores and case in speaker names do not merge or split speakers in sclite's own table."""
    speakers = ["ES2011a-FEE041", "ES2011a-FEE042", "es2011a-fee042", "ES2011a_FEE041", "sw02001-A", "(odd)"]
    utterances = [Utterance(f"{s}-{i}", s, ("a", "b"), ("a",) * i) for s in speakers for i in range(3)]
    aligned = ScliteScorer(sctk).report(utterances, tmp_path)
    assert [one.name for one in aligned] == [one.name for one in utterances]
    own = by_speaker(aligned)
    assert set(own) == set(speakers)
    table = re.findall(r"^ *\| *(\S+) *\| +(\d+) +(\d+) \|", (tmp_path / "hyp.trn.raw").read_text(), re.MULTILINE)
    assert len([row for row in table if row[0] not in ("SPKR", "Sum", "Mean", "S.D.", "Median")]) == len(speakers)
    for name in ("hyp.trn.sys", "hyp.trn.pra", "hyp.trn.sgml"):
        assert (tmp_path / name).stat().st_size > 0


def test_names_may_differ_in_case_only(sctk, tmp_path):
    """They are different utterances to Kaldi."""
    utterances = [Utterance("A-1", "s", ("a",), ("a",)), Utterance("a-1", "s", ("b",), ("c",))]
    assert [one.ops for one in ScliteScorer(sctk).report(utterances, tmp_path)] == ["C", "S"]


def fake_sctk(folder: Path, script: str) -> Sctk:
    """Return an SCTK whose sclite is a shell script."""
    program = folder / "sclite"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Sctk(folder, "0")


def test_failing_sclite_is_shown(tmp_path):
    """Its status and its last lines are in the error."""
    sctk = fake_sctk(tmp_path, "echo first line; echo 'Error: no such thing' >&2; exit 3")
    with pytest.raises(ScoringError, match=r"sclite failed.*status 3.*Error: no such thing"):
        ScliteScorer(sctk).count([(("a",), ("a",))])


def test_sclite_that_loses_an_utterance_is_noticed(tmp_path):
    """Status 0 is not believed on its own."""
    sgml = '<SPEAKER id="all">\n<PATH id="(all-0)" word_cnt="1" sequence="0">\nC,"a","a"\n</PATH>\n</SPEAKER>'
    sctk = fake_sctk(tmp_path, f"cat > hyp.trn.sgml <<'X'\n{sgml}\nX")
    assert ScliteScorer(sctk).count([(("a",), ("a",))])[0].correct == 1
    with pytest.raises(ScoringError, match="did not align every utterance"):
        ScliteScorer(sctk).count([(("a",), ("a",)), (("b",), ("b",))])


def test_sclite_is_found_under_kaldi_root(tmp_path, monkeypatch):
    """PATH first, then Debian's folder, then KALDI_ROOT; None where it is nowhere."""
    folder = tmp_path / "tools" / "sctk" / "bin"
    folder.mkdir(parents=True)
    fake_sctk(folder, 'echo "sclite Version: 9.9, SCTK Version: 1.3"')
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("KALDI_ROOT", str(tmp_path))
    if not Path("/usr/lib/sctk/bin/sclite").exists():
        assert Sctk.find() == Sctk(folder, "9.9")
    monkeypatch.setenv("PATH", f"{tmp_path}:{folder}")
    assert Sctk.find() == Sctk(folder, "9.9")


def test_unreadable_report_is_refused(tmp_path):
    """A report that was cut off, and one without sums."""
    (tmp_path / "a.sgml").write_text(
        '<SPEAKER id="s">\n<PATH id="(s-1)" word_cnt="1" sequence="0">\nC,"a","a":X,oops\n</PATH>\n</SPEAKER>'
    )
    with pytest.raises(ScoringError, match="cannot read the alignment of s-1"):
        read_sgml(tmp_path / "a.sgml")
    (tmp_path / "a.raw").write_text("nothing here\n")
    with pytest.raises(ScoringError, match="no line of sums"):
        read_raw_sum(tmp_path / "a.raw")
