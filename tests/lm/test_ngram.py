# SPDX-License-Identifier: Apache-2.0
"""The n-gram baseline: probabilities sum to 1 over words.txt, perplexities are kaldingram's, files are Kaldi's."""

from __future__ import annotations

import gzip
import math

import numpy as np
import pytest

from kaldi_mpq.errors import ConfigError, MissingInputError, TextError
from kaldi_mpq.lm.ngram import NgramPerplexity, ngram_logprobs, ngram_perplexity, train_ngram
from kaldi_mpq.lm.ngram_settings import NgramSettings
from kaldi_mpq.native.old_lm import open_old_lm
from kaldi_mpq.text.corpus import Corpus, read_text
from kaldi_mpq.text.vocab import Vocabulary

SYMBOLS = ["<eps>", "a", "b", "c", "é", "d", "never", "<unk>", "#0", "<s>", "</s>"]


@pytest.fixture
def files(tmp_path):
    """A words.txt, a text with two words that it lacks, and the same without utterance ids."""
    rng = np.random.default_rng(0)
    words = ["a", "a", "b", "b", "c", "é", "d", "x", "y"]
    lines = [" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(400)]
    (tmp_path / "words.txt").write_text("".join(f"{w} {i}\n" for i, w in enumerate(SYMBOLS)), encoding="utf-8")
    (tmp_path / "text").write_text("".join(f"utt-{i} {line}\n" for i, line in enumerate(lines)), encoding="utf-8")
    (tmp_path / "plain").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return tmp_path


def train(files, name="lm.arpa.gz", **changes):
    """Train on the text; return the file and what was printed."""
    values = {"text": files / "text", "words": files / "words.txt", "out": files / name, **changes}
    return files / name, train_ngram(NgramSettings(**values))


def corpus(lists):
    """Sentences of ids as a corpus."""
    offsets = np.cumsum([0] + [len(words) for words in lists])
    flat = np.array([word for words in lists for word in words], np.int32)
    return Corpus(flat, offsets, np.zeros(len(lists), np.int32))


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("min_counts", [(), (0, 0, 2)])
def test_probabilities_sum_to_1_after_every_history(files, order, min_counts):
    """Over all of words.txt, words that the text lacks and <unk> included, and the sentence end."""
    path, _ = train(files, order=order, min_counts=min_counts[:order])
    vocabulary = Vocabulary.read(files / "words.txt")
    lm = open_old_lm(path, vocabulary.ids, unk=None)
    predicted = [vocabulary.ids[word] for word in ("a", "b", "c", "é", "d", "never", "<unk>")]
    rng = np.random.default_rng(1)
    for _ in range(30):
        history = [int(word) for word in rng.choice(predicted, rng.integers(0, 4))]
        last = [ngram_logprobs(lm, corpus([[*history, word]]))[-2] for word in predicted]
        end = ngram_logprobs(lm, corpus([history]))[-1]
        assert math.exp(end) + np.exp(last).sum() == pytest.approx(1.0, abs=1e-5)


def test_text_with_and_without_utterance_ids_trains_the_same_file(files):
    """Byte for byte, gzipped; plain ARPA has the same text."""
    first, _ = train(files, "a.arpa.gz")
    second, _ = train(files, "b.arpa.gz", text=files / "plain", utterance_ids=False)
    third, _ = train(files, "c.arpa")
    assert first.read_bytes() == second.read_bytes()
    assert gzip.decompress(first.read_bytes()) == third.read_bytes()


def test_perplexity_is_that_of_kaldingram(files):
    """Its own evaluation of our file, on a text whose unknown words were replaced; and what training prints."""
    from kaldingram.ppl import compute_ppl
    from kaldingram.prune import ArpaParser

    path, printed = train(files, "lm.arpa", dev=files / "text")
    vocabulary = Vocabulary.read(files / "words.txt")
    text, _ = read_text(files / "text", vocabulary)
    lines = (files / "plain").read_text(encoding="utf-8").splitlines()
    lines = [" ".join(word if word in vocabulary.ids else "<unk>" for word in line.split()) for line in lines]
    expected = compute_ppl(ArpaParser().loadf(str(path), encoding="utf-8")[0], lines)
    found = ngram_perplexity(open_old_lm(path, vocabulary.ids), text)
    assert found.value == pytest.approx(expected["ppl"], rel=1e-5)
    assert found.tokens == expected["num_words"] + expected["num_sentences"]
    assert printed.endswith(f"perplexity {found.value:.2f} on {found.tokens} tokens")


def test_log_probabilities_follow_the_words_and_then_the_sentence_end(files):
    """Position by position, those of the sentences on their own."""
    path, _ = train(files)
    lm = open_old_lm(path, Vocabulary.read(files / "words.txt").ids)
    lists = [[1, 2], [], [3, 4, 1]]
    alone = [ngram_logprobs(lm, corpus([words])) for words in lists]
    assert [len(logps) for logps in alone] == [3, 1, 4]
    np.testing.assert_array_equal(ngram_logprobs(lm, corpus(lists)), np.concatenate(alone))


def test_impossible_words_make_the_perplexity_infinite_and_are_counted(files):
    """What the others have is told too; sums of perplexities add what was summed."""
    path, _ = train(files)
    lm = open_old_lm(path, Vocabulary.read(files / "words.txt").ids, unk=None)
    possible = ngram_perplexity(lm, corpus([[1, 2]]))
    mixed = ngram_perplexity(lm, corpus([[1, 2], [8]]))  # 8 is #0
    assert mixed.impossible == 1 and mixed.value == math.inf
    assert math.isfinite(mixed.value_of_possible) and "1 others impossible" in str(mixed)
    assert possible + NgramPerplexity(1.0, 1) == NgramPerplexity(possible.nll_nats + 1.0, 4)


def test_higher_orders_and_cutoffs_change_the_size(files):
    """A cutoff leaves fewer n-grams of its order; the summary counts what is in the file."""
    _, all_printed = train(files, order=3)
    path, cut_printed = train(files, "cut.arpa", order=3, min_counts=(0, 0, 2))
    counts = {line[6]: int(line[8:]) for line in path.read_text(encoding="utf-8").splitlines() if line[:6] == "ngram "}
    assert f"{counts['3']} 3-grams" in cut_printed
    assert counts["3"] < int(all_printed.split(" 3-grams")[0].split()[-1])


def test_kaldi_reads_what_we_write(files, kaldi):
    """arpa2fst makes a G.fst of it that scores alike."""
    path, _ = train(files, "lm.arpa")
    kaldi(f"arpa2fst --disambig-symbol=#0 --read-symbol-table={files}/words.txt {path} {files}/G.fst")
    vocabulary = Vocabulary.read(files / "words.txt")
    text, _ = read_text(files / "text", vocabulary)
    fst, arpa = open_old_lm(files / "G.fst", vocabulary.ids), open_old_lm(path, vocabulary.ids)
    np.testing.assert_allclose(ngram_logprobs(fst, text), ngram_logprobs(arpa, text), atol=1e-4)


def test_bad_input_is_named(files):
    """All missing files at once, boundary symbols in the text with the line, settings out of range."""
    with pytest.raises(MissingInputError, match=r"missing 2 .*no_text.*no_words"):
        train(files, text=files / "no_text", words=files / "no_words")
    (files / "bad").write_text("a b\na </s> b\n")
    with pytest.raises(TextError, match=r"bad:2: a sentence boundary"):
        train(files, text=files / "bad", utterance_ids=False)
    (files / "empty").touch()
    with pytest.raises(TextError, match="no sentences"):
        train(files, text=files / "empty", utterance_ids=False)
    with pytest.raises(ConfigError, match="min_counts"):
        train(files, order=2, min_counts=(1, 1, 1))
    assert not list(files.glob("*.tmp")) and not (files / "lm.arpa.gz").exists()


def test_kaldingram_is_left_as_it_was(files):
    """Its progress bars, and the garbage collector, also after a failure."""
    import gc

    from kaldingram import train as kaldingram_train

    bar = kaldingram_train.tqdm
    train(files)
    with pytest.raises(OSError, match="text"):
        train(files, name="text/lm.arpa")  # a file is in the way
    assert kaldingram_train.tqdm is bar and gc.isenabled()
