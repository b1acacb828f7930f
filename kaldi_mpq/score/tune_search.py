# SPDX-License-Identifier: Apache-2.0
"""The weights with which the cheapest hypotheses have the fewest errors: a search along one weight at a time.

The cost of a hypothesis is linear in the weights, its errors do not depend on them: so a candidate is a weighted sum, a
minimum per utterance and a sum of counts, and many values of one weight are tried at once. The error count is flat
between jumps: of the values that are equally good, the middle of the widest range is taken.

Paper: Och, "Minimum error rate training in statistical machine translation", ACL 2003, section 4, on a grid instead of
at the exact jumps. Not here: files, and what the weights are of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Axis", "Candidates", "Search"]


@dataclass(frozen=True)
class Axis:
    """A weight that is looked for.

    Args:
      name: for people.
      grid: the values that are tried first, ascending.
      fine: distance of the values that are tried around the best of them; 0: none.
      inverse: costs are multiplied by 1 / value.
    """

    name: str
    grid: np.ndarray
    fine: float = 0.0
    inverse: bool = False

    def around(self, value: float) -> np.ndarray:
        """Return finer values around one, within the grid's range."""
        if not self.fine or len(self.grid) < 2:
            return np.array([value])
        step = float(self.grid[1] - self.grid[0])
        near = np.round(value + np.arange(-step, step + self.fine / 2, self.fine), 6)
        return near[(near >= self.grid[0]) & (near <= self.grid[-1])]


class Candidates:
    """Hypotheses of U utterances, up to N each, whose costs are a fixed part and one part for each weight.

    Args:
      offsets: (U + 1,) int64, which of P hypotheses are of which utterance; every utterance has one or more.
      errors: (P,) errors of each hypothesis.
      fixed: (P,) what no weight changes.
      features: (J, P) what each weight multiplies.
    """

    def __init__(self, offsets: np.ndarray, errors: np.ndarray, fixed: np.ndarray, features: np.ndarray) -> None:
        lengths = np.diff(offsets)
        inside = np.arange(int(lengths.max(initial=1))) < lengths[:, None]  # (U, N)
        self._inside = inside
        self._rows = np.arange(len(lengths))
        self._errors = self._padded(errors, 0)
        self._fixed = self._padded(fixed, np.inf)
        self._features = [self._padded(feature, 0.0) for feature in features]
        self.tried = 0

    def best(self, factors: Sequence[float]) -> np.ndarray:
        """Return (U,) int64, the number of each utterance's cheapest hypothesis; among equals the first."""
        return self._costs(factors).argmin(axis=1)

    def count(self, factors: Sequence[float]) -> int:
        """Return the errors of the cheapest hypotheses.

        Args:
          factors: (J,) what each feature is multiplied by.
        """
        return int(self.along(factors, 0, np.array([factors[0]]))[0])

    def along(self, factors: Sequence[float], axis: int, values: np.ndarray) -> np.ndarray:
        """Return (M,) errors with M values of one factor, the others as they are."""
        feature = self._features[axis]
        base = self._costs([0.0 if j == axis else factor for j, factor in enumerate(factors)])
        totals = np.empty(len(values), np.int64)
        costs = np.empty_like(base)
        for m, value in enumerate(values.tolist()):  # one at a time stays in the processor's cache
            np.multiply(feature, value, out=costs)
            costs += base
            totals[m] = self._errors[self._rows, costs.argmin(axis=1)].sum()
        self.tried += len(values)
        return totals

    def _costs(self, factors: Sequence[float]) -> np.ndarray:
        costs = self._fixed.copy()
        for factor, feature in zip(factors, self._features):
            if factor != 0.0:
                costs += factor * feature
        return costs

    def _padded(self, values: np.ndarray, filler: float) -> np.ndarray:
        result = np.full(self._inside.shape, filler, np.asarray(values).dtype if filler == 0 else float)
        result[self._inside] = values
        return result


@dataclass
class Search:
    """Looks for the best point: a value for each axis.

    Args:
      candidates: features in the order of the axes.
      axes: what to look for; a single grid value keeps it there.
    """

    candidates: Candidates
    axes: Sequence[Axis]
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def run(self, start: Sequence[float], random_starts: int, seed: int) -> tuple[list[float], int]:
        """Return the best point found from ``start`` and some random ones, and its errors; leave `curves` there."""
        generator = np.random.default_rng(seed)
        points = [list(start)]
        points += [[float(generator.choice(axis.grid)) for axis in self.axes] for _ in range(random_starts)]
        best = min((self._descend(point) for point in points), key=lambda found: found[1])
        for j, axis in enumerate(self.axes):
            if len(axis.grid) > 1:
                values = np.unique(np.concatenate([axis.grid, axis.around(best[0][j])]))
                self.curves[axis.name] = (values, self._errors_along(best[0], j, values))
        return best

    def errors(self, point: Sequence[float]) -> int:
        """Return the errors at a point."""
        return self.candidates.count(self.factors(point))

    def factors(self, point: Sequence[float]) -> list[float]:
        """Return what the features are multiplied by at a point."""
        return [1.0 / value if axis.inverse else value for axis, value in zip(self.axes, point)]

    def _descend(self, start: Sequence[float]) -> tuple[list[float], int]:
        """Return where moving along one axis after the other ends, first on the grids, then finer."""
        point, errors = list(start), self.errors(start)
        for finer in (False, True):
            gained = True
            while gained:
                gained = False
                for j, axis in enumerate(self.axes):
                    values = axis.around(point[j]) if finer else axis.grid
                    found = self._errors_along(point, j, values)
                    if found.min() < errors:
                        point[j], errors = float(values[_middle(found)]), int(found.min())
                        gained = True
        return point, errors

    def _errors_along(self, point: Sequence[float], j: int, values: np.ndarray) -> np.ndarray:
        return self.candidates.along(self.factors(point), j, 1.0 / values if self.axes[j].inverse else values)


def _middle(errors: np.ndarray) -> int:
    """Return the middle of the longest run of least values; the first run among equals."""
    least = np.concatenate([[False], errors == errors.min(), [False]])
    edges = np.flatnonzero(least[1:] != least[:-1]).reshape(-1, 2)
    begin, end = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return int((begin + end - 1) // 2)
