# SPDX-License-Identifier: Apache-2.0
"""The one-pass step of many histories is the layer's own step of each."""

from __future__ import annotations

import pytest
import torch

from kaldi_mpq.lm import lstm_step
from kaldi_mpq.lm.lstm import LstmLayer
from kaldi_mpq.lm.lstm_step import step_histories


def chosen(rows: int, width: int, count: int, generator: torch.Generator):
    """Return random rows and which of them each history takes."""
    return torch.randn(rows, width, generator=generator), torch.randint(0, rows, (count,), generator=generator)


@pytest.mark.parametrize("cells", [1, 12, 37])
@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize("count", [0, 1, 131])
def test_step_is_the_layers(monkeypatch, cells, peephole, count):
    """With and without native code, with and without peepholes: the same vectors."""
    generator = torch.Generator().manual_seed(1)
    layer = LstmLayer(3, cells, peephole)
    if peephole:
        layer.peephole.data = torch.randn(3 * cells, generator=generator)
    below, before = chosen(7, 4 * cells, count, generator), chosen(5, 4 * cells, count, generator)
    cell = chosen(9, cells, count, generator)
    found = []
    for native in (True, False):
        monkeypatch.setattr(lstm_step.dense, "has_fast_kernels", lambda native=native: native)
        with torch.no_grad():
            found.append(step_histories(layer, below, before, cell))
    for one, other in zip(*found, strict=True):
        assert one.shape == (count, cells)
        assert torch.allclose(one, other, atol=2e-6)


def test_gradients_flow_where_they_are_wanted():
    """Native code has none, so it is not used then."""
    layer = LstmLayer(3, 4)
    rows = torch.zeros(2, dtype=torch.int64)
    below = torch.nn.functional.linear(torch.ones(1, 3), layer.ih)
    hidden, _ = step_histories(layer, (below, rows), (torch.zeros(1, 16), rows), (torch.ones(1, 4), rows))
    hidden.sum().backward()
    assert layer.ih.grad.abs().sum() > 0
