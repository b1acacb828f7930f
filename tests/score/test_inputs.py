# SPDX-License-Identifier: Apache-2.0
"""Bad input is told before work begins, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaldi_mpq.errors import ConfigError, LatticeError, MissingInputError, ScoringError, TextError
from kaldi_mpq.score.inputs import ScoredSet, WordFilter, check_inputs, parse_sets, read_table


@pytest.fixture
def one(tmp_path: Path) -> ScoredSet:
    """A complete set with two archives (empty files: nothing is read here)."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "decode").mkdir()
    (tmp_path / "words.txt").touch()
    for name in ("text", "utt2spk", "stm", "segments", "reco2file_and_channel"):
        (tmp_path / "dev" / name).touch()
    for job in (1, 2):
        (tmp_path / "decode" / f"lat.{job}.gz").touch()
    (tmp_path / "decode" / "num_jobs").write_text("2\n")
    return ScoredSet("dev", tmp_path / "dev", tmp_path / "decode")


def check(one: ScoredSet, mode: str = "text", sets: tuple[ScoredSet, ...] = ()) -> list[str]:
    """Return the names of the archives found for dev."""
    found = check_inputs([one, *sets], one.data.parent / "words.txt", mode)
    return [path.name for path in found["dev"]]


@pytest.mark.parametrize("mode", ["text", "stm"])
def test_complete_inputs_are_found(one, mode):
    """The archives in the order of their numbers."""
    assert check(one, mode) == ["lat.1.gz", "lat.2.gz"]


def test_everything_missing_is_named_at_once(one, tmp_path):
    """Of all sets, and words.txt."""
    for path in (tmp_path / "words.txt", one.data / "utt2spk", one.decode / "lat.2.gz"):
        path.unlink()
    nowhere = ScoredSet("eval", tmp_path / "no_data", tmp_path / "no_decode")
    with pytest.raises(MissingInputError) as caught:
        check(one, sets=(nowhere,))
    for name in (
        "words.txt",
        "dev/utt2spk",
        "decode/lat.2.gz",
        "no_data/text",
        "no_decode/num_jobs",
        "no_decode/lat.1.gz",
    ):
        assert name in str(caught.value)


def test_empty_decode_directory(one):
    """Has neither num_jobs nor a first archive."""
    for path in one.decode.iterdir():
        path.unlink()
    with pytest.raises(MissingInputError, match=r"num_jobs.*lat\.1\.gz"):
        check(one)


def test_stray_archives_are_named(one):
    """They would be scored by Kaldi's scripts, which read lat.*.gz."""
    (one.decode / "lat.3.gz").touch()
    with pytest.raises(LatticeError, match=r"beyond num_jobs.*found lat\.3\.gz"):
        check(one)


@pytest.mark.parametrize("word", ["", "two", "0", "-1"])
def test_bad_num_jobs(one, word):
    """Not a positive number."""
    (one.decode / "num_jobs").write_text(word)
    with pytest.raises(LatticeError, match="bad number of jobs"):
        check(one)


def test_sets_are_named_like_their_data():
    """``DATADIR=DECODEDIR``, a slash at the end or not."""
    sets = parse_sets("data/dev/=exp/a", ["data/eval=exp/b=c"])
    assert [(one.name, str(one.decode)) for one in sets] == [("dev", "exp/a"), ("eval", "exp/b=c")]


@pytest.mark.parametrize("given", ["data/dev", "=exp", "data/dev="])
def test_bad_set_is_shown(given):
    """Not two directories."""
    with pytest.raises(ConfigError, match="DATADIR=DECODEDIR"):
        parse_sets(given, [])


def test_sets_of_one_name_are_refused():
    """One would overwrite the other's reports."""
    with pytest.raises(ConfigError, match="two sets named 'dev'"):
        parse_sets("a/dev=exp/a", ["b/dev=exp/b"])


def test_table_fields_are_separated_by_ascii_space_only(tmp_path):
    """A non-breaking or ideographic space is part of a word, as for Kaldi; CR is dropped."""
    path = tmp_path / "text"
    path.write_bytes("u1 a\u00a0b  c\u3000\td\r\nu2\n".encode())
    assert read_table(path) == {"u1": ("a\u00a0b", "c\u3000", "d"), "u2": ()}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"u1 a\nu1 b\n", "text:2.*twice"), (b"u1 a\n\nu2 b\n", "text:2.*empty line"), (b"u1 \xff\n", "text:1.*UTF-8")],
)
def test_malformed_text_is_refused(tmp_path, content, message):
    """With the line's number."""
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(TextError, match=message):
        read_table(tmp_path / "text")


def test_empty_text_is_refused(tmp_path):
    """There is nothing to score against."""
    (tmp_path / "text").touch()
    with pytest.raises(ScoringError, match="nothing to score against"):
        read_table(tmp_path / "text")


def test_words_are_folded_and_dropped():
    """Ignored words obey the case rule."""
    assert WordFilter.make("fold", ["[Noise]", "UH"])(["Uh", "\u00c4ha", "[noise]"]) == ("\u00e4ha",)
    assert WordFilter.make("keep", ["UH"])(["Uh", "UH", "\u00c4ha"]) == ("Uh", "\u00c4ha")


@pytest.mark.parametrize("near", ["noise", "[noise", "uhh", "u", "<unk", "laughter]"])
def test_only_whole_words_are_dropped(near):
    """Near misses stay."""
    assert WordFilter.make("fold", ["[noise]", "uh", "<unk>", "[laughter]"])([near]) == (near,)
