# SPDX-License-Identifier: Apache-2.0
"""Two pictures of products: against the limits of a core (roofline), and speed against bits of a weight.

Not here: numbers (`against_peers.py` measured them), and where the pictures go (`publish_peers.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kaldi_mpq.picture import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_bits", "draw_roofline"]

Results = Mapping[str, Any]
SHAPE = re.compile(r"(\d+) x (\d+), (\d+) row")
STYLES = {  # of a family of systems: colour, marker
    "ours, 8-bit activations": ("#c0392b", "o"),
    "ours, 16-bit activations": ("#e59866", "o"),
    "ONNX Runtime, low bits": ("#2471a3", "s"),
    "ONNX Runtime int8": ("#7fb3d5", "s"),
    "torch int8": ("#7d8b8c", "^"),
    "torch fp32": ("#2c3e50", "v"),
}


def draw_roofline(results: Results, path: Path) -> None:
    """Write 10^9 multiplications a second against multiplications per byte of weights, under the limits of a core."""
    figure = new_figure(path, 7.2, 4.4)
    axes = figure.add_subplot()
    seen = set()
    most = 1.0
    for key, workload in _products(results):
        rows = int(SHAPE.search(workload["name"])[3])
        for label, speed in _speeds(workload).items():
            family, bits = _family(label)
            if label.endswith("look-up tables"):
                continue
            colour, marker = STYLES[family]
            per_byte = 8 / bits * rows
            most = max(most, per_byte)
            name = None if family in seen else family
            seen.add(family)
            filled = colour if "output" in key else "white"
            axes.plot(per_byte, speed, marker, color=colour, markerfacecolor=filled, markersize=6, label=name)
    _limits(axes, results["limits"], 2 * most)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("multiplications per byte of weights: rows x 8 / bits (filled: 1024 x 30080; open: 512 x 2048)")
    axes.set_ylabel("10^9 multiplications a second, one core")
    axes.legend(fontsize=7, loc="lower right")
    axes.grid(alpha=0.2)
    save_figure(figure, path)


def _limits(axes: Axes, limits: Mapping[str, float], most: float) -> None:
    x = np.geomspace(0.2, most, 50)
    tops = {"vpdpbusd": "bytes: vpdpbusd", "vpmaddubsw": "bytes: vpmaddubsw", "fp32 FMA": "float32: FMA"}
    highest = max((limits[name] for name in tops if name in limits), default=0.0)
    for name, text in tops.items():
        if name in limits:
            axes.axhline(limits[name], color="black", linewidth=0.8, linestyle="-" if name != "fp32 FMA" else "--")
            axes.annotate(f"{text}, {limits[name]:.0f}", (0.22, limits[name]), fontsize=7, va="bottom")
    for name, text in (("reads of 4096 kB", "third cache"), ("reads of 65536 kB", "memory")):
        if name in limits:
            under = x[x * limits[name] <= highest]
            axes.plot(under, under * limits[name], color="black", linewidth=0.8, linestyle=":")
            note, at = f"{text}, {limits[name]:.0f} GB/s", (0.25, 0.28 * limits[name])
            axes.annotate(note, at, fontsize=7, rotation=51, rotation_mode="anchor")


def draw_bits(results: Results, path: Path) -> None:
    """Write the speed of each system against the bits that it keeps of a weight, a panel for every product."""
    products = _products(results)
    figure = new_figure(path, 9.6, 3.2)
    panels = figure.subplots(1, max(1, len(products)), squeeze=False)[0]
    for axes, (_, workload) in zip(panels, products, strict=False):
        lines: dict[str, list[tuple[float, float]]] = {}
        for label, speed in _speeds(workload).items():
            if not label.endswith("look-up tables"):
                family, bits = _family(label)
                lines.setdefault(family, []).append((bits, speed))
        for family, points in lines.items():
            colour, marker = STYLES[family]
            bits, speeds = zip(*sorted(points), strict=True)
            axes.plot(bits, speeds, color=colour, marker=marker, markersize=4, linewidth=1, label=family)
        axes.set_xscale("log", base=2)
        axes.set_xticks([1, 2, 4, 8, 32], ["1", "2", "4", "8", "32"])
        axes.set_ylim(bottom=0)
        axes.set_title(workload["name"], fontsize=8)
        axes.set_xlabel("bits of a weight", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.2)
    panels[0].set_ylabel("10^9 multiplications a second", fontsize=8)
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=7, loc="outside lower center", ncols=6)
    save_figure(figure, path)


def _products(results: Results) -> list[tuple[str, Mapping[str, Any]]]:
    return [(key, found) for key, found in results["workloads"].items() if found["unit"] == "GMAC/s"]


def _speeds(workload: Mapping[str, Any]) -> dict[str, float]:
    return {label: row["speed"] for label, row in workload["systems"].items() if "speed" in row}


def _family(label: str) -> tuple[str, float]:
    """Return which line a system is of, and the bits of its weights."""
    ours = re.fullmatch(r"ours, (\d+) bits, (.*)", label)
    if ours:
        return f"ours, {ours[2]}", float(ours[1])
    low = re.fullmatch(r"ONNX Runtime (\d+) bits.*", label)
    if low:
        return "ONNX Runtime, low bits", float(low[1])
    return label, 32.0 if label == "torch fp32" else 8.0
