# SPDX-License-Identifier: Apache-2.0
"""What gets a bit width of its own in a search: units that are stored apart, alone or several together.

A precision map always names the units that the packed file stores; a group is some of them that share their width.
Not here: what the units of a model are (`lm.model`), how many bytes they take (`pack.size`).

Paper: Xu et al., TASLP 2021, section VI, Fig. 6: each gate of an LSTM layer (both its matrices: `sublayer`), embedding
and output layer; of a Transformer layer attention and feed-forward sub-layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.precision import PrecisionMap, Unit

__all__ = ["Group", "groups_of", "precision_of"]

_TOGETHER = (
    (re.compile(r"(layers\.\d+)\.(?:ih|hh)\.(\w+)"), r"\1.\2"),
    (re.compile(r"(blocks\.\d+\.attention)\.\w+"), r"\1"),
    (re.compile(r"(blocks\.\d+)\.(?:up|down)"), r"\1.feed_forward"),
)


@dataclass(frozen=True)
class Group:
    """Units that share a bit width, under one name."""

    name: str
    units: tuple[Unit, ...]

    @property
    def count(self) -> int:
        """Number of weights."""
        return sum(unit.count for unit in self.units)


def groups_of(model: LanguageModel, split: str) -> list[Group]:
    """Return the groups of a model in its order; together they are all units of `pack`.

    Args:
      split: ``sublayer``, ``gate``, ``matrix`` or ``rowsN``; see SearchSettings.
    Raises:
      ConfigError: another split.
    """
    together: dict[str, list[Unit]] = {}
    for unit in model.units("gate" if split == "sublayer" else split):
        together.setdefault(_group_name(unit.name) if split == "sublayer" else unit.name, []).append(unit)
    return [Group(name, tuple(units)) for name, units in together.items()]


def precision_of(groups: Sequence[Group], bits: Mapping[str, int]) -> PrecisionMap:
    """Return the precision map in which each unit has the width of its group."""
    return PrecisionMap({unit.name: bits[group.name] for group in groups for unit in group.units})


def _group_name(unit: str) -> str:
    for pattern, replacement in _TOGETHER:
        if pattern.fullmatch(unit):
            return pattern.sub(replacement, unit)
    return unit
