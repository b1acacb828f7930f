# SPDX-License-Identifier: Apache-2.0
"""From shares of widths to widths."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import PrecisionError
from kaldi_mpq.search.allocate import Item
from kaldi_mpq.search.choice import choose_widths, most_likely
from kaldi_mpq.search.size_price import SizePrice
from kaldi_mpq.search.step_log import StepLog

BITS = (1, 2, 4, 8)


@st.composite
def problems(draw):
    """Up to 5 units of some sizes with some shares, and a capacity that something fits."""
    counts = draw(st.lists(st.integers(1, 50), min_size=1, max_size=5))
    sizes = [tuple(7 + count * bits for bits in BITS) for count in counts]
    items = [Item(f"u{i}", BITS, each, (0.0,) * 4) for i, each in enumerate(sizes)]
    logits = torch.tensor([[draw(st.floats(-6, 6)) for _ in BITS] for _ in counts])
    smallest, largest = (sum(item.bytes[k] for item in items) for k in (0, 3))
    return items, logits.softmax(dim=1), draw(st.integers(smallest, largest + 10))


def size(items, bits):
    """Bytes of a choice."""
    return sum(item.bytes[item.bits.index(bits[item.name])] for item in items)


@given(problems())
@settings(max_examples=150, deadline=None)
def test_it_fits_and_leaves_no_room_for_more(problem):
    """Never over the capacity; no unit's next width would fit; no unit has less than in the best product that fits."""
    items, shares, capacity = problem
    chosen = choose_widths(items, BITS, shares, capacity)
    used = size(items, chosen)
    assert used <= capacity
    for item in items:
        k = item.bits.index(chosen[item.name])
        assert k == 3 or used + item.bytes[k + 1] - item.bytes[k] > capacity
    best = -math.inf
    for widths in itertools.product(range(4), repeat=len(items)):
        taken = sum(item.bytes[k] for item, k in zip(items, widths))
        if taken <= capacity:
            best = max(best, sum(math.log(max(float(shares[i, k]), 1e-12)) for i, k in enumerate(widths)))
    floors = [  # the choices with the best product; the result has one of them as a floor
        widths
        for widths in itertools.product(range(4), repeat=len(items))
        if sum(item.bytes[k] for item, k in zip(items, widths)) <= capacity
        and sum(math.log(max(float(shares[i, k]), 1e-12)) for i, k in enumerate(widths)) >= best - 1e-6
    ]
    mine = [item.bits.index(chosen[item.name]) for item in items]
    assert any(all(have >= least for have, least in zip(mine, floor)) for floor in floors)


def test_the_likeliest_widths_are_taken_where_they_just_fit():
    """At exactly their size, argmax per unit is the answer; one byte less changes it."""
    items = [Item(name, BITS, (10, 20, 40, 80), (0.0,) * 4) for name in "abc"]
    shares = torch.tensor([[0.1, 0.2, 0.6, 0.1], [0.9, 0.05, 0.03, 0.02], [0.1, 0.7, 0.1, 0.1]])
    wanted = most_likely(items, BITS, shares)
    assert wanted == {"a": 4, "b": 1, "c": 2}
    assert choose_widths(items, BITS, shares, 70) == wanted
    assert choose_widths(items, BITS, shares, 69) != wanted
    with pytest.raises(PrecisionError, match="30"):
        choose_widths(items, BITS, shares, 29)


def test_the_price_follows_the_excess():
    """It rises above the budget, falls below it, and its penalty's slope points to fewer bytes when it is high."""
    items = [Item(name, BITS, (10, 20, 40, 80), (0.0,) * 4) for name in "ab"]
    price = SizePrice(items, BITS, 40, penalty="bytes", price=0.0, rate=0.5)
    wide, narrow = torch.eye(4)[[3, 3]], torch.eye(4)[[0, 0]]
    assert float(price.expected_bytes(wide)) == 160.0
    price.update(wide)
    assert float(price.price) == 0.5  # an excess of 3 counts as 1
    price.update(narrow)
    assert float(price.price) == 0.25
    logits = torch.zeros(2, 4, requires_grad=True)
    price.loss(logits.softmax(dim=1)).backward()
    assert float(logits.grad[0, 3]) > 0 > float(logits.grad[0, 0])


def test_the_target_comes_down_to_the_budget_half_way():
    """The size at first is no excess at first; half way through, and from then on, the budget is what counts."""
    items = [Item(name, BITS, (10, 20, 40, 80), (0.0,) * 4) for name in "ab"]
    even = torch.full((2, 4), 0.25)
    price = SizePrice(items, BITS, 40, penalty="bytes", price=0.0, rate=0.5, shares=even)
    excess = []
    for price.progress in (0.0, 0.25, 0.5, 1.0):
        excess.append(float(price.excess(even)))
    assert excess == pytest.approx([0.0, 75 / 57.5 - 1, 75 / 40 - 1, 75 / 40 - 1])


def test_a_resumed_log_has_each_step_once(tmp_path):
    """What was written beyond the checkpoint, a line cut short too, is replaced; other stages stay."""
    first = StepLog(tmp_path / "log")
    for step in (1, 2, 3):
        first.write("one", step, {"x": step})
    first.write("two", 1, {"x": 0})
    with open(tmp_path / "log", "a") as stream:
        stream.write('{"stage": "tw')
    again = StepLog(tmp_path / "log")
    again.write("one", 2, {"x": 20})
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [
        '{"stage": "one", "step": 1, "x": 1}',
        '{"stage": "two", "step": 1, "x": 0}',
        '{"stage": "one", "step": 2, "x": 20}',
    ]
    assert [step for step in range(1, 301) if again.is_due(step, 300)] == list(range(3, 301, 3))
    assert again.is_due(7, 7)
