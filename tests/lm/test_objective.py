# SPDX-License-Identifier: Apache-2.0
"""Cross entropy over the positions that count, label smoothing, and carried states."""

from __future__ import annotations

import pytest
import torch

from kaldi_mpq.lm.batches import PADDING, Batch, conversation_batches, utterance_batches, utterance_plan
from kaldi_mpq.lm.objective import Objective

BOS, EOS = 21, 22


def only_batch(corpus) -> Batch:
    """Return a corpus as one batch."""
    (batch,) = utterance_batches(corpus, utterance_plan(corpus, 10**6, None), BOS, EOS)
    return batch


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mean_over_tokens(kind, make_model, make_corpus, smoothing):
    """(1 - s) of the mass is on the word, s is spread over the vocabulary; padding does not count."""
    model, batch = make_model(kind), only_batch(make_corpus([3, 0, 6]))
    loss, _ = Objective(model, smoothing)(batch, None)
    with torch.no_grad():
        logps = torch.log_softmax(model.logits(model(batch.inputs)[0]).double(), dim=-1)
    costs = []
    for row, position in torch.nonzero(batch.targets != PADDING).tolist():
        here = logps[row, position]
        costs.append(-(1 - smoothing) * here[batch.targets[row, position]] - smoothing * here.mean())
    assert loss.item() == pytest.approx(float(torch.stack(costs).mean()), rel=1e-5)


def test_a_state_is_carried_where_a_row_goes_on(make_model, make_corpus):
    """A fresh row starts from nothing, the others from the last batch's state, through which no gradient flows."""
    model = make_model("lstm")
    corpus = make_corpus([5, 3, 9], [0, 0, 1])
    batches = conversation_batches(corpus, BOS, EOS, streams=1, window=4, seed=None)
    objective = Objective(model)
    state, before = None, None
    for batch in batches:
        loss, state = objective(batch, state)
        start = None if bool(batch.fresh[0]) else before
        hidden, before = model(batch.inputs, start)
        counted = batch.targets != PADDING
        expected = torch.nn.functional.cross_entropy(model.logits(hidden[counted]), batch.targets[counted])
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        loss.backward()  # fails were the graph of the batch before still attached


def test_a_batch_without_tokens_moves_nothing(kind, make_model):
    """Where a process has nothing left to train on, the loss is 0 and so are all gradients, none of them missing."""
    model = make_model(kind)
    batch = Batch(torch.full((2, 3), BOS), torch.full((2, 3), PADDING), torch.tensor([True, True]))
    loss, _ = Objective(model, 0.1)(batch, None)
    loss.backward()
    assert loss.item() == 0.0
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()
