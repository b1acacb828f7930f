# SPDX-License-Identifier: Apache-2.0
"""Kaldi text as ids: words, order, conversations, and what is refused."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kaldi_mpq.errors import MissingInputError, TextError
from kaldi_mpq.text.corpus import Corpus, read_text
from kaldi_mpq.text.vocab import Vocabulary


def sentences(corpus: Corpus, vocabulary: Vocabulary) -> list[str]:
    """Return the utterances of a corpus as text."""
    words = [vocabulary.words[number] for number in corpus.words]
    return [" ".join(words[a:b]) for a, b in zip(corpus.offsets[:-1], corpus.offsets[1:], strict=True)]


def test_words_become_ids_and_unknown_ones_are_counted(data_dir, vocabulary):
    """Known words get their ids, unknown ones that of <unk>; the statistics count them and name the most frequent."""
    text = data_dir(text="a-1 yeah naïve\na-2\na-3 xylo okay xylo zebra\n")
    corpus, stats = read_text(text, vocabulary)
    assert sentences(corpus, vocabulary) == ["yeah naïve", "", "<unk> okay <unk> <unk>"]
    assert (stats.utterances, stats.words, stats.oov_words, stats.conversations) == (3, 6, 3, 1)
    assert stats.most_frequent_oov == {"xylo": 2, "zebra": 1}
    assert "3 out of vocabulary (50.00%): xylo (2), zebra (1)" in str(stats)
    assert corpus.num_tokens == 6 + 3


def test_only_ascii_space_parts_words(data_dir, tmp_path):
    """A no-break space within a word stays there, as in Kaldi; tabs and DOS line ends are space."""
    words = ("<eps>", "a\u00a0b", "c", "<unk>", "<s>", "</s>")
    vocabulary = Vocabulary(words, 4, 5, 3)
    corpus, stats = read_text(data_dir(text="u-1 a\u00a0b\tc\r\n\nu-2 c"), vocabulary)
    assert sentences(corpus, vocabulary) == ["a\u00a0b c", "c"]
    assert stats.oov_words == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"u-1 yeah\nu-2 okay\nu-1 okay\n", r"text:3: utterance 'u-1' is there twice.*line 1"),
        (b"u-1 yeah\nu-2 na\xefve\n", r"text:2: not UTF-8"),
        (b"u-1 yeah\nu-2 okay </s>\n", r"text:2: symbol '</s>' among the words"),
        (b"u-1 <s> yeah\n", r"text:1: symbol '<s>' among the words"),
        (b"u-1 yeah #0\n", r"text:1: symbol '#0' among the words"),
        (b"u-1 <eps>\n", r"text:1: symbol '<eps>' among the words"),
        (b"\n\n", r"no utterances"),
        (b"", r"no utterances"),
    ],
)
def test_bad_text_is_refused_with_its_line(tmp_path, vocabulary, content, message):
    """A malformed text is refused, and the message names the line."""
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(TextError, match=message):
        read_text(path, vocabulary)


def test_sides_of_a_conversation_interleave_by_time(data_dir, vocabulary):
    """With segments and reco2file_and_channel, utterances come in the order in which they were spoken."""
    text = data_dir(
        text="sw1-A_1 yeah\nsw1-A_2 okay okay\nsw1-B_1 okay\nsw2-A_1 naïve\n",
        segments="sw1-A_1 sw1-A 0.5 1\nsw1-A_2 sw1-A 10.0 11\nsw1-B_1 sw1-B 2.25 3\nsw2-A_1 sw2-A 0.0 1\n",
        reco2file_and_channel="sw1-A sw1 A\nsw1-B sw1 B\nsw2-A sw2 A\n",
    )
    corpus, stats = read_text(text, vocabulary)
    assert sentences(corpus, vocabulary) == ["yeah", "okay", "okay okay", "naïve"]
    assert corpus.conversation.tolist() == [0, 0, 0, 1]
    assert stats.conversations == 2


def test_without_reco2file_a_recording_is_a_conversation(data_dir, vocabulary):
    """Segments alone order the utterances of each recording."""
    text = data_dir(text="A_1 yeah\nA_2 okay\nB_1 naïve\n", segments="A_1 recA 5 6\nA_2 recA 1 2\nB_1 recB 0 1\n")
    corpus, _ = read_text(text, vocabulary)
    assert sentences(corpus, vocabulary) == ["okay", "yeah", "naïve"]
    assert corpus.conversation.tolist() == [0, 0, 1]


def test_without_segments_the_order_of_the_file_is_kept(data_dir, vocabulary):
    """Utterances are grouped by the beginning of their ids, and keep the order of the file within a group."""
    corpus, _ = read_text(data_dir(text="m1-b yeah\nm2_a naïve\nm1-a okay\n"), vocabulary)
    assert sentences(corpus, vocabulary) == ["yeah", "okay", "naïve"]
    assert corpus.conversation.tolist() == [0, 0, 1]


def test_incomplete_segments_are_told(data_dir, vocabulary, caplog):
    """Where segments lack an utterance the order of the file is kept, and the log says so."""
    text = data_dir(text="m1-1 yeah\nm1-2 okay\n", segments="m1-1 rec 5 6\n")
    corpus, _ = read_text(text, vocabulary)
    assert sentences(corpus, vocabulary) == ["yeah", "okay"]
    assert "lacks 1 utterance(s), m1-2 first" in caplog.text


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ("u-1 rec\n", r"segments:1: bad line, expected 4 fields"),
        ("u-1 rec zero 1.0\n", r"bad start of u-1, expected seconds, found 'zero'"),
        ("u-1 rec nan 1.0\n", r"bad start of u-1"),
    ],
)
def test_bad_segments_are_refused(data_dir, vocabulary, segments, message):
    """A malformed line of segments is an error with its place, not a crash."""
    with pytest.raises(TextError, match=message):
        read_text(data_dir(text="u-1 yeah\n", segments=segments), vocabulary)


def test_a_flattened_link_is_followed(data_dir, vocabulary, tmp_path, caplog):
    """A file that holds only another file's name is read as the link that it was; segments stay beside the link."""
    (tmp_path / "real text").write_text("u-1 yeah\nu-2 okay\n")
    text = data_dir(text="../real text", segments="u-1 rec 5 6\nu-2 rec 1 2\n")
    corpus, _ = read_text(text, vocabulary)
    assert sentences(corpus, vocabulary) == ["okay", "yeah"]
    assert "flattened link" in caplog.text


