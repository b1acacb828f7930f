# SPDX-License-Identifier: Apache-2.0
"""The allocation is the best one there is, at any budget, for any costs."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import NumericalError, PrecisionError
from kaldi_mpq.search.allocate import Item, allocate

WIDTHS = (1, 2, 4, 8)
costs = st.one_of(st.integers(-3, 9).map(float), st.floats(-5, 5).filter(lambda x: abs(x) > 1e-6))


@st.composite
def problems(draw):
    """Some items of one to four choices, sizes and costs in any order, and room for some of them."""
    items = []
    for number in range(draw(st.integers(1, 6))):
        count = draw(st.integers(1, 4))
        sizes = draw(st.lists(st.integers(1, 25), min_size=count, max_size=count))
        prices = draw(st.lists(costs, min_size=count, max_size=count))
        items.append(Item(f"u{number}", WIDTHS[:count], tuple(sizes), tuple(prices)))
    smallest = sum(min(item.bytes) for item in items)
    return items, smallest + draw(st.integers(0, 80))


def best_of_all(items, capacity):
    """Return the least cost of all choices that fit, by trying every one."""
    every = itertools.product(*(zip(item.bytes, item.costs) for item in items))
    return min(sum(c for _, c in chosen) for chosen in every if sum(b for b, _ in chosen) <= capacity)


def model_like(count, seed, spread=2.0):
    """Return items as models have them: bytes by bits, costs that fall fourfold with each bit."""
    generator = np.random.default_rng(seed)
    items = []
    for number in range(count):
        rows = int(generator.integers(64, 1024))
        sizes = tuple(rows * 512 * bits // 8 + 2 * rows + 180 for bits in WIDTHS)
        weight = float(generator.lognormal(0, spread)) * rows
        prices = tuple(weight * 4.0**-bits * float(generator.lognormal(0, 0.2)) for bits in WIDTHS)
        items.append(Item(f"u{number}", WIDTHS, sizes, prices))
    return items


@settings(max_examples=300, deadline=None)
@given(problems())
def test_no_choice_that_fits_costs_less(problem):
    """Brute force finds nothing better; what is returned fits, and costs and takes what it says."""
    items, capacity = problem
    found = allocate(items, capacity)
    places = [item.bits.index(found.bits[item.name]) for item in items]
    assert sum(item.bytes[place] for item, place in zip(items, places)) == found.bytes <= capacity
    assert math.isclose(sum(item.costs[p] for item, p in zip(items, places)), found.cost, abs_tol=1e-9)
    assert math.isclose(found.cost, best_of_all(items, capacity), abs_tol=1e-9)
    assert found.gap == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_it_is_never_worse_than_uniform(seed, part):
    """At the size of any uniform precision, and between, the choice costs at most what the uniform one does."""
    items = model_like(25, seed)
    for place in range(len(WIDTHS)):
        size = sum(item.bytes[place] for item in items)
        more = size + int(part * size)
        assert allocate(items, more).cost <= sum(item.costs[place] for item in items) * (1 + 1e-12)


def test_more_room_never_costs_more():
    """From the smallest to the largest size the cost falls."""
    items = model_like(12, 3)
    smallest, largest = sum(min(item.bytes) for item in items), sum(max(item.bytes) for item in items)
    found = [allocate(items, size).cost for size in np.linspace(smallest, largest, 25).astype(int)]
    assert all(more <= less + 1e-12 for less, more in itertools.pairwise(found))


@pytest.mark.parametrize("part", [0.02, 0.07, 0.3, 0.8])
def test_a_thousand_units_are_a_matter_of_a_second(part):
    """The time does not explode with the number of units, and the result is exact."""
    items = model_like(1000, 7)
    smallest, largest = sum(min(item.bytes) for item in items), sum(max(item.bytes) for item in items)
    began = time.process_time()
    found = allocate(items, int(smallest + part * (largest - smallest)))
    assert time.process_time() - began < 2.0
    assert found.gap == 0.0


def test_units_of_equal_worth_end_within_the_gap_that_is_told():
    """Where every byte is worth the same everywhere, the search is cut short and says what it may have missed."""
    generator = np.random.default_rng(0)
    items = []
    for number in range(300):
        sizes = tuple(int(size) for size in np.sort(generator.integers(1_000, 100_000, 4)))
        items.append(Item(f"u{number}", WIDTHS, sizes, tuple(-float(size) for size in sizes)))
    capacity = int(0.6 * sum(max(item.bytes) for item in items))
    found = allocate(items, capacity)
    assert found.bytes <= capacity
    assert found.cost - found.gap <= -capacity + 1  # the bound that it claims holds for the best conceivable choice
    assert found.gap <= 1e-4 * abs(found.cost)


def test_an_impossible_budget_says_what_is_possible():
    """Below the smallest sum of bytes the error names that sum."""
    items = [Item("a", (1, 2), (10, 20), (1.0, 0.0)), Item("b", (4,), (5,), (0.0,))]
    assert allocate(items, 15).bits == {"a": 1, "b": 4}
    with pytest.raises(PrecisionError, match="at least 15 bytes, found 14"):
        allocate(items, 14)


@pytest.mark.parametrize("cost", [math.nan, math.inf, -math.inf])
def test_costs_that_are_no_numbers_are_refused(cost):
    """The unit is named."""
    with pytest.raises(NumericalError, match=r"layers\.0.*2 bits"):
        Item("layers.0", (1, 2), (10, 20), (1.0, cost))
