# SPDX-License-Identifier: Apache-2.0
"""The widths of least summed cost whose summed bytes fit: a multiple-choice knapsack, solved exactly.

    min sum_i cost_i(n_i)    over  n_i,    subject to    sum_i bytes_i(n_i) <= capacity

Items are taken in one after the other. A state is what some choice for the items so far costs and takes; the states
that another one beats in both are dropped (dynamic programming over bytes, kept as a list because few sums of bytes
occur). A state is dropped too if its cost and the least cost of the items to come, their choices relaxed to fractions,
is not below the best complete choice known (branch and bound). The relaxed problem is solved by taking the segments of
the items' lower convex hulls in order of cost saved per byte, and the segments that are taken whole are a complete
choice themselves. Nothing that could be better is ever dropped, so what is left at the end is the optimum (up to
floating-point rounding of the sums); where states are dropped to bound time and memory, the result says how much could
be lost (``gap``). Not here: where costs come from (`kl`, `hessian`).

Paper: none; Xu et al., TASLP 2021, section V do not say how they choose. Relaxation: Sinha and Zoltners, "The
multiple-choice knapsack problem", 1979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kaldi_mpq.errors import NumericalError, PrecisionError

__all__ = ["Allocation", "Item", "allocate"]

_MOST_STATES = 1_000_000  # in all; more come up only if hundreds of units cost the same per byte: see Allocation.gap


@dataclass(frozen=True)
class Item:
    """What one unit may become.

    Args:
      name: of the unit.
      bits: the widths that it may have, any order.
      bytes: what each takes.
      costs: what each costs: its sensitivity; of any sign, not necessarily falling with the bits.
    Raises:
      NumericalError: a cost is not finite.
    """

    name: str
    bits: tuple[int, ...]
    bytes: tuple[int, ...]
    costs: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.bits) == len(self.bytes) == len(self.costs) > 0:
            raise ValueError(f"{self.name}: {self.bits}, {self.bytes}, {self.costs}")
        for bits, cost in zip(self.bits, self.costs):
            if not math.isfinite(cost):
                raise NumericalError(f"unit {self.name}: the sensitivity at {bits} bits is not finite", found=cost)


@dataclass(frozen=True)
class Allocation:
    """The chosen bits of each item, what they take and cost together, and how much less any other choice could cost.

    ``gap`` is 0 unless so many different choices are equally good that states had to be dropped (`_MOST_STATES`).
    """

    bits: dict[str, int]
    bytes: int
    cost: float
    gap: float = 0.0


def allocate(items: Sequence[Item], capacity: int) -> Allocation:
    """Return the choice of the smallest sum of costs, of all that take at most ``capacity`` bytes.

    Raises:
      PrecisionError: even the smallest widths take more.
    """
    smallest = sum(min(item.bytes) for item in items)
    if smallest > capacity:
        raise PrecisionError("the budget is too small", expected=f"at least {smallest} bytes", found=capacity)
    menus = [_Menu(item) for item in items]
    picked, gap = _solve(menus, capacity)
    taken = sum(int(menu.bytes[j]) for menu, j in zip(menus, picked))
    cost = math.fsum(float(menu.costs[j]) for menu, j in zip(menus, picked))
    return Allocation({item.name: menu.bits[j] for item, menu, j in zip(items, menus, picked)}, taken, cost, gap)


def _solve(menus: Sequence[_Menu], capacity: int) -> tuple[list[int], float]:
    """Return the choice of each item, and the gap.

    With a price for each byte every item has a cheapest choice, and their sum, less the price of the capacity, is a
    lower bound of every complete choice. An item for which any other choice would lift that bound to the cost of a
    known complete choice is fixed at once; the others go into the search, the clearest first.
    """
    greedy = _Search(menus, capacity)
    greedy.fill()
    price = greedy.price()
    regret, cheapest, lower = [], [], -price * capacity
    for menu in menus:
        priced = menu.costs + price * menu.bytes
        cheapest.append(int(priced.argmin()))
        lower += priced[cheapest[-1]]
        regret.append(np.partition(priced, 1)[1] - priced.min() if len(priced) > 1 else math.inf)
    slack = greedy.best_cost - lower
    order = sorted(range(len(menus)), key=lambda i: -regret[i])
    core = [i for i in order if regret[i] <= slack]
    fixed = sorted(set(range(len(menus))) - set(core))
    search = _Search([menus[i] for i in core], capacity - sum(int(menus[i].bytes[cheapest[i]]) for i in fixed))
    search.best_cost = greedy.best_cost - math.fsum(float(menus[i].costs[cheapest[i]]) for i in fixed)
    search.run()
    if search.best is None:
        return greedy.best or [], search.gap
    picked = [cheapest[i] for i in range(len(menus))]
    for i, choice in zip(core, search.best):
        picked[i] = choice
    return picked, search.gap


class _Menu:
    """The choices of an item that none of its others beats, smallest first, and its lower convex hull.

    ``saved`` (h,) and ``added`` (h,): cost (negative) and bytes of each hull segment, by cost saved per byte; ``ends``
    (h,): the choice at the end of each.
    """

    def __init__(self, item: Item) -> None:
        ranked = sorted(range(len(item.bits)), key=lambda j: (item.bytes[j], item.costs[j]))
        kept: list[int] = []
        for j in ranked:
            if not kept or item.costs[j] < item.costs[kept[-1]]:
                kept.append(j)
        self.bits = [item.bits[j] for j in kept]
        self.bytes = np.array([item.bytes[j] for j in kept], np.int64)
        self.costs = np.array([item.costs[j] for j in kept])
        hull = [0]
        for j in range(1, len(kept)):
            while len(hull) > 1 and self._slope(hull[-1], j) <= self._slope(hull[-2], hull[-1]):
                hull.pop()
            hull.append(j)
        self.ends = hull[1:]
        self.added = np.diff(self.bytes[hull])
        self.saved = np.diff(self.costs[hull])

    def _slope(self, a: int, b: int) -> float:
        return (self.costs[b] - self.costs[a]) / float(self.bytes[b] - self.bytes[a])


def _segments(menus: Sequence[_Menu]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return owner, end, bytes and cost of the hull segments of all items, most cost saved per byte first."""
    owner = np.repeat(np.arange(len(menus)), [len(menu.ends) for menu in menus])
    ends = np.array([end for menu in menus for end in menu.ends], np.int64)
    added = np.concatenate([menu.added for menu in menus] or [np.zeros(0, np.int64)])
    saved = np.concatenate([menu.saved for menu in menus] or [np.zeros(0)])
    by_gain = np.argsort(saved / np.maximum(added, 1), kind="stable")
    return owner[by_gain], ends[by_gain], added[by_gain], saved[by_gain]


