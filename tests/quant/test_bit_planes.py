# SPDX-License-Identifier: Apache-2.0
"""Soft bit planes: what they become, and their gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.precision import Unit
from kaldi_mpq.quant import rounding
from kaldi_mpq.quant.bit_planes import SoftPlanes, soft_planes, width_shares
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import GRID_BITS, to_codes, to_values
from kaldi_mpq.quant.scale import unit_scales

GATES = {1: (0.0, 0.0, 0.0), 2: (1.0, 0.0, 0.0), 4: (1.0, 1.0, 0.0), 8: (1.0, 1.0, 1.0)}


def matrix(seed=0, rows=5, columns=40):
    """Weights as an LM's."""
    return 0.05 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).double()


def scales_of(weight):
    """Error-minimising scales of every width, (4, R, 1)."""
    return torch.stack([unit_scales(weight, bits, Granularity()).double() for bits in GRID_BITS])


@given(seed=st.integers(0, 10_000), bits=st.sampled_from(GRID_BITS), factor=st.floats(0.5, 2.0))
@settings(max_examples=60, deadline=None)
def test_hard_bits_are_the_nearest_value_of_the_grid(seed, bits, factor):
    """With gates of 0 and 1 and a steep sigmoid every weight is its nearest grid value, clipped ones too."""
    weight = matrix(seed)
    scales = factor * scales_of(weight)
    hard = soft_planes(weight, scales, torch.tensor(GATES[bits]).double().expand(5, 3), 1e9)
    k = GRID_BITS.index(bits)
    grid = to_values(to_codes(weight, scales[k], bits), scales[k]).double()
    torch.testing.assert_close(hard, grid, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bits", GRID_BITS)
def test_steeper_bits_come_closer_to_the_grid(bits):
    """The mean distance to the grid falls as beta grows, to nothing."""
    weight = matrix()
    scales, gates = scales_of(weight), torch.tensor(GATES[bits]).double().expand(5, 3)
    k = GRID_BITS.index(bits)
    grid = to_values(to_codes(weight, scales[k], bits), scales[k]).double()
    distances = [float((soft_planes(weight, scales, gates, beta) - grid).abs().mean()) for beta in (8, 40, 200, 1e9)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-8


def test_gradients_are_those_of_finite_differences():
    """Of weights, scales and gates, between widths and with closed gates."""
    weight = matrix(columns=4, rows=3)
    gates = torch.tensor([[0.7, 0.4, 0.3], [1.0, 0.5, 0.2], [0.2, 0.9, 0.6]]).double()
    leaves = [each.requires_grad_() for each in (weight, scales_of(matrix(columns=4, rows=3)), gates)]
    assert torch.autograd.gradcheck(lambda *inputs: soft_planes(*inputs, 5.0), leaves)
    one = torch.tensor(GATES[1]).double().expand(3, 3)
    assert torch.autograd.gradcheck(lambda w, s: soft_planes(w, s, one, 5.0), leaves[:2])


def test_it_is_odd_and_passes_through_zero():
    """The planes of -w are minus those of w, whatever the gates."""
    weight, gates = matrix(), torch.rand(5, 3, generator=torch.Generator().manual_seed(1)).double()
    scales = scales_of(weight)
    torch.testing.assert_close(soft_planes(-weight, scales, gates, 6.0), -soft_planes(weight, scales, gates, 6.0))
    assert not soft_planes(torch.zeros_like(weight), scales, gates, 6.0).any()


def test_chunks_change_nothing(monkeypatch):
    """Parts of two rows give the same value and gradients as one part."""
    found = []
    for chunk in (1 << 16, 80):
        monkeypatch.setattr(rounding, "_CHUNK", chunk)
        leaves = [matrix(), scales_of(matrix()), torch.full((5, 3), 0.5).double()]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        soft = soft_planes(*leaves, 6.0)
        soft.square().sum().backward()
        found.append([soft, *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


@given(gates=st.tuples(*[st.floats(0, 1)] * 3))
def test_shares_sum_to_one(gates):
    """Whatever the gates, the shares of 1, 2, 4 and 8 bits are a distribution."""
    shares = width_shares(torch.tensor(gates, dtype=torch.float64))
    assert float(shares.sum()) == pytest.approx(1.0)
    assert float(shares.min()) >= 0.0


@pytest.mark.parametrize("granularity", [Granularity(), Granularity("tensor"), Granularity("block", 7)], ids=str)
def test_hard_planes_are_what_is_written(granularity):
    """`quantized` gives the values that the model computed with, up to its scales' float16; kept units stay."""
    weight = matrix(rows=6).float()
    units = [Unit("a", "m", 0, 2, 40), Unit("b", "m", 2, 3, 40), Unit("c", "m", 3, 6, 40)]
    planes = SoftPlanes(weight, units, granularity)
    planes.gates, planes.beta, planes.kept = torch.tensor([GATES[2], GATES[8], GATES[4]]), 1e9, [False, True, False]
    computed = planes(weight)
    written = planes.quantized(weight, [2, 16, 4])
    assert written.keys() == {"a", "c"}
    assert torch.equal(computed[2:3], weight[2:3])
    for unit in (units[0], units[2]):
        values = written[unit.name].values()
        torch.testing.assert_close(computed[unit.start : unit.stop], values, rtol=2e-3, atol=1e-6)
