# SPDX-License-Identifier: Apache-2.0
"""The n-gram baseline: trained by kaldingram, and the log-probabilities and perplexity of any n-gram file.

Paper: Kneser and Ney, "Improved backing-off for m-gram language modeling", 1995: interpolation by backing off, with one
discount per order, D = n_1 / (n_1 + 2 n_2). (Not the three discounts of Chen and Goodman's modified form.)

Not here: reading n-gram files (`native.old_lm`) and mixing them with a neural model (`interpolate`).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import gzip
import io
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import TextError
from kaldi_mpq.lm.ngram_settings import NgramSettings
from kaldi_mpq.native.old_lm import OldLm, open_old_lm
from kaldi_mpq.text.corpus import Corpus, read_text
from kaldi_mpq.text.vocab import Vocabulary

__all__ = ["NgramPerplexity", "ngram_logprobs", "ngram_perplexity", "train_ngram"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NgramPerplexity:
    """Summed negative log-likelihood in nats of the tokens with a probability, and how many have one; sums add.

    Args:
      nll_nats: of the tokens that are not impossible.
      tokens: words and sentence ends, impossible ones included.
      impossible: tokens of probability 0: words that the model lacks.
    """

    nll_nats: float
    tokens: int
    impossible: int = 0

    def __add__(self, other: NgramPerplexity) -> NgramPerplexity:
        sums = (self.nll_nats + other.nll_nats, self.tokens + other.tokens, self.impossible + other.impossible)
        return NgramPerplexity(*sums)

    @property
    def value(self) -> float:
        """The perplexity: infinite if any token is impossible."""
        return math.inf if self.impossible else self.value_of_possible

    @property
    def value_of_possible(self) -> float:
        """The perplexity of the tokens that have a probability."""
        return math.exp(self.nll_nats / max(self.tokens - self.impossible, 1))

    def __str__(self) -> str:
        if not self.impossible:
            return f"perplexity {self.value:.2f} on {self.tokens} tokens"
        possible = self.tokens - self.impossible
        return f"perplexity {self.value_of_possible:.2f} on {possible} tokens, {self.impossible} others impossible"


def train_ngram(settings: NgramSettings) -> str:
    """Write an n-gram of ``settings.text`` as an ARPA file; return its size, and its perplexity on ``settings.dev``.

    Raises:
      MissingInputError, VocabularyError, TextError: naming the file and line.
    """
    require([path for path in (settings.text, settings.words, settings.dev) if path is not None])
    vocabulary = Vocabulary.read(settings.words, bos=settings.bos, eos=settings.eos, unk=settings.unk)
    model = _count(_read(settings.text, vocabulary, settings.utterance_ids), vocabulary, settings.order)
    with _quietly():
        if any(settings.min_counts):
            model.apply_count_cutoffs([*settings.min_counts, *[0] * (settings.order - len(settings.min_counts))])
        model.cal_discounting_constants()
        model.cal_f()
        model.cal_bow()
        with writing(settings.out) as temporary, _text_writer(temporary, settings.out.suffix == ".gz") as stream:
            model.print_as_arpa(fout=stream)
    sizes = ", ".join(f"{_size(model, n)} {n}-grams" for n in range(1, settings.order + 1))
    summary = f"{settings.out}: {sizes}, {settings.out.stat().st_size} bytes"
    if settings.dev is None:
        return summary
    corpus = _read(settings.dev, vocabulary, settings.utterance_ids)
    trained = open_old_lm(settings.out, vocabulary.ids, bos=settings.bos, eos=settings.eos, unk=settings.unk)
    return f"{summary}\n{settings.dev}: {ngram_perplexity(trained, corpus)}"


def ngram_logprobs(lm: OldLm, corpus: Corpus) -> np.ndarray:
    """Return (W + N,) float64, the natural-log probability of every word and, after its words, of every sentence end.

    A word that the model lacks has -inf. The deterministic reading of backoff, whose probabilities sum to 1.
    """
    word, final = lm.score(corpus.offsets, corpus.words, reading="backoff")
    return -np.insert(word, corpus.offsets[1:], final)


def ngram_perplexity(lm: OldLm, corpus: Corpus) -> NgramPerplexity:
    """Return the perplexity of an n-gram on a corpus, sentence ends counted, unknown words as the unknown word."""
    logp = ngram_logprobs(lm, corpus)
    possible = np.isfinite(logp)
    return NgramPerplexity(-float(logp[possible].sum()), len(logp), int((~possible).sum()))


def _read(path: Path, vocabulary: Vocabulary, utterance_ids: bool) -> Corpus:
    if utterance_ids:
        corpus, stats = read_text(path, vocabulary)
        log.info("%s: %s", path, stats)
        return corpus
    return _read_sentences(path, vocabulary)


def _read_sentences(path: Path, vocabulary: Vocabulary) -> Corpus:
    """Read plain sentences, one per line; empty lines are no sentences."""
    ids = {word.encode("utf-8"): number for word, number in vocabulary.ids.items()}
    boundaries = {vocabulary.bos, vocabulary.eos, 0}
    flat: list[int] = []
    offsets = [0]
    unknown = 0
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            sentence = [ids.get(word, -1) for word in line.split()]
            if not boundaries.isdisjoint(sentence):
                raise TextError("a sentence boundary or <eps> among the words", where=f"{path}:{number}")
            if sentence:
                unknown += sentence.count(-1)
                flat.extend(vocabulary.unk if word < 0 else word for word in sentence)
                offsets.append(len(flat))
    if len(offsets) == 1:
        raise TextError("no sentences", where=path, expected="one per line")
    log.info("%s: %d sentences, %d words, %d out of vocabulary", path, len(offsets) - 1, len(flat), unknown)
    return Corpus(np.array(flat, np.int32), np.array(offsets, np.int64), np.zeros(len(offsets) - 1, np.int32))


def _count(corpus: Corpus, vocabulary: Vocabulary, order: int) -> Any:
    """Return kaldingram's counts of a corpus, every word of the vocabulary among them."""
    from kaldingram.train import NgramCounts

    words = vocabulary.words
    bos, eos = words[vocabulary.bos], words[vocabulary.eos]
    counts = NgramCounts(order, bos_symbol=bos, eos_symbol=eos)
    with _quietly():
        for i in range(len(corpus)):
            sentence = corpus.words[corpus.offsets[i] : corpus.offsets[i + 1]]
            counts.add_raw_counts_from_line(" ".join(words[word] for word in sentence))
    seen = counts.counts[0][()].word_to_count
    unseen = [word for word in words[1:] if word not in seen and word != bos and not _is_disambiguation(word)]
    # A lower order counts the different words before a word. A word that the text lacks is given one, so that unigrams
    # sum to 1 over the whole vocabulary, and <unk> has a probability even where words.txt was made from the text.
    for word in unseen:
        counts.add_count((), word, eos, 1)
    if unseen:
        log.info("%d words of words.txt are not in the text: as likely as a word seen once", len(unseen))
    return counts


def _is_disambiguation(word: str) -> bool:
    return word[0] == "#" and word[1:].isdecimal()


def _size(model: Any, order: int) -> int:
    return sum(len(history.word_to_f) for history in model.counts[order - 1].values())


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Show kaldingram's progress bars on terminals only, and spare its millions of objects the garbage collector."""
    from kaldingram import train

    bar, collecting = train.tqdm, gc.isenabled()
    train.tqdm = functools.partial(bar, disable=None)
    gc.disable()
    try:
        yield
    finally:
        train.tqdm = bar
        if collecting:
            gc.enable()


@contextlib.contextmanager
def _text_writer(path: Path, zipped: bool) -> Iterator[io.TextIOWrapper]:
    """A UTF-8 text file; a gzipped one has no name or time inside, so that equal models are equal files."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open(path, "wb"))
        if zipped:
            raw = stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0))
        yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", newline="\n"))
