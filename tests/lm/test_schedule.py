# SPDX-License-Identifier: Apache-2.0
"""Learning rates step by step."""

from __future__ import annotations

import pytest

from kaldi_mpq.lm.schedule import learning_rate
from kaldi_mpq.lm.settings import OptimSettings


@pytest.mark.parametrize("schedule", ["cosine", "halving", "constant"])
def test_warm_up_rises_evenly_to_the_peak(schedule):
    """The first steps rise by equal amounts, the last of them is at the peak."""
    settings = OptimSettings(learning_rate=0.8, schedule=schedule, warmup_steps=4)
    rates = [learning_rate(settings, step, 100, 0) for step in range(4)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_cosine_falls_from_the_peak_to_the_last_rate():
    """It starts at the peak, is half-way in the middle, ends at the fraction asked for and never rises."""
    settings = OptimSettings(learning_rate=2.0, schedule="cosine", warmup_steps=10, final_rate=0.1)
    rates = [learning_rate(settings, step, 110, 0) for step in range(10, 112)]
    assert rates[0] == pytest.approx(2.0)
    assert rates[50] == pytest.approx((2.0 + 0.2) / 2)
    assert rates[100] == rates[101] == pytest.approx(0.2)
    assert rates == sorted(rates, reverse=True)


def test_halving_counts_halvings_and_not_steps():
    """Each halving halves the rate; steps do not."""
    settings = OptimSettings(learning_rate=1.0, schedule="halving", warmup_steps=0)
    found = [learning_rate(settings, step, 100, halvings) for step, halvings in ((0, 0), (99, 0), (5, 1), (5, 3))]
    assert found == [1, 1, 0.5, 0.125]


def test_constant_stays():
    """Neither steps nor halvings change it."""
    settings = OptimSettings(learning_rate=0.3, schedule="constant", warmup_steps=0)
    assert {learning_rate(settings, step, 100, halvings) for step in (0, 50, 99) for halvings in (0, 2)} == {0.3}
