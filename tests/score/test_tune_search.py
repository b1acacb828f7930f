# SPDX-License-Identifier: Apache-2.0
"""The search over weights against spelled-out sums, and on errors whose least is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaldi_mpq.score.tune_search import Axis, Candidates, Search, _middle


def made_up(seed: int, utterances: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return offsets, errors, fixed costs and three features of some hypotheses."""
    generator = np.random.default_rng(seed)
    offsets = np.r_[0, np.cumsum(generator.integers(1, 5, utterances))]
    count = int(offsets[-1])
    return offsets, generator.integers(0, 9, count), generator.normal(size=count), generator.normal(size=(3, count))


@given(st.integers(0, 1000), st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.integers(0, 2))
def test_errors_are_those_of_each_utterances_cheapest_hypothesis(seed, factors, axis):
    """At every value of one factor, the sum over utterances of the errors of the first of the cheapest."""
    offsets, errors, fixed, features = made_up(seed)
    candidates = Candidates(offsets, errors, fixed, features)
    values = np.array([-1.5, 0.0, 0.25, 3.0])
    for value, found in zip(values, candidates.along(factors, axis, values), strict=True):
        there = [value if j == axis else factor for j, factor in enumerate(factors)]
        costs = fixed + sum(f * feature for f, feature in zip(there, features, strict=True))
        chosen = [begin + int(np.argmin(costs[begin:end])) for begin, end in itertools.pairwise(offsets)]
        assert found == errors[chosen].sum() == candidates.count(there)
        assert (offsets[:-1] + candidates.best(there)).tolist() == chosen


def planted(seed: int) -> Candidates:
    """Return hypotheses of which the one without errors is cheapest at the weights 0.7 and -0.3 (times 1 / 10)."""
    generator = np.random.default_rng(seed)
    offsets = np.arange(0, 401 * 8, 8)
    fixed, features = generator.normal(size=3200), generator.normal(size=(3, 3200))
    costs = (fixed + features[0] / 10 + 0.7 * features[1] - 0.3 * features[2]).reshape(400, 8)
    errors = np.argsort(np.argsort(costs, axis=1), axis=1)
    return Candidates(offsets, errors.ravel(), fixed, features)


GRID = np.round(np.arange(-1, 1.01, 0.05), 6)
AXES = (Axis("scale", np.arange(7.0, 14.0), inverse=True), Axis("a", GRID, 0.01), Axis("b", GRID, 0.01))


@pytest.mark.parametrize("start", [(7.0, -0.9, 0.9), (13.0, 0.0, 0.0)])
def test_planted_weights_are_found(start):
    """From far away, the weights by which all errors can be avoided."""
    search = Search(planted(0), AXES)
    point, errors = search.run(start, 3, 1)
    assert errors == search.errors(point) < 0.03 * search.errors(start)
    np.testing.assert_allclose(point[1:], (0.7, -0.3), atol=0.05)
    assert all(curve.min() == errors for _, curve in search.curves.values())


def test_the_seed_decides_and_the_start_is_never_lost():
    """The same seed gives the same point; the result is never worse than the start; what is fixed stays."""
    offsets, errors, fixed, features = made_up(5, 50)
    axes = (*AXES[:2], Axis("kept", np.array([0.123])))
    results = [Search(Candidates(offsets, errors, fixed, features), axes).run((9.0, 0.4, 0.123), 4, 2) for _ in "ab"]
    assert results[0] == results[1]
    search = Search(Candidates(offsets, errors, fixed, features), axes)
    assert results[0][1] <= search.errors((9.0, 0.4, 0.123))
    assert results[0][0][2] == 0.123
    search.run((9.0, 0.4, 0.123), 0, 2)
    assert set(search.curves) == {"scale", "a"}


@pytest.mark.parametrize(
    ("errors", "place"), [([3, 1, 2, 1, 1, 1, 2], 4), ([0], 0), ([1, 1, 2, 1, 1], 0), ([5, 2, 2, 2, 2], 2)]
)
def test_the_middle_of_the_widest_best_range_is_taken(errors, place):
    """A lone least value is an accident of the set; in the middle of a range, neighbours are as good."""
    assert _middle(np.array(errors)) == place
