# SPDX-License-Identifier: Apache-2.0
"""Perplexity against log-softmax of one sentence at a time."""

from __future__ import annotations

import math

import pytest
import torch

from kaldi_mpq.lm.perplexity import Perplexity, perplexity, token_logps

BOS, EOS = 21, 22


@torch.no_grad()
def spelled_out(model, corpus, by_conversation: bool = False) -> list[float]:
    """Return the log-probability of every token, one utterance at a time, in the corpus's order."""
    logps, state, before = [], None, None
    for i in range(len(corpus)):
        words = corpus.words[corpus.offsets[i] : corpus.offsets[i + 1]].tolist()
        words = words[::-1] if model.config.backward else words
        fresh = corpus.conversation[i] != before
        before = corpus.conversation[i]
        hidden, state = model(torch.tensor([[BOS, *words]]), state if by_conversation and not fresh else None)
        table = torch.log_softmax(model.logits(hidden)[0].double(), dim=1)
        logps += [float(table[position, word]) for position, word in enumerate([*words, EOS])]
    return logps


@pytest.mark.parametrize("batch_tokens", [1, 13, 4000])
def test_perplexity_does_not_depend_on_the_batch_size(kind, make_model, make_corpus, batch_tokens):
    """Whatever the batches, the negative log-likelihood is that of single sentences, and so is the count."""
    model, corpus = make_model(kind), make_corpus([4, 0, 7, 1, 1, 12, 3])
    expected = spelled_out(model, corpus)
    found = perplexity(model, corpus, batch_tokens=batch_tokens)
    assert found.tokens == len(expected) == corpus.num_tokens
    assert found.nll_nats == pytest.approx(-sum(expected), rel=1e-5)
    assert found.value == pytest.approx(math.exp(-sum(expected) / len(expected)), rel=1e-5)


@pytest.mark.parametrize("batch_tokens", [70, 150, 4000])
def test_context_carries_an_lstms_state_over_utterances(make_model, make_corpus, batch_tokens):
    """With the conversation as context every utterance starts from the state after the one before it."""
    model = make_model("lstm-projected")
    corpus = make_corpus([4, 0, 30, 50, 12, 3, 60, 60], [0, 0, 0, 1, 1, 2, 2, 2])
    expected = spelled_out(model, corpus, by_conversation=True)
    found = perplexity(model, corpus, batch_tokens=batch_tokens, context="conversation")
    assert found.tokens == len(expected)
    assert found.nll_nats == pytest.approx(-sum(expected), rel=1e-5)
    assert found.nll_nats != pytest.approx(perplexity(model, corpus).nll_nats, rel=1e-4)


@pytest.mark.parametrize("batch_tokens", [1, 13, 4000])
def test_token_logps_come_in_the_corpuss_order(kind, make_model, make_corpus, batch_tokens):
    """Word by word, each utterance with its end, as they stand in the corpus."""
    model, corpus = make_model(kind), make_corpus([4, 0, 7, 1, 1, 12, 3])
    found = token_logps(model, corpus, batch_tokens=batch_tokens)
    assert torch.allclose(found.double(), torch.tensor(spelled_out(model, corpus)).double(), atol=1e-5)


def test_measuring_is_without_dropout_and_leaves_the_model_as_it_was(make_model, make_corpus):
    """In the middle of a training, dropout is off while measuring and on again afterwards."""
    model, corpus = make_model("lstm", dropout=0.5).train(), make_corpus([4, 2])
    sums = {perplexity(model, corpus).nll_nats for _ in range(2)}
    assert model.training
    sums |= {-float(token_logps(model, corpus).double().sum()) for _ in range(2)}
    assert model.training
    assert max(sums) == pytest.approx(min(sums), rel=1e-6)


def test_sums_add_and_perplexities_do_not_overflow():
    """Two texts add up to one; an absurd model is infinitely perplexed, not an error."""
    both = Perplexity(math.log(10) * 4, 4) + Perplexity(math.log(1000) * 2, 2)
    assert both.tokens == 6
    assert both.value == pytest.approx(10 ** (10 / 6))
    assert Perplexity(1e6, 1).value == math.inf
    assert both.to_dict() == {"perplexity": both.value, "nll_nats": both.nll_nats, "tokens": 6}


@pytest.mark.parametrize("context", ["utterance", "conversation"])
def test_a_backward_model_reads_every_utterance_from_its_end(make_model, make_corpus, context):
    """Its perplexity is that of reversed sentences, conversations in their order, and not that of the sentences."""
    model = make_model("lstm", backward=True)
    corpus = make_corpus([4, 0, 7, 1, 12], [0, 0, 1, 1, 1])
    expected = spelled_out(model, corpus, by_conversation=context == "conversation")
    found = perplexity(model, corpus, context=context)
    assert found.nll_nats == pytest.approx(-sum(expected), rel=1e-5)
    assert found.nll_nats != pytest.approx(perplexity(make_model("lstm"), corpus, context=context).nll_nats, rel=1e-4)
    if context == "utterance":
        assert token_logps(model, corpus).tolist() == pytest.approx(expected, abs=1e-4)
