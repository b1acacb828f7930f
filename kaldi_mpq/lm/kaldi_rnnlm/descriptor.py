# SPDX-License-Identifier: Apache-2.0
"""nnet3's descriptors, what a node reads, as trees: ``Append(input, IfDefined(Offset(lstm1.m_trunc, -1)))``.

Not here: their values (`graph`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Call", "parse"]

_PARTS = re.compile(r"\s*([A-Za-z_][\w.-]*|-?[\d.]+(?:[eE][-+]?\d+)?|[(),])")


@dataclass(frozen=True)
class Call:
    """An operation and its arguments: names of nodes, numbers as written, or operations."""

    name: str
    arguments: tuple[Call | str, ...]


def parse(text: str) -> Call | str:
    """Return the tree of a descriptor, or the name of a node.

    Raises:
      ValueError: it is malformed.
    """
    parts = _PARTS.findall(text)
    if "".join(parts) != re.sub(r"\s", "", text):
        raise ValueError(f"bad descriptor {text!r}")
    tree = _parse(parts, text)
    if parts:
        raise ValueError(f"bad descriptor {text!r}: {parts[0]!r} after its end")
    return tree


def _parse(parts: list[str], text: str) -> Call | str:
    """Take one tree off the front of ``parts``."""
    if not parts or parts[0] in "(),":
        raise ValueError(f"bad descriptor {text!r}")
    name = parts.pop(0)
    if parts[:1] != ["("]:
        return name
    arguments = []
    while parts and parts.pop(0) in "(,":
        arguments.append(_parse(parts, text))
        if parts[:1] == [")"]:
            parts.pop(0)
            return Call(name, tuple(arguments))
    raise ValueError(f"bad descriptor {text!r}: no closing bracket")
