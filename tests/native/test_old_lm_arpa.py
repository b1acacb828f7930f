# SPDX-License-Identifier: Apache-2.0
"""ARPA files: costs by the book, words that words.txt lacks, and every kind of damage with its line."""

from __future__ import annotations

import logging
import math
import re

import numpy as np
import pytest

from kaldi_mpq.errors import MissingInputError, OldLmError
from kaldi_mpq.native import _ngram
from kaldi_mpq.native.old_lm import open_old_lm
from tests.native.old_lm_files import Sentences, SlowArpa


def flat(lists):
    """All costs in one array."""
    return np.array([cost for costs in lists for cost in costs])


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_costs_are_those_of_the_lookup_rule(lm_files, name):
    """Every word's cost, explicit or backed off, in plain and gzipped files, unknown words as the unknown word."""
    lm = open_old_lm(lm_files.write_arpa(name=name), lm_files.words)
    slow = SlowArpa(lm_files.arpa, lm_files.words)
    words = [lm_files.words[word] for word in ("é", "a", "b", "c", "rare", "<unk>")]
    text = lm_files.sentences(np.random.default_rng(3), 500, words)
    np.testing.assert_allclose(flat(text.costs(lm)), flat([slow.costs(s) for s in text.lists]), atol=1e-5)


def test_both_readings_of_an_arpa_file_are_the_same(lm_files):
    """An ARPA file is defined by its lookup rule: there is no cheapest path."""
    lm = open_old_lm(lm_files.write_arpa(), lm_files.words)
    text = lm_files.sentences(np.random.default_rng(4), 100, [1, 2, 3, 4])
    assert text.costs(lm, "best") == text.costs(lm, "backoff")


def test_any_division_into_pieces_reads_alike(lm_files):
    """The reader is fed pieces that end anywhere, in the middle of words and numbers too."""
    data, words = lm_files.arpa.encode(), lm_files.words
    text = lm_files.sentences(np.random.default_rng(5), 50, [1, 2, 3, 4])
    expected = text.costs(open_old_lm(lm_files.write_arpa(), words))
    for size in (1, 2, 7, 100):
        reader = _ngram.ArpaReader(words, words["<s>"], words["</s>"], words["<unk>"], math.inf)
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])
        word, final = reader.finish().score(text.offsets, text.words, best=False)
        assert [[*word[b:e], f] for b, e, f in zip(text.offsets[:-1], text.offsets[1:], final)] == expected


def test_layout_of_the_text_does_not_matter(lm_files):
    """DOS line ends, spaces for tabs, a comment before the data, no final newline."""
    text = lm_files.sentences(np.random.default_rng(6), 50, [1, 2, 3, 4])
    expected = text.costs(open_old_lm(lm_files.write_arpa(), lm_files.words))
    variants = (
        lm_files.arpa.replace("\n", "\r\n"),
        lm_files.arpa.replace("\t", "  "),
        "made by hand\n\n" + lm_files.arpa,
        lm_files.arpa.rstrip("\n"),
        lm_files.arpa.replace("-0.6\ta", "-6e-1\ta").replace("ngram 1=7", "ngram 1 = 7"),
    )
    for variant in variants:
        assert text.costs(open_old_lm(lm_files.write_arpa(variant), lm_files.words)) == expected


def test_words_that_words_txt_lacks_are_left_out_counted_and_named(lm_files, caplog):
    """Their n-grams are skipped; the others score as if they had never been there."""
    words = {word: number for word, number in lm_files.words.items() if word != "é"}
    with caplog.at_level(logging.WARNING):
        lm = open_old_lm(lm_files.write_arpa(), words)
    assert "1 words are not in words.txt (é, ...): 4 n-grams left out" in caplog.text
    text = lm_files.sentences(np.random.default_rng(7), 100, [2, 3, 4])
    slow = SlowArpa(lm_files.arpa, words)
    np.testing.assert_allclose(flat(text.costs(lm)), flat([slow.costs(s) for s in text.lists]), atol=1e-5)


def test_words_without_a_unigram_are_the_unknown_word_if_there_is_one(lm_files):
    """By default; not with ``unk=None``; a file without it gives what ``unk_logp`` says, or infinity."""
    path, words = lm_files.write_arpa(), lm_files.words
    rare, unknown = Sentences([[words["rare"], 3]]), Sentences([[words["<unk>"], 3]])
    lm = open_old_lm(path, words)
    assert rare.costs(lm) == unknown.costs(lm)
    assert rare.costs(open_old_lm(path, words, unk=None))[0][0] == math.inf
    without = lm_files.arpa.replace("ngram 1=7", "ngram 1=6").replace("-2.5\t<unk>\t-0.4\n", "")
    without = lm_files.write_arpa(without.replace("ngram 2=7", "ngram 2=6").replace("-0.2\t<unk> b\n", ""))
    assert rare.costs(open_old_lm(without, words))[0][0] == math.inf
    given = rare.costs(open_old_lm(without, words, unk_logp=math.log(1e-7)))[0][0]
    assert given == pytest.approx(7.3 * math.log(10))  # with the backoff weight of <s>


def test_ngrams_that_cannot_be_reached_are_left_out_and_counted(lm_files, caplog):
    """An n-gram without its history, and one with a sentence boundary inside, as Kaldi skips them."""
    text = lm_files.arpa.replace("ngram 3=4", "ngram 3=6")
    text = text.replace("-0.5\tc é é\n", "-0.5\tc é é\n-1\ta c a\n-1\ta <s> b\n")
    with caplog.at_level(logging.WARNING):
        lm = open_old_lm(lm_files.write_arpa(text), lm_files.words)
    assert "left out 1 n-grams whose history is no n-gram, 1 with a sentence boundary inside" in caplog.text
    sentences = lm_files.sentences(np.random.default_rng(8), 50, [1, 2, 3, 4])
    assert sentences.costs(lm) == sentences.costs(open_old_lm(lm_files.write_arpa(), lm_files.words))


