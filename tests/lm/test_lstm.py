# SPDX-License-Identifier: Apache-2.0
"""The LSTM language model against torch's own LSTM."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kaldi_mpq.lm.lstm import LstmState


@pytest.fixture(params=["lstm", "lstm-projected"])
def pair(request, make_model):
    """One of our models and the nn.LSTM with the same weights."""
    model = make_model(request.param)
    config = model.config
    theirs = nn.LSTM(config.embedding_dim, config.hidden_dim, config.layers)
    for k, layer in enumerate(model.layers):
        for name, value in {"weight_ih": layer.ih, "weight_hh": layer.hh, "bias_ih": layer.bias}.items():
            getattr(theirs, f"{name}_l{k}").data.copy_(value.data)
        getattr(theirs, f"bias_hh_l{k}").data.zero_()
    return model, theirs


@torch.no_grad()
def test_forward_is_torchs_lstm(pair):
    """Hidden vectors and states are those of nn.LSTM, from the start and from a carried state."""
    model, theirs = pair
    words = torch.randint(0, 23, (3, 7))
    state, their_state = None, None
    for part in (words[:, :4], words[:, 4:]):
        ours, state = model(part, state)
        above, their_state = theirs(model.embed(part.t()), their_state)
        expected = above if model.projection is None else model.projection(above)
        assert torch.allclose(ours, expected.transpose(0, 1), atol=1e-6)
        assert torch.allclose(state.hidden, their_state[0], atol=1e-6)
        assert torch.allclose(state.cell, their_state[1], atol=1e-6)


@torch.no_grad()
def test_advance_is_torchs_lstm(pair):
    """States advanced one word at a time are those of nn.LSTM."""
    model, theirs = pair
    words = torch.randint(0, 23, (4, 6))
    state = model.start(4)
    for position in range(words.shape[1]):
        _, state = model.advance(state, torch.arange(4), words[:, position])
    _, (hidden, cell) = theirs(model.embed(words.t()))
    assert torch.allclose(state.hidden, hidden, atol=1e-6)
    assert torch.allclose(state.cell, cell, atol=1e-6)


def test_gradients_are_torchs(pair):
    """Training moves our weights as it moves nn.LSTM's."""
    model, theirs = pair
    words = torch.randint(0, 23, (3, 5))
    hidden, _ = model(words)
    hidden.sum().backward()
    above, _ = theirs(model.embed(words.t()).detach())
    (above if model.projection is None else model.projection(above)).sum().backward()
    for k, layer in enumerate(model.layers):
        assert torch.allclose(layer.ih.grad, getattr(theirs, f"weight_ih_l{k}").grad, atol=1e-5)
        assert torch.allclose(layer.hh.grad, getattr(theirs, f"weight_hh_l{k}").grad, atol=1e-5)
        assert torch.allclose(layer.bias.grad, getattr(theirs, f"bias_ih_l{k}").grad, atol=1e-5)


def test_peepholes_of_zero_are_none(make_model):
    """A model with peepholes of 0 is the model without them, trained or advanced."""
    peeping = make_model("lstm", peephole=True)
    for layer in peeping.layers:
        layer.peephole.data.zero_()
    plain = make_model("lstm")
    plain.load_state_dict({name: tensor for name, tensor in peeping.state_dict().items() if "peephole" not in name})
    words = torch.randint(0, 23, (3, 7))
    for part in (words[:, :4], words[:, 4:]):
        expected, one = plain(part)
        found, other = peeping(part)
        assert torch.allclose(found, expected, atol=1e-6)
        parents = torch.tensor([0, 0, 2])
        for ours, theirs in zip(peeping.advance(other, parents, part[:, 0]), plain.advance(one, parents, part[:, 0])):
            assert torch.allclose(getattr(ours, "cell", ours), getattr(theirs, "cell", theirs), atol=1e-6)


def test_peepholes_are_seen(make_model):
    """What the cells hold reaches the gates: each of the three peepholes changes what comes out."""
    model = make_model("lstm", layers=1, peephole=True)
    words = torch.randint(0, 23, (2, 5))
    before, _ = model(words)
    for gate in range(3):
        model.layers[0].peephole.data[gate * 8 : (gate + 1) * 8] += 0.5
        after, _ = model(words)
        assert not torch.allclose(after, before, atol=1e-3)
        before = after


def test_marked_rows_are_replaced():
    """LstmState.where takes marked histories from the other state and leaves the rest."""
    old = LstmState(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
    new = LstmState(torch.ones(2, 3, 4), 2 * torch.ones(2, 3, 4))
    mixed = old.where(torch.tensor([False, True, False]), new)
    assert mixed.hidden[:, :, 0].tolist() == [[0, 1, 0]] * 2
    assert mixed.cell[:, :, 0].tolist() == [[0, 2, 0]] * 2
