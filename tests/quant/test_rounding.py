# SPDX-License-Identifier: Apache-2.0
"""Straight-through rounding: values of the grid, gradients of the paper."""

import pytest
import torch

from kaldi_mpq.quant import rounding
from kaldi_mpq.quant.grid import GRID_BITS, largest_code, to_codes, to_values
from kaldi_mpq.quant.rounding import learned_scale, round_through


def slow(weight, scale, bits):
    """The same by autograd: the rounding residual is detached, so gradients are those of eq. (1)-(5)."""
    largest = largest_code(bits)
    ratio = (weight / scale).clamp(-largest, largest)
    return scale * (ratio + (ratio.round() - ratio).detach())


@pytest.mark.parametrize("bits", GRID_BITS)
@pytest.mark.parametrize("columns", [1, 7])
def test_values_are_those_of_the_grid(bits, columns):
    """Forward is exactly what codes and scales give."""
    weight, scale = torch.randn(5, 7), torch.rand(5, columns) + 0.1
    assert torch.allclose(round_through(weight, scale, bits), to_values(to_codes(weight, scale, bits), scale))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("columns", [1, 7])
def test_gradients_are_those_of_the_paper(bits, columns):
    """Against autograd through clip and a detached rounding residual, for weights and scales."""
    torch.manual_seed(bits)
    weight = torch.randn(6, 7).requires_grad_()
    scale = (torch.rand(6, columns) * 2 / largest_code(bits) + 0.01).requires_grad_()
    upstream = torch.randn(6, 7)
    ours = torch.autograd.grad(round_through(weight, scale, bits), (weight, scale), upstream)
    theirs = torch.autograd.grad(slow(weight, scale, bits), (weight, scale), upstream)
    for mine, other in zip(ours, theirs):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-4)


def test_one_bit_passes_gradients_everywhere():
    """1 bit: the weights' gradient is the output's, the scale's is the sum over signs."""
    weight = torch.tensor([[0.3, -2.0, 5.0]], requires_grad=True)
    scale = torch.tensor([[0.5]], requires_grad=True)
    upstream = torch.tensor([[1.0, 2.0, 4.0]])
    grads = torch.autograd.grad(round_through(weight, scale, 1), (weight, scale), upstream)
    assert torch.equal(grads[0], upstream)
    assert torch.allclose(grads[1], torch.tensor([[1.0 - 2.0 + 4.0]]))


def test_chunks_change_nothing(monkeypatch):
    """Rows handled in cache-sized parts give what all rows at once give."""
    weight, scale, upstream = torch.randn(50, 9), torch.rand(50, 1) + 0.1, torch.randn(50, 9)
    results = []
    for chunk in (1, 9 * 16, 1 << 20):
        monkeypatch.setattr(rounding, "_CHUNK", chunk)
        w, s = weight.clone().requires_grad_(), scale.clone().requires_grad_()
        rounded = round_through(w, s, 4)
        results.append((rounded.detach(), *torch.autograd.grad(rounded, (w, s), upstream)))
    for other in results[1:]:
        assert all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in zip(results[0], other))


def test_a_descent_step_on_the_logarithm_is_the_papers_step_on_the_scale():
    """To first order, log alpha - lr g is log(alpha - lr * gain * dL/dalpha)."""
    log_scale = torch.tensor([-2.0, 0.5], requires_grad=True)
    gain, slope, rate = torch.tensor([0.1, 0.2]), torch.tensor([3.0, -1.0]), 1e-3
    (gradient,) = torch.autograd.grad(learned_scale(log_scale, gain), log_scale, slope)
    stepped = (log_scale - rate * gradient).exp()
    wanted = log_scale.exp() - rate * gain * slope
    assert torch.allclose(stepped, wanted, rtol=1e-5)
