# SPDX-License-Identifier: Apache-2.0
"""Interpolation: what a mixture of probabilities is, and the best weight against a fine search."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.interpolate import best_linear_weight, linear, log_linear, log_linear_normalised

weights = st.floats(0, 1)


def distributions(seed, positions=5, words=7):
    """Two log-distributions (T, V)."""
    rng = np.random.default_rng(seed)
    return [np.log(rng.dirichlet(np.ones(words), positions)) for _ in range(2)]


@settings(deadline=None)
@given(seed=st.integers(0, 1000), weight=weights)
def test_linear_is_the_mixture_of_probabilities(seed, weight):
    """As computed in probabilities; over the vocabulary it sums to 1."""
    first, second = distributions(seed)
    mixed = linear(first, second, weight)
    np.testing.assert_allclose(np.exp(mixed), weight * np.exp(first) + (1 - weight) * np.exp(second), atol=1e-12)
    np.testing.assert_allclose(np.exp(mixed).sum(-1), 1.0)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), weight=weights)
def test_normalised_log_linear_is_a_distribution_and_never_below_the_unnormalised(seed, weight):
    """Its normaliser is at most 1, so the unnormalised one understates probabilities."""
    first, second = distributions(seed)
    every = [log_linear_normalised(first, second, np.full(len(first), word), weight) for word in range(first.shape[1])]
    np.testing.assert_allclose(np.exp(every).sum(0), 1.0)
    assert (log_linear(first, second, weight) <= np.array(every).T + 1e-12).all()


def test_ends_of_the_range_are_the_models_themselves():
    """Weight 1 is the first, weight 0 the second, even where the other one gives no probability."""
    first, second = np.array([-1.0, -math.inf, -3.0]), np.array([-2.0, -0.5, -math.inf])
    for mix in (linear, log_linear):
        np.testing.assert_array_equal(mix(first, second, 1.0), first)
        np.testing.assert_array_equal(mix(first, second, 0.0), second)
    assert np.isfinite(linear(first, second, 0.5)).all()
    assert np.isinf(log_linear(first, second, 0.5)[1:]).all()


def test_a_weight_outside_the_range_is_refused():
    """It would be no mixture."""
    for mix in (linear, log_linear):
        for weight in (-0.1, 1.5, math.nan):
            with pytest.raises(ConfigError, match="weight"):
                mix(np.zeros(1), np.zeros(1), weight)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), lean=st.floats(-2, 2))
def test_best_weight_is_the_one_that_a_fine_search_finds(seed, lean):
    """No weight on a grid of a thousandth is better by more than a millionth of a nat per token."""
    rng = np.random.default_rng(seed)
    first, second = -rng.exponential(3, 200), -rng.exponential(3, 200) + min(lean, 0.0)
    found = linear(first, second, best_linear_weight(first, second)).mean()
    grid = max(linear(first, second, weight).mean() for weight in np.linspace(0, 1, 1001))
    assert found >= grid - 1e-6


def test_best_weight_of_tokens_from_a_mixture_is_that_of_the_mixture():
    """20,000 tokens drawn from 0.7 p_1 + 0.3 p_2."""
    rng = np.random.default_rng(3)
    first, second = rng.dirichlet(np.ones(20)), rng.dirichlet(np.ones(20))
    tokens = rng.choice(20, 20_000, p=0.7 * first + 0.3 * second)
    assert best_linear_weight(np.log(first)[tokens], np.log(second)[tokens]) == pytest.approx(0.7, abs=0.03)


def test_best_weight_copes_with_impossible_tokens():
    """A token that only one model can give counts for that model; one that neither can counts for none."""
    first, second = np.array([-1.0, -math.inf, -math.inf, -1.0]), np.array([-1.0, -1.0, -math.inf, -math.inf])
    assert best_linear_weight(first, second) == pytest.approx(0.5, abs=1e-3)
    assert best_linear_weight(first[:2], second[:2]) < 0.01
    assert best_linear_weight(first[2:3], second[2:3]) == 0.5
