# SPDX-License-Identifier: Apache-2.0
"""Grids: levels, nearest codes, exact values."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kaldi_mpq.quant.grid import GRID_BITS, largest_code, num_levels, to_codes, to_values


@pytest.mark.parametrize(("bits", "count"), [(1, 2), (2, 3), (4, 15), (8, 255)])
def test_levels_are_symmetric_and_as_many_as_the_paper_says(bits, count):
    """n bits have 2^n - 1 levels with 0 among them, 1 bit has two without 0."""
    codes = to_codes(torch.linspace(-300, 300, 60001), torch.ones(1), bits)
    levels = torch.unique(codes).tolist()
    assert len(levels) == count == num_levels(bits)
    assert levels == [-level for level in reversed(levels)]
    assert (0 in levels) == (bits > 1)
    assert max(levels) == largest_code(bits)


@given(
    st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40), st.floats(0.01, 3.0), st.sampled_from(GRID_BITS)
)
def test_codes_are_the_nearest_levels(weights, scale, bits):
    """No level is nearer to a weight than the one that its code stands for (brute force over all levels)."""
    weights = torch.tensor(weights)
    levels = [level for level in range(-largest_code(bits), largest_code(bits) + 1) if level or bits > 1]
    chosen = (weights - to_values(to_codes(weights, torch.tensor(scale), bits), torch.tensor(scale))).abs()
    nearest = (weights[:, None] - scale * torch.tensor(levels, dtype=torch.float32)).abs().amin(dim=1)
    assert torch.all(chosen <= nearest + 1e-5)


def test_a_scale_of_zero_gives_zeros():
    """A group of zeros has scale 0 and stays zeros, without NaN."""
    weights = torch.zeros(2, 3)
    for bits in GRID_BITS:
        assert torch.equal(to_values(to_codes(weights, torch.zeros(2, 1), bits), torch.zeros(2, 1)), weights)


def test_other_widths_have_no_grid():
    """3 bits is refused rather than stored wider."""
    with pytest.raises(ValueError, match="3 bits"):
        largest_code(3)
