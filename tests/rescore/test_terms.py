# SPDX-License-Identifier: Apache-2.0
"""The language models of a fusion: every kind gives its own costs, in its own direction."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError, MissingInputError, VocabularyError
from kaldi_mpq.lm.perplexity import token_logps
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.rescore.fusion import Fusion, Term
from kaldi_mpq.rescore.terms import is_ngram, open_terms, reversed_positions
from kaldi_mpq.text.corpus import Corpus
from kaldi_mpq.text.vocab import Vocabulary

CPU = torch.device("cpu")


def hypotheses(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hypotheses of 4 lattices, some alike, some empty."""
    words = [generator.integers(20, 24, generator.integers(0, 5)) for _ in range(9)]
    offsets = np.r_[0, np.cumsum([len(one) for one in words])]
    return np.array([0, 3, 3, 8, 9]), offsets, np.concatenate(words).astype(np.int32)


def one_term(lm, lang, backward=None):
    """Return a fusion's only term, opened."""
    return open_terms(Fusion(1.0, (Term(lm, 1.0, backward),)), lang / "words.txt", CPU)[0]


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_a_backward_models_cost_is_that_of_the_sentence_from_its_end(lang, make_lm, model):
    """Each hypothesis costs what the perplexity of a backward model says, all of it at the sentence end."""
    term = one_term(make_lm(3, model, backward=True), lang)
    lattices, offsets, words = hypotheses(np.random.default_rng(0))
    costs = term.score(lattices, offsets, words, 100)
    corpus = Corpus(words, offsets, np.zeros(len(offsets) - 1, np.int32))
    logps = token_logps(term.model, corpus).double().numpy()
    np.testing.assert_allclose(costs.final, -np.add.reduceat(logps, offsets[:-1] + np.arange(9)), rtol=1e-5)
    assert not costs.word.any()


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_without_normalisation_logits_are_the_log_probabilities(lang, make_lm, model):
    """Each word and end costs minus its logit in one pass over the sentence; normalised, it costs something else."""
    lm = make_lm(4, model)
    fusion = Fusion(1.0, (Term(lm, 1.0),))
    raw, usual = (open_terms(fusion, lang / "words.txt", CPU, normalize)[0] for normalize in (False, True))
    lattices, offsets, words = hypotheses(np.random.default_rng(1))
    costs, normalized = (term.score(lattices, offsets, words, 100) for term in (raw, usual))
    config = raw.model.config
    for i in range(len(offsets) - 1):
        sentence = words[offsets[i] : offsets[i + 1]].tolist()
        with torch.no_grad():
            logits = raw.model.logits(raw.model(torch.tensor([[config.bos, *sentence]]))[0])[0].double()
        expected = [-float(logits[at, word]) for at, word in enumerate([*sentence, config.eos])]
        found = [*costs.word[offsets[i] : offsets[i + 1]], costs.final[i]]
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(costs.final - normalized.final).min() > 0.1


def test_a_float_model_has_no_cheap_denominator(lang, make_lm, caplog):
    """It is said that the denominator stays exact, and it does."""
    fusion = Fusion(1.0, (Term(make_lm(4), 1.0),))
    terms = [open_terms(fusion, lang / "words.txt", CPU, denominator=which)[0] for which in ("exact", "cheap")]
    assert ["its denominator is exact" in record.message for record in caplog.records] == [True]
    exact, cheap = (term.score(*hypotheses(np.random.default_rng(1)), 100) for term in terms)
    assert np.array_equal(exact.word, cheap.word)


def test_a_model_is_not_used_in_the_other_direction(lang, make_lm):
    """A fusion that calls a forward model backward, or the reverse, is refused; silence is no claim."""
    back, forward = make_lm(1, backward=True), make_lm(1)
    with pytest.raises(ConfigError, match="expected a forward model, found a backward model"):
        one_term(back, lang, False)
    with pytest.raises(ConfigError, match="expected a backward model, found a forward model"):
        one_term(forward, lang, True)
    assert one_term(back, lang).backward and one_term(back, lang, True).backward
    assert not one_term(forward, lang).backward


@pytest.mark.parametrize("backward", [None, True])
def test_an_ngram_is_a_term_too(lang, sample, backward):
    """An ARPA file gives its own costs; called backward, those of reversed sentences, all at the end."""
    path = sample / "data" / "local" / "lm" / "ami.o3g.kn.arpa.gz"
    lattices, offsets, words = hypotheses(np.random.default_rng(1))
    costs = one_term(path, lang, backward).score(lattices, offsets, words, 100)
    ngram = native.open_old_lm(path, Vocabulary.read(lang / "words.txt").ids)
    for i in range(len(offsets) - 1):
        sentence = words[offsets[i] : offsets[i + 1]]
        sentence = sentence[::-1] if backward else sentence
        word, final = ngram.score(np.array([0, len(sentence)]), np.ascontiguousarray(sentence))
        here = costs.word[offsets[i] : offsets[i + 1]]
        np.testing.assert_allclose(here.sum() + costs.final[i], word.sum() + final[0])
        if not backward:
            np.testing.assert_allclose(here, word)


def test_models_are_told_apart_by_what_is_in_them(lang, sample, lm, tmp_path):
    """ARPA files and G.fst are n-grams whatever their names, directories and packed files are not."""
    arpa = sample / "data" / "local" / "lm" / "ami.o3g.kn.arpa.gz"
    shutil.copy(arpa, tmp_path / "model")
    (tmp_path / "packed").write_bytes((1000).to_bytes(8, "little") + b'{"a": 1}')
    assert is_ngram(arpa) and is_ngram(tmp_path / "model") and is_ngram(lang / "G.fst")
    assert not is_ngram(lm) and not is_ngram(tmp_path / "packed") and not is_ngram(tmp_path / "damaged.mpq")


def test_wrong_models_are_named(lang, lm, make_lm, tmp_path):
    """All that are missing at once; one of other words."""
    fusion = Fusion(1.0, (Term(tmp_path / "no-a", 1.0), Term(lm, 1.0), Term(tmp_path / "no-b", 1.0)))
    with pytest.raises(MissingInputError, match=r"no-a.*no-b"):
        open_terms(fusion, lang / "words.txt", CPU)
    other = make_lm(2)
    words = (other / "words.txt").read_text().splitlines()
    words[5] = "strange 5"
    (other / "words.txt").write_text("\n".join(words) + "\n")
    with pytest.raises(VocabularyError, match="strange"):
        one_term(other, lang)
    assert open_lm(other).config.vocab_size == len(words)


@given(st.lists(st.integers(0, 4), max_size=6))
def test_reversing_twice_is_the_identity(lengths):
    """Sentences keep their places, each is turned around, and turned again is itself."""
    offsets = np.r_[0, np.cumsum(lengths, dtype=np.int64)]
    words = np.arange(offsets[-1])
    turned = words[reversed_positions(offsets)]
    for i, length in enumerate(lengths):
        here = slice(offsets[i], offsets[i] + length)
        assert turned[here].tolist() == words[here].tolist()[::-1]
    assert turned[reversed_positions(offsets)].tolist() == words.tolist()