@pytest.mark.parametrize("words", [1, 60, 200])
def test_a_text_of_one_utterance_is_no_link(data_dir, vocabulary, words):
    """One line, however long, is an utterance unless a file has that name."""
    corpus, _ = read_text(data_dir(text="u-1" + " naïve" * words), vocabulary)
    assert corpus.lengths.tolist() == [words]


def test_missing_text_is_named(tmp_path, vocabulary):
    """A text that is not there is named."""
    with pytest.raises(MissingInputError, match="nowhere"):
        read_text(tmp_path / "nowhere", vocabulary)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_a_corpus_survives_its_file(tmp_path_factory, lengths, data):
    """Every corpus is read back as it was written."""
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
    words = data.draw(arrays(np.int32, int(offsets[-1])))
    corpus = Corpus(words, offsets, np.zeros(len(lengths), np.int32))
    path = tmp_path_factory.mktemp("corpus") / "a.ids"
    corpus.save(path)
    back = Corpus.load(path)
    for name in ("words", "offsets", "conversation"):
        ours, theirs = getattr(corpus, name), getattr(back, name)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


def test_a_damaged_corpus_is_refused(tmp_path, data_dir, vocabulary):
    """A file that was cut off, is of another kind or lacks an array is an error that names it."""
    corpus, _ = read_text(data_dir(text="u-1 yeah okay\n"), vocabulary)
    path = tmp_path / "a.ids"
    corpus.save(path)
    whole = path.read_bytes()
    for damaged in (whole[:-3], whole[:20], b"", b"yeah okay\n", whole.replace(b'"words"', b'"sword"')):
        path.write_bytes(damaged)
        with pytest.raises(TextError, match=r"a\.ids: not a corpus.*mpq text"):
            Corpus.load(path)
    with pytest.raises(MissingInputError, match=r"b\.ids.*mpq text"):
        Corpus.load(tmp_path / "b.ids")


def test_the_testbeds_dev_text_is_read(testbed):
    """Real text loses no utterance and no word, unknown ones are counted, and each conversation is in one piece."""
    place = testbed / "data" / "dev"
    vocabulary = Vocabulary.read(testbed / "data" / "lang_tg" / "words.txt")
    corpus, stats = read_text(place / "text", vocabulary)
    lines = [line.split() for line in (place / "text").read_text(encoding="utf-8").splitlines()]
    assert (stats.utterances, stats.words) == (len(lines), sum(len(line) - 1 for line in lines))
    unknown = collections.Counter(word for line in lines for word in line[1:] if word not in vocabulary.ids)
    assert stats.oov_words == unknown.total()
    known = collections.Counter(vocabulary.ids.get(word, vocabulary.unk) for line in lines for word in line[1:])
    assert collections.Counter(corpus.words.tolist()) == known
    assert np.all(np.diff(corpus.conversation) >= 0)
