# SPDX-License-Identifier: Apache-2.0
"""What was measured beside what was aimed at. Not here: measuring (`turns`, `costs`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from peers.turns import ratio_of

__all__ = ["Row", "rows_of"]

Results = Mapping[str, Any]
SCALE_US = 387  # ONNX Runtime's 2-bit product, 1024 x 30,080, one row, on the processor that the targets are for
RATIOS = (  # what, workload, ours, theirs, target
    ("N-best 100, LSTM 2x650, exact", "lstm", "ours", "ONNX Runtime int8", 5),
    ("N-best 100, LSTM 2x650, exact", "lstm", "ours", "torch fp32", 20),
    ("same, cheap denominator", "lstm", "ours, cheap denominator", "ONNX Runtime int8", 5),
    ("same, 8-bit activations", "lstm", "ours, 8-bit activations", "ONNX Runtime int8", 5),
    ("same, no shared prefixes: kernels alone", "lstm", "ours, no shared prefixes", "ONNX Runtime int8", None),
    ("same, self-normalised", "lstm", "ours, self-normalised", "ONNX Runtime int8", 20),
    ("both self-normalised", "lstm", "ours, self-normalised", "ONNX Runtime int8, self-normalised", None),
    ("N-best 100, Transformer 6x512", "transformer", "ours", "CTranslate2 int8", 5),
    ("N-best 100, Transformer 6x512", "transformer", "ours", "CTranslate2 int8, MKL", 5),
    ("same, cheap denominator", "transformer", "ours, cheap denominator", "CTranslate2 int8", 5),
    ("same, 8-bit activations", "transformer", "ours, 8-bit activations", "CTranslate2 int8", 5),
)


@dataclass(frozen=True)
class Row:
    """A line of the table of targets: texts, and whether the target is met; None where there is none, or no number."""

    what: str
    ahead_of: str
    target: str
    measured: str
    met: bool | None


def rows_of(results: Results) -> list[Row]:
    """Return the lines of the table; what was not measured has its reason."""
    rows = [_ratio(results, *ratio) for ratio in RATIOS]
    rows += [_on_scale(results, bits, target) for bits, target in ((2, 120), (1, 80))]
    rows += [_product(results, f"layer, {n} rows", bits) for n in (32, 256) for bits in (1, 2, 4)]
    memory, cold = results.get("memory", {}), results.get("cold start", {})
    rows.append(_number("memory of a rescoring job, packed over float", "1", 0.25, memory.get("ratio"), "{:.2f}"))
    rows.append(_times(results, "n", "N = 1000", "N = 10", "time, N = 1000 over N = 10", "100", 15, most=True))
    rows.append(_threads(results))
    seconds = cold.get("seconds")
    rows.append(_number("first utterance rescored, after imports", "", 0.3, seconds, "{:.2f} s"))
    return rows


def _ratio(results: Results, what: str, workload: str, ours: str, theirs: str, target: float | None) -> Row:
    wanted = f"{target} x" if target else ""
    try:
        median, least, most = ratio_of(_seconds(results, workload, theirs), _seconds(results, workload, ours))
    except LookupError as reason:
        return Row(what, theirs, wanted, str(reason.args[0]), None)
    met = None if target is None else median >= target
    return Row(what, theirs, wanted, f"{median:.2f} x ({least:.2f} to {most:.2f})", met)


def _on_scale(results: Results, bits: int, target: float) -> Row:
    """Return our time with one row, in units in which ONNX Runtime's takes what it took on the targets' processor."""
    peer = "ONNX Runtime 2 bits" if bits == 2 else "ONNX Runtime 2 bits; ggml 1 bit 1012 us there, quoted"
    what, wanted = f"{bits} bit(s), 1024 x 30,080, one row", f"{target} us there"
    try:
        name = "output layer, 1 row"
        ours = _seconds(results, name, f"ours, {bits} bits, 8-bit activations")
        median, least, most = ratio_of(ours, _seconds(results, name, "ONNX Runtime 2 bits"))
    except LookupError as reason:
        return Row(what, peer, wanted, str(reason.args[0]), None)
    here = 1e6 * min(ours)
    there = f"{SCALE_US * median:.0f} us ({SCALE_US * least:.0f} to {SCALE_US * most:.0f}); {here:.0f} us here"
    return Row(what, peer, wanted, there, SCALE_US * median <= target)


def _product(results: Results, workload: str, bits: int) -> Row:
    """Return a width's speed in a batch, with its share of the limit and how many times the peer's it is."""
    what, peer = f"{bits} bit(s), 512 x 2048, {workload.split(', ')[1]}", "ONNX Runtime 4 bits"
    wanted, limit = "180 GMAC/s or 75% of the limit", results.get("byte_limit")
    try:
        ours = _system(results, workload, f"ours, {bits} bits, 8-bit activations")
    except LookupError as reason:
        return Row(what, peer, wanted, str(reason.args[0]), None)
    speed = ours["speed"]
    met = speed >= 180 or bool(limit and speed >= 0.75 * limit)
    measured = f"{speed:.0f} GMAC/s" + (f", {100 * speed / limit:.0f}% of {limit:.0f}" if limit else "")
    try:
        median, least, most = ratio_of(_seconds(results, workload, peer), ours["seconds"])
    except LookupError:
        return Row(what, peer, wanted, measured, met)
    return Row(what, peer, wanted, f"{measured}, {median:.2f} x ({least:.2f} to {most:.2f})", met)


def _times(
    results: Results, workload: str, more: str, less: str, what: str, ahead_of: str, target: float, *, most: bool
) -> Row:
    wanted = f"{target} at most" if most else f"{target} at least"
    try:
        median, low, high = ratio_of(_seconds(results, workload, more), _seconds(results, workload, less))
    except LookupError as reason:
        return Row(what, ahead_of, wanted, str(reason.args[0]), None)
    met = median <= target if most else median >= target
    return Row(what, ahead_of, wanted, f"{median:.2f} ({low:.2f} to {high:.2f})", met)


def _threads(results: Results) -> Row:
    """Return the gain by the clock, and what it costs both processors together."""
    one, two = ("1 thread(s)", "2 thread(s)")
    row = _times(results, "threads", one, two, "two threads over one, by the clock", "2", 1.8, most=False)
    if row.met is None:
        return row
    cost = ratio_of(*(_system(results, "threads", label)["cpu"] for label in (two, one)))[0]
    return replace(row, measured=f"{row.measured}; {cost:.2f} times the processor time")


def _number(what: str, ahead_of: str, target: float, found: float | None, form: str) -> Row:
    if found is None:
        return Row(what, ahead_of, f"{target} at most", "not measured", None)
    return Row(what, ahead_of, f"{target} at most", form.format(found), found <= target)


def _seconds(results: Results, workload: str, label: str) -> Sequence[float]:
    return _system(results, workload, label)["seconds"]


def _system(results: Results, workload: str, label: str) -> Mapping[str, Any]:
    """Return what was found of a system.

    Raises:
      LookupError: why it was not measured.
    """
    found = results["workloads"].get(workload, {}).get("systems", {}).get(label)
    if found is None:
        raise LookupError("not measured")
    if "skipped" in found:
        raise LookupError(f"skipped: {found['skipped']}")
    return found
