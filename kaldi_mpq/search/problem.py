# SPDX-License-Identifier: Apache-2.0
"""What a search chooses from: groups of units, their sizes at each width that they may have, and the bytes there are.

Not here: which choice is good (`kl`, `hessian`, `baselines`) and how it is found (`allocate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from kaldi_mpq.errors import ConfigError, PrecisionError
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.pack.size import SizeTable
from kaldi_mpq.precision import CANDIDATE_BITS
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.search.allocate import Item
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.search.units import Group, groups_of
from kaldi_mpq.settings import nearest

__all__ = ["Found", "Problem", "list_units", "make_problem"]


@dataclass(frozen=True)
class Problem:
    """A model and a budget.

    Args:
      model: the float model, in evaluation mode.
      groups: its parts, in order.
      bytes: group name -> width -> bytes in the packed file, for every width that the group may have.
      fixed_bytes: of everything else in the file.
      budget: bytes that the file may have.
      parameters: of the model.
    """

    model: LanguageModel
    groups: list[Group]
    bytes: Mapping[str, Mapping[int, int]]
    fixed_bytes: int
    budget: int
    parameters: int

    @property
    def capacity(self) -> int:
        """Bytes that the groups may take together."""
        return self.budget - self.fixed_bytes

    def items(self, costs: Mapping[str, Mapping[int, float]]) -> list[Item]:
        """Return what `allocate` chooses from, given each group's cost at each of its widths."""
        return [
            Item(name, tuple(sizes), tuple(sizes.values()), tuple(float(costs[name][bits]) for bits in sizes))
            for name, sizes in self.bytes.items()
        ]

    def file_bytes(self, bits: Mapping[str, int]) -> int:
        """Return the most bytes that the packed file can have at these widths of the groups."""
        return self.fixed_bytes + sum(sizes[bits[name]] for name, sizes in self.bytes.items())

    def check_possible(self) -> None:
        """Raise PrecisionError, saying what is possible, if the smallest widths take more than the budget."""
        sizes = [sorted(each.values()) for each in self.bytes.values()]
        smallest = self.fixed_bytes + sum(each[0] for each in sizes)
        largest = self.fixed_bytes + sum(each[-1] for each in sizes)
        if smallest > self.budget:
            raise PrecisionError(
                "the budget is too small for these units, candidates and floors",
                expected=f"{smallest} to {largest} bytes ({4 * self.parameters / smallest:.2f} times smaller at most)",
                found=f"{self.budget} bytes",
            )


@dataclass(frozen=True)
class Found:
    """What a method has chosen.

    Args:
      bits: group name -> bits; empty where a file of another format has come out, which has no such widths.
      details: what ``search.json`` tells of the method.
      size: bytes of that file.
      costs: group name -> width -> the sensitivities that led to the choice, if any did.
    """

    bits: Mapping[str, int]
    details: Mapping[str, Any]
    size: int | None = None
    costs: Mapping[str, Mapping[int, float]] | None = None


def list_units(model: LanguageModel, split: str, candidates: tuple[int, ...], granularity: Granularity) -> list[dict]:
    """Return name, parameters and bytes at each width of every part of a model that has a width of its own.

    Args:
      split: as in SearchSettings.units.
      candidates: widths.
      granularity: which weights share a scale.
    """
    table = SizeTable(model, granularity, _float32_bytes(model))
    return [
        {"unit": group.name, "parameters": group.count, "bytes": _sizes(table, group, candidates)}
        for group in groups_of(model, split)
    ]


def make_problem(model: LanguageModel, settings: SearchSettings) -> Problem:
    """Return what the settings ask of a model.

    Raises:
      ConfigError: a floor or fixed width that is none, or the split.
      PrecisionError: a pattern that no unit has, or a budget that no choice meets.
    """
    groups = groups_of(model, settings.units)
    allowed = _allowed(groups, settings)
    granularity = Granularity(settings.granularity, settings.block)
    budget = _budget(model, settings, granularity)
    half = not all(32 in widths for widths in allowed.values())
    table = SizeTable(model, granularity, budget, half_leftover=half)
    sizes = {group.name: _sizes(table, group, allowed[group.name]) for group in groups}
    problem = Problem(model, groups, sizes, table.fixed_bytes, budget, table.parameters)
    problem.check_possible()
    return problem


def _budget(model: LanguageModel, settings: SearchSettings, granularity: Granularity) -> int:
    """Return the bytes that the file may have."""
    if settings.budget is not None:
        return settings.budget
    float32 = _float32_bytes(model)
    if settings.ratio is not None:
        return int(float32 / settings.ratio)
    if settings.mean_bits is not None:
        return int(float32 * settings.mean_bits / 32)
    bits, size = settings.uniform_bits or 0, float32
    for _ in range(2):  # the size of offsets in the header depends a little on that of the file
        table = SizeTable(model, granularity, size, half_leftover=bits != 32)
        size = table.fixed_bytes + sum(table.unit_bytes(unit, bits) for unit in model.units())
    return size


def _float32_bytes(model: LanguageModel) -> int:
    return 4 * sum(tensor.numel() for tensor in model.state_dict().values())


def _sizes(table: SizeTable, group: Group, candidates: tuple[int, ...]) -> dict[int, int]:
    return {bits: sum(table.unit_bytes(unit, bits) for unit in group.units) for bits in candidates}


def _allowed(groups: list[Group], settings: SearchSettings) -> dict[str, tuple[int, ...]]:
    """Return the widths that each group may have; later floors and fixed widths win."""
    names = [group.name for group in groups]
    floors, fixed = dict.fromkeys(names, 0), {}
    for text in settings.floor:
        floors.update(_widths(text if "=" in text else f"*={text}", names, "floor"))
    for text in settings.fixed:
        fixed.update(_widths(text, names, "fixed"))
    candidates = tuple(sorted(set(settings.candidates)))
    allowed = {}
    for name in names:
        widths = tuple(bits for bits in candidates if bits >= floors[name])
        allowed[name] = (fixed[name],) if name in fixed else widths
        if not allowed[name]:
            raise ConfigError(f"unit {name}: no candidate reaches its floor", expected=floors[name], found=candidates)
    return allowed


def _widths(text: str, names: list[str], setting: str) -> dict[str, int]:
    """Return what ``PATTERN=BITS`` gives to which of the names."""
    pattern, _, bits = text.rpartition("=")
    if bits not in map(str, CANDIDATE_BITS) or not pattern:
        raise ConfigError(f"bad value for {setting}", expected=f"UNIT=BITS, BITS of {CANDIDATE_BITS}", found=text)
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise PrecisionError(f"no unit is called {pattern}", hint=nearest(pattern, names))
    return dict.fromkeys(found, int(bits))
