# SPDX-License-Identifier: Apache-2.0
"""Tables of results in Markdown, as they are printed and as docs/performance.md has them. Not here: the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peers.targets import Row
from peers.turns import ratio_of

__all__ = ["as_table", "profile_table", "systems_table"]


def as_table(rows: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    marks = {True: "yes", False: "no", None: ""}
    cells = [[row.what, row.ahead_of, row.target, row.measured, marks[row.met]] for row in rows]
    return _markdown(["what", "ahead of", "target", "measured", "met"], cells)


def systems_table(workload: Mapping[str, Any], limits: Mapping[str, float | None]) -> str:
    """Return the systems of a workload in Markdown: speed, share of the limit, how many times as fast the first is."""
    systems = workload["systems"]
    first = next((row["seconds"] for row in systems.values() if "seconds" in row), [])
    cells = []
    for label, row in systems.items():
        if "skipped" in row:
            cells.append([label, f"skipped: {row['skipped']}", "", "", ""])
            continue
        median, least, most = ratio_of(row["seconds"], first)
        limit = limits.get(row["limit"])
        share = f"{100 * row['gmac_per_second'] / limit:.0f}%" if limit and row["gmac_per_second"] else ""
        difference = f"{row['difference']:.1e}" if "difference" in row else ""
        times = f"{median:.2f} ({least:.2f} to {most:.2f})"
        speed = f"{row['speed']:,.0f}" if row["speed"] >= 100 else f"{row['speed']:.3g}"
        cells.append([label, speed, share, times, difference])
    unit = workload["unit"]
    difference = "largest difference, nats" if unit == "words/s" else "largest difference"
    return _markdown([workload["name"], unit, "of the limit", "times slower than the first", difference], cells)


def profile_table(profile: Mapping[str, Any]) -> str:
    """Return where the time of N-best rescoring goes, by kernel, in Markdown."""
    found = {kernel: row["seconds"] for kernel, row in profile.items() if "seconds" in row}
    parts = sorted({part for seconds in found.values() for part in seconds})
    cells = [[part, *(_share(seconds, part) for seconds in found.values())] for part in parts]
    return _markdown(["N-best rescoring, share of the time", *(f"`--kernel {kernel}`" for kernel in found)], cells)


def _share(seconds: Mapping[str, float], part: str) -> str:
    return f"{100 * seconds.get(part, 0.0) / sum(seconds.values()):.1f}%"


def _markdown(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
