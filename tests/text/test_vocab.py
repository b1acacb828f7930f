# SPDX-License-Identifier: Apache-2.0
"""words.txt: what is read, and every way in which it can be bad."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import MissingInputError, VocabularyError
from kaldi_mpq.text.vocab import Vocabulary, check_same, read_words

BAD = {
    "gap": (b"<eps> 0\na 1\nb 3\n", r"ids have a gap.*no id 2"),
    "no zero": (b"<eps> 1\na 2\n", r"ids have a gap.*no id 0"),
    "duplicate id": (b"<eps> 0\na 1\nb 1\n", r":3: id 1 is used twice.*'a' and 'b'"),
    "duplicate word": (b"<eps> 0\na 1\na 2\n", r":3: word 'a' is there twice.*line 2"),
    "epsilon elsewhere": (b"a 0\n<eps> 1\n", r"id 0 is not <eps>.*'a'"),
    "byte order mark": (b"\xef\xbb\xbf<eps> 0\na 1\n", r"id 0 is not <eps>"),
    "DOS line ends": (b"<eps> 0\r\na 1\r\n", r":1: DOS line end.*dos2unix"),
    "not UTF-8": (b"<eps> 0\nna\xefve 1\n", r":2: not UTF-8"),
    "no id": (b"<eps> 0\na\n", r":2: bad line.*'a'"),
    "three fields": (b"<eps> 0\na b 1\n", r":2: bad line.*'a b 1'"),
    "two spaces": (b"<eps> 0\na  1\n", r":2: bad line"),
    "tab": (b"<eps> 0\na\t1\n", r":2: bad line"),
    "no word": (b"<eps> 0\n 1\n", r":2: bad line"),
    "negative id": (b"<eps> 0\na -1\n", r":2: bad line"),
    "fraction": (b"<eps> 0\na 1.0\n", r":2: bad line"),
    "empty": (b"", r"no words"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_every_bad_words_txt_is_refused_with_its_place(tmp_path, content, message):
    """A malformed words.txt is refused, and the message names the fault and the line."""
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(VocabularyError, match=message) as caught:
        read_words(path)
    assert str(path) in str(caught.value)


def test_missing_file_is_named(tmp_path):
    """A words.txt that is not there is named."""
    with pytest.raises(MissingInputError, match=r"nothing\.txt"):
        Vocabulary.read(tmp_path / "nothing.txt")


def test_lines_may_stand_in_any_order(words_txt, vocabulary):
    """The ids decide, not the lines: a shuffled file is the same vocabulary, with the same hash."""
    lines = words_txt.read_bytes().splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    words_txt.write_bytes(b"".join(lines))
    shuffled = Vocabulary.read(words_txt)
    assert shuffled == vocabulary
    assert shuffled.sha256() == vocabulary.sha256()


def test_a_last_line_without_its_newline_counts(tmp_path):
    """A file that does not end in a newline loses no word."""
    path = tmp_path / "words.txt"
    path.write_bytes(b"<eps> 0\na 1\nb 2")
    assert read_words(path) == ["<eps>", "a", "b"]


@settings(deadline=None, max_examples=60)
@given(st.sets(st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=6), max_size=20))
def test_canonical_bytes_are_read_back(tmp_path_factory, words):
    """What to_bytes writes is read back as the same words, in any script."""
    vocabulary = Vocabulary(("<eps>", *sorted(words - {"<eps>"})), 0, 0, 0)
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_bytes(vocabulary.to_bytes())
    assert tuple(read_words(path)) == vocabulary.words


def test_special_symbols_are_found(vocabulary):
    """The three symbols get the ids of the file."""
    assert (vocabulary.bos, vocabulary.eos, vocabulary.unk) == (6, 7, 4)
    assert vocabulary.ids["naïve"] == 3


@pytest.mark.parametrize("option", ["bos", "eos", "unk"])
def test_an_absent_symbol_is_refused_with_its_option(words_txt, option):
    """A special symbol that is not among the words is an error that names the option."""
    with pytest.raises(VocabularyError, match=rf"no symbol '<nothing>'.*--{option}"):
        Vocabulary.read(words_txt, **{option: "<nothing>"})


def test_a_lookalike_is_pointed_out(words_txt):
    """Another spelling of an absent symbol is suggested with its option."""
    with pytest.raises(VocabularyError, match=r"no symbol '<UNK>'.*it has '<unk>': use --unk '<unk>'"):
        Vocabulary.read(words_txt, unk="<UNK>")


def test_a_large_vocabulary_is_not_printed(tmp_path):
    """The message about an absent symbol stays short whatever the vocabulary's size."""
    path = tmp_path / "words.txt"
    path.write_text("".join(f"{word} {i}\n" for i, word in enumerate(["<eps>", *map(str, range(5000))])))
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.read(path)
    assert len(str(caught.value)) < 500


def test_differing_vocabularies_show_the_first_difference():
    """check_same passes equal vocabularies, and names sizes, id and both words of the first difference."""
    ours = Vocabulary(("<eps>", "a", "b"), 0, 0, 0)
    check_same(ours, Vocabulary(("<eps>", "a", "b"), 1, 1, 1), ours_name="lm", theirs_name="lang")
    with pytest.raises(VocabularyError, match=r"lm: 3 words, lang: 3 words.*at id 2.*'b' as in lm.*'c' in lang"):
        check_same(ours, Vocabulary(("<eps>", "a", "c"), 0, 0, 0), ours_name="lm", theirs_name="lang")
    with pytest.raises(VocabularyError, match=r"at id 2.*nothing in lang"):
        check_same(ours, Vocabulary(("<eps>", "a"), 0, 0, 0), ours_name="lm", theirs_name="lang")


def test_the_testbeds_words_txt_is_good(testbed):
    """A real words.txt of Kaldi is read, and is already canonical."""
    path = testbed / "data" / "lang_tg" / "words.txt"
    vocabulary = Vocabulary.read(path)
    assert vocabulary.to_bytes() == path.read_bytes()