DAMAGE = {
    "no data section": ("\\data\\", "\\date\\", r":30: not an ARPA file, expected \\data\\"),
    "too many unigrams": ("ngram 1=7", "ngram 1=8", r":15: wrong number of 1-grams, expected 8 .*found 7"),
    "too few bigrams": ("-0.8\tc é\t0.1\n", "", r":23: wrong number of 2-grams, expected 7 .*found 6"),
    "a missing order": ("ngram 2=7\n", "", r":3: bad n-gram count, expected 'ngram 2=COUNT', found 'ngram 3=4'"),
    "a count that is no number": ("ngram 2=7", "ngram 2=many", r":3: bad n-gram count"),
    "a bad probability": ("-0.7\tb a", "-0.7.1\tb a", r":18: bad log-probability, .* found '-0.7.1'"),
    "a probability above 1": ("-0.7\tb a", "0.7\tb a", r":18: bad log-probability, .*up to 0, found '0.7'"),
    "a probability that is no number": ("-0.7\tb a", "nan\tb a", r":18: bad log-probability"),
    "a bad backoff weight": ("a\t-0.1", "a\t-0.1x", r":9: bad backoff weight, expected a number, found '-0.1x'"),
    "a missing word": ("-3.5\ta b\t-0.15", "-3.5\ta", r":17: bad line, expected a log-probability, 2 word"),
    "a missing section": ("\\2-grams:", "\\3-grams:", r":15: wrong section, expected \\2-grams:, found '\\3-grams:'"),
    "the end missing": ("\\end\\\n", "", r":29: truncated, expected \\end\\"),
    "cut off in a line": ("-0.6\tb a c\n-0.5\tc é é\n\n\\end\\\n", "-0.6\tb", r":27: bad line"),
    "an n-gram twice": ("-3.5\ta b\t-0.15", "-3.5\tb a\t-0.15", r":18: an n-gram is there twice, .*found 'a'"),
    "a highest n-gram twice": ("-2.9\ta b a", "-2.9\tc é é", r"an n-gram is there twice"),
    "a sentence end twice": ("-0.9\tc\n", "-0.9\t</s>\n", r":11: an n-gram is there twice"),
    "an epsilon": ("-0.9\tc\n", "-0.9\t<eps>\n", r":11: the epsilon symbol among the words"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_with_its_line(lm_files, name):
    """Each fault is one line: file, line number, what was expected and what was found."""
    good, bad, message = DAMAGE[name]
    assert lm_files.arpa.count(good) == 1
    path = lm_files.write_arpa(lm_files.arpa.replace(good, bad))
    with pytest.raises(OldLmError, match=f"^{re.escape(str(path))}.*?{message}"):
        open_old_lm(path, lm_files.words)


def test_a_model_in_which_no_sentence_ends_is_refused(lm_files):
    """Without </s> every sentence would be impossible."""
    text = lm_files.arpa.replace("ngram 1=7", "ngram 1=6").replace("-1.2\t</s>\n", "")
    text = text.replace("ngram 2=7", "ngram 2=6").replace("-0.4\tb </s>\n", "")
    with pytest.raises(OldLmError, match="no sentence can end"):
        open_old_lm(lm_files.write_arpa(text), lm_files.words)


def test_damaged_gzip_data_is_refused(lm_files):
    """A gzip file that is cut off, and one with a flipped byte."""
    path = lm_files.write_arpa(name="lm.arpa.gz")
    data = path.read_bytes()
    for bad in (data[:-20], data[:60] + bytes([data[60] ^ 0xFF]) + data[61:]):
        path.write_bytes(bad)
        with pytest.raises(OldLmError, match=r"lm\.arpa\.gz"):
            open_old_lm(path, lm_files.words)


def test_what_an_arpa_file_needs_is_named(lm_files, tmp_path):
    """Word ids, with the boundary symbols among them; the file itself; a file and not a directory."""
    path = lm_files.write_arpa()
    with pytest.raises(OldLmError, match="needs the word ids"):
        open_old_lm(path)
    with pytest.raises(OldLmError, match=r"no symbol '<s>' in words\.txt"):
        open_old_lm(path, {"a": 1})
    with pytest.raises(MissingInputError, match=r"none\.arpa"):
        open_old_lm(tmp_path / "none.arpa", lm_files.words)
    with pytest.raises(OldLmError, match="cannot read"):
        open_old_lm(tmp_path, lm_files.words)
    (tmp_path / "empty").touch()
    with pytest.raises(OldLmError, match="not an ARPA file"):
        open_old_lm(tmp_path / "empty", lm_files.words)


@pytest.mark.parametrize("text", ["0", "-0.5", "-1.2345678", "1e-3", "-2.5E+2", "+.5", "5.", "-inf", "1e-400"])
def test_numbers_are_read_as_python_reads_them(lm_files, text):
    """As the backoff weight of "b": decimal, scientific, with and without a point."""
    path = lm_files.write_arpa(lm_files.arpa.replace("-0.5\tb\t-0.2", f"-0.5\tb\t{text}"))
    costs = Sentences([[3, 4]]).costs(open_old_lm(path, lm_files.words))[0]  # "b c" backs off from "b"
    assert costs[1] == pytest.approx((0.9 - float(text)) * math.log(10), rel=1e-6)
