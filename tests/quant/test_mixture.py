# SPDX-License-Identifier: Apache-2.0
"""Mixtures of a matrix's rounded versions."""

import pytest
import torch

from kaldi_mpq.precision import Unit
from kaldi_mpq.quant import rounding
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import to_codes, to_values
from kaldi_mpq.quant.mixture import MixedWidths, mix_through
from kaldi_mpq.quant.rounding import round_through
from kaldi_mpq.quant.scale import unit_scales

BITS = (1, 2, 4, 8)
UNITS = [Unit("a", "m", 0, 3, 10), Unit("b", "m", 3, 7, 10)]


def matrix(rows=7, columns=10):
    """Weights as an LM's."""
    return 0.05 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).double()


def scales_of(weight):
    """Error-minimising scales of every width, (K, R, 1)."""
    return torch.stack([unit_scales(weight, bits, Granularity()).double() for bits in BITS])


@pytest.mark.parametrize("k", range(len(BITS)))
def test_a_one_hot_mixture_is_the_rounded_matrix_with_its_gradients(k):
    """Value and gradients of weights and scales are those of plain rounding at that width."""
    weight, scales = matrix(), scales_of(matrix())
    shares = torch.nn.functional.one_hot(torch.full((7,), k), len(BITS)).double()
    ours = [weight.clone().requires_grad_(), scales.clone().requires_grad_()]
    mixed = mix_through(ours[0], ours[1], shares, BITS)
    theirs = [weight.clone().requires_grad_(), scales[k].clone().requires_grad_()]
    rounded = round_through(*theirs, BITS[k])
    toward = torch.randn_like(weight)
    (mixed * toward).sum().backward()
    (rounded * toward).sum().backward()
    torch.testing.assert_close(mixed, rounded)
    torch.testing.assert_close(ours[0].grad, theirs[0].grad)
    torch.testing.assert_close(ours[1].grad[k], theirs[1].grad)
    assert float(ours[1].grad.abs().sum()) == pytest.approx(float(theirs[1].grad.abs().sum()))


def test_the_gradient_of_shares_is_that_of_finite_differences():
    """Through the softmax too, on a loss that is not linear in the mixture; a share of 0 has its gradient as well."""
    weight = matrix()
    scales = scales_of(weight)
    logits = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)

    def loss(logits):
        return mix_through(weight, scales, logits.softmax(dim=1), BITS).sin().square().sum()

    assert torch.autograd.gradcheck(loss, (logits,))
    shares = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64).repeat(7, 1).requires_grad_()
    mix_through(weight, scales, shares, BITS).sum().backward()
    for k, bits in enumerate(BITS):
        rounded = to_values(to_codes(weight, scales[k], bits), scales[k]).double()
        torch.testing.assert_close(shares.grad[:, k], rounded.sum(dim=1), rtol=1e-6, atol=1e-6)


def test_chunks_change_nothing(monkeypatch):
    """Parts of two rows give the same value and gradients as one part."""
    found = []
    for chunk in (1 << 16, 20):
        monkeypatch.setattr(rounding, "_CHUNK", chunk)
        leaves = [matrix().requires_grad_(), scales_of(matrix()).requires_grad_(), torch.full((7, 4), 0.25).double()]
        leaves[2].requires_grad_()
        mixed = mix_through(*leaves, BITS)
        mixed.square().sum().backward()
        found.append([mixed, *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("granularity", [Granularity(), Granularity("tensor"), Granularity("block", 4)], ids=str)
def test_each_unit_has_its_own_shares_and_scales(granularity):
    """Units at different widths are what each is on its own; 32 bits leave a unit as it is."""
    weight = matrix().float()
    mixed = MixedWidths(weight, UNITS, (2, 8, 32), granularity)
    mixed.shares = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    found = mixed(weight)
    for unit, bits, share in ((UNITS[0], 2, 1.0), (UNITS[1], 8, 0.5)):
        rows = weight[unit.start : unit.stop]
        scales = granularity.expand(unit_scales(rows, bits, granularity), rows.shape[1])
        wanted = share * to_values(to_codes(rows, scales, bits), scales) + (1.0 - share) * rows
        torch.testing.assert_close(found[unit.start : unit.stop], wanted, rtol=1e-5, atol=1e-6)


def test_without_shares_it_refuses():
    """A pass before shares were set is an error of the caller."""
    with pytest.raises(RuntimeError, match="shares"):
        MixedWidths(matrix().float(), UNITS, BITS, Granularity())(matrix().float())