class _Search:
    """The states of the first k items, for k = 0, 1, ...; ``best`` is the cheapest complete choice known."""

    def __init__(self, menus: Sequence[_Menu], capacity: int) -> None:
        self.menus, self.capacity = menus, capacity
        self.segments = _segments(menus)
        self.owner, self.ends, self.added, self.saved = self.segments
        first_bytes = np.array([menu.bytes[0] for menu in menus], np.int64)
        first_costs = np.array([menu.costs[0] for menu in menus])
        self.bytes_to_come = np.append(np.cumsum(first_bytes[::-1])[::-1], 0)
        self.cost_to_come = np.append(np.cumsum(first_costs[::-1])[::-1], 0.0)
        self.history: list[tuple[np.ndarray, np.ndarray]] = []  # of each item: state before, choice, of every state
        self.best_cost = math.inf
        self.best: list[int] | None = None
        self._least_dropped = math.inf
        self.most_states = max(1000, _MOST_STATES // max(len(menus), 1))

    @property
    def gap(self) -> float:
        """How much less than `best_cost` a complete choice could cost that was dropped to save memory."""
        return max(0.0, self.best_cost - self._least_dropped) if math.isfinite(self._least_dropped) else 0.0

    def price(self) -> float:
        """Return the cost of a byte at which the relaxed problem has spent the capacity."""
        last = int(np.searchsorted(np.cumsum(self.added), self.capacity - self.bytes_to_come[0], side="right"))
        return float(-self.saved[last] / self.added[last]) if last < len(self.added) else 0.0

    def fill(self) -> None:
        """Set ``best`` to a good complete choice: segments in order as long as they fit, then those that still fit."""
        room = self.capacity - int(self.bytes_to_come[0])
        self.best, self.best_cost = [0] * len(self.menus), float(self.cost_to_come[0])
        stopped = set()
        for owner, end, added, saved in zip(*(column.tolist() for column in self.segments)):
            if added > room or owner in stopped:
                stopped.add(owner)
                continue
            room -= added
            self.best[owner] = end
            self.best_cost += saved

    def run(self) -> None:
        """Find the best complete choice that costs less than ``best_cost``, if there is one."""
        taken, costs = np.zeros(1, np.int64), np.zeros(1)
        if self.bytes_to_come[0] > self.capacity:
            return
        self.bound(0, taken, costs)
        for k, menu in enumerate(self.menus):
            taken, costs = self._take_in(k, menu, taken, costs)
            if not len(taken):
                break  # nothing is better than the best known

    def _take_in(self, k: int, menu: _Menu, taken: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return bytes and costs of the states after item ``k``, by bytes, costs falling."""
        before, choice = np.divmod(np.arange(len(taken) * len(menu.bits)), len(menu.bits))
        taken, costs = taken[before] + menu.bytes[choice], costs[before] + menu.costs[choice]
        fits = taken <= self.capacity - self.bytes_to_come[k + 1]
        kept = np.flatnonzero(fits)[np.lexsort((costs[fits], taken[fits]))]
        kept = kept[_falling(costs[kept])]
        self.history.append((before[kept], choice[kept]))
        least = self.bound(k + 1, taken[kept], costs[kept])
        alive = np.flatnonzero(least < self.best_cost)
        if len(alive) > self.most_states:
            by_bound = alive[np.argsort(least[alive], kind="stable")]
            self._least_dropped = min(self._least_dropped, float(least[by_bound[self.most_states]]))
            alive = np.sort(by_bound[: self.most_states])
        self.history[-1] = (before[kept][alive], choice[kept][alive])
        return taken[kept][alive], costs[kept][alive]

    def bound(self, k: int, taken: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """Return the least that each state of ``k`` items can end at; remember a better complete choice."""
        if not len(taken):
            return costs
        mine = np.flatnonzero(self.owner >= k)
        ends_at = np.append(0, np.cumsum(self.added[mine]))
        worth = np.append(0.0, np.cumsum(self.saved[mine]))
        room = self.capacity - self.bytes_to_come[k] - taken
        base = costs + self.cost_to_come[k]
        whole = np.searchsorted(ends_at, room, side="right") - 1
        complete = base + worth[whole]
        state = int(complete.argmin())
        if complete[state] < self.best_cost:
            self.best_cost = float(complete[state])
            self.best = self._choices(k, state) + self._whole_segments(k, mine[: whole[state]])
        return base + np.interp(room, ends_at, worth)

    def _choices(self, k: int, state: int) -> list[int]:
        found = []
        for before, choice in reversed(self.history[:k]):
            found.append(int(choice[state]))
            state = int(before[state])
        return found[::-1]

    def _whole_segments(self, k: int, segments: np.ndarray) -> list[int]:
        """Return the choices of items ``k`` and later at the ends of their last segments taken."""
        found = [0] * len(self.menus)
        for segment in segments:
            found[self.owner[segment]] = int(self.ends[segment])
        return found[k:]


def _falling(costs: np.ndarray) -> np.ndarray:
    """Return the places where a cost is below all before it."""
    least = np.minimum.accumulate(costs)
    return np.flatnonzero(np.append(True, costs[1:] < least[:-1])) if len(costs) else np.zeros(0, np.int64)
