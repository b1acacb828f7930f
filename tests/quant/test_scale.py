# SPDX-License-Identifier: Apache-2.0
"""Scales minimise the squared rounding error."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.quant import scale as scale_module
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import GRID_BITS, to_codes, to_values
from kaldi_mpq.quant.scale import absmax_scale, best_scale, mean_scale, refine_scale, unit_scales


def error(groups, scale, bits):
    """(G,) squared error of rounding at these scales, in float64."""
    values = to_values(to_codes(groups, scale[:, None], bits), scale[:, None])
    return (groups.double() - values.double()).square().sum(dim=1)


def at_most(error_now, error_then, groups):
    """Whether no error is larger than before, but for rounding of the scale itself."""
    energy = groups.double().square().sum(dim=1)
    return bool(torch.all(error_now <= error_then * (1 + 1e-5) + 1e-10 * energy))


def samples(seed=0, rows=40, columns=48):
    """Gaussian, uniform, Laplacian and outlier-ridden rows of very different sizes, one constant and one of zeros."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(rows, columns, generator=generator)
    normal[::4] = torch.rand(len(normal[::4]), columns, generator=generator) - 0.5
    normal[1::4] = normal[1::4].sign() * normal[1::4].abs().pow(3)
    normal[2::8, 0] = 60.0
    normal[-2], normal[-1] = 0.25, 0.0
    return normal * torch.logspace(-4, 2, rows)[:, None]


@pytest.mark.parametrize("bits", GRID_BITS)
def test_error_is_no_larger_than_abs_max_and_mean_based(bits):
    """The promise, for every row of every kind, and for a whole tensor."""
    for groups in (samples(), samples().view(1, -1), samples(rows=3, columns=5000)):
        best = error(groups, best_scale(groups, bits), bits)
        for other in (absmax_scale, mean_scale):
            assert at_most(best, error(groups, other(groups, bits), bits), groups)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_error_is_the_smallest_that_a_fine_search_finds(bits):
    """1, 2 and 4 bits are exact: no one of 4000 scales per row does better."""
    groups = samples(rows=12, columns=24)
    best = error(groups, best_scale(groups, bits), bits)
    limit = groups.abs().amax(dim=1)
    for fraction in torch.linspace(0.001, 1.5, 4000):
        assert at_most(best, error(groups, fraction * limit, bits), groups)


def test_eight_bits_are_near_the_smallest_error():
    """The searched widths come within a few percent of a fine search on rows without outliers."""
    groups = torch.randn(6, 256, generator=torch.Generator().manual_seed(1))
    fine = torch.stack([error(groups, f * absmax_scale(groups, 8), 8) for f in torch.linspace(0.3, 1.2, 3000)]).amin(
        dim=0
    )
    assert torch.all(error(groups, best_scale(groups, 8), 8) <= 1.1 * fine)


@given(st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=9), st.sampled_from([2, 4]))
@settings(max_examples=60, deadline=None)
def test_exact_search_handles_ties_and_zeros(weights, bits):
    """Rows with equal magnitudes and zeros: never worse than refining from any of many starts."""
    groups = torch.tensor([weights])
    best = float(error(groups, best_scale(groups, bits), bits))
    for start in torch.linspace(0.01, 3.0, 50):
        other = float(error(groups, refine_scale(groups, start[None], bits, 20), bits))
        assert best <= other + 1e-5 * float(groups.square().sum()) + 1e-12


def test_rows_sorted_in_parts_are_as_rows_sorted_at_once(monkeypatch):
    """Cutting the work into chunks changes nothing, nor does the search where a group is too large to sort, much."""
    groups = samples(rows=30)
    whole = best_scale(groups, 4)
    monkeypatch.setattr(scale_module, "_SORTED_AT_ONCE", 1000)
    assert torch.equal(best_scale(groups, 4), whole)
    monkeypatch.setattr(scale_module, "_LARGEST_SORT", 0)
    searched = error(groups, best_scale(groups, 4), 4)
    assert searched.sum() <= 1.05 * error(groups, whole, 4).sum()


@pytest.mark.parametrize("bits", GRID_BITS)
def test_refining_never_raises_the_error(bits):
    """Each iteration of the alternation leaves every row's error as it is or lowers it."""
    groups = samples()
    scale = absmax_scale(groups, bits).clamp_min(1e-8)
    before = error(groups, scale, bits)
    for _ in range(8):
        scale = refine_scale(groups, scale, bits, 1)
        after = error(groups, scale, bits)
        assert at_most(after, before, groups)
        before = after


def test_finer_granularity_and_more_bits_are_never_worse():
    """Rows beat the tensor, blocks beat rows, and each width beats the one below."""
    matrix = samples(rows=16, columns=70)
    last = None
    for bits in GRID_BITS:
        errors = []
        for granularity in (Granularity("tensor"), Granularity("row"), Granularity("block", 16)):
            scales = granularity.expand(unit_scales(matrix, bits, granularity), 70)
            errors.append(float((matrix - to_values(to_codes(matrix, scales, bits), scales)).square().sum()))
        assert errors[0] >= errors[1] * 0.999 and errors[1] >= errors[2] * 0.999
        assert last is None or errors[1] <= last
        last = errors[1]
