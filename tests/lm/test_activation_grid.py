# SPDX-License-Identifier: Apache-2.0
"""Activations on grids: values, gradients, and models that see them everywhere they should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kaldi_mpq.lm.activation_grid import ActivationGrid, calibrating
from kaldi_mpq.lm.model import build


@given(bits=st.integers(2, 8), clip=st.floats(0.05, 20.0), seed=st.integers(0, 99))
def test_values_lie_on_the_grid_and_near(bits, clip, seed):
    """2^n - 1 levels from -a to a, 0 among them; values within the clip move by half a level at most."""
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed)) * clip
    grid = ActivationGrid(bits, clip)
    found = grid(x)
    step = clip / (2 ** (bits - 1) - 1)
    codes = found / step
    assert torch.allclose(codes, codes.round(), atol=1e-3) and codes.abs().max() <= 2 ** (bits - 1) - 1 + 1e-3
    inside = x.abs() <= clip
    assert ((found - x).abs()[inside] <= 0.501 * step).all()
    assert (found[~inside].abs() - clip).abs().le(1e-4 * clip).all()
    assert grid(torch.zeros(3)).abs().max() == 0


def test_gradients_go_straight_through_and_the_clip_gets_what_is_beyond():
    """Inside the clip values get the whole gradient, beyond it the clip gets it, with the sign of the value."""
    grid = ActivationGrid(4)
    x = torch.tensor([-3.0, -0.5, 0.2, 1.5], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    (grid(x) * weights).sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 0.0]
    assert grid.clip.grad.item() == -1.0 + 4.0


def test_calibration_finds_the_clip_of_least_error():
    """No clip of a fine search is better by more than a little, and an outlier does not set it."""
    torch.manual_seed(0)
    x = torch.cat([torch.randn(5000), torch.tensor([40.0])])
    grid = ActivationGrid(4)
    with calibrating(grid):
        grid(x)
    error = {}
    for clip in [grid.clip.item(), *torch.linspace(0.5, 40.0, 200).tolist()]:
        error[clip] = (ActivationGrid(4, clip)(x) - x).square().sum().item()
    assert error[grid.clip.item()] <= 1.05 * min(error.values())
    before = grid.clip.item()
    grid(10 * x)
    assert grid.clip.item() == before


def test_a_model_sees_the_same_step_by_step(kind, make_model):
    """Whole sentences and words fed one by one go through the same grids, in every architecture."""
    torch.manual_seed(1)
    model = build(replace(make_model(kind).config, activation_bits=4)).eval()
    words = torch.randint(1, 20, (3, 6))
    with torch.no_grad():
        with calibrating(model):
            model(words)
        hidden, _ = model(words)
        state, every = model.start(3), torch.arange(3)
        for t in range(6):
            stepped, state = model.advance(state, every, words[:, t])
            torch.testing.assert_close(stepped, hidden[:, t], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_more_bits_are_nearer_to_float(kind, make_model, bits):
    """The weights are the same; with 8 bits hidden vectors differ less than with 4, and with 4 they do differ."""
    model = make_model(kind)
    words = torch.randint(1, 20, (4, 8))
    far = {}
    for n in (3, bits):
        seen = build(replace(model.config, activation_bits=n)).eval()
        seen.load_state_dict({**seen.state_dict(), **model.state_dict()})
        with torch.no_grad(), calibrating(seen):
            far[n] = (seen(words)[0] - model(words)[0]).square().mean().item()
    assert 0 < far[bits] < far[3]
