# SPDX-License-Identifier: Apache-2.0
"""Pictures: the bits of every part of a model, a row for each layer; sensitivity against size.

Not here: perplexity against size (`sweep`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from kaldi_mpq.picture import new_figure, save_figure
from kaldi_mpq.search.tradeoff import Tradeoff

__all__ = ["plot_bits", "plot_tradeoff"]

_COLOURS = {1: "#fde725", 2: "#7ad151", 4: "#22a884", 8: "#2a788e", 16: "#414487", 32: "#440154"}
_MOST_LETTERED = 40  # columns; beyond, cells are too narrow for numbers


def plot_bits(path: Path, bits: Mapping[str, int], weights: Mapping[str, int], title: str) -> None:
    """Write the picture; the widths of a row's cells are their shares of its weights.

    Args:
      path: ends in .png.
      bits: of each part.
      weights: how many each part has.
      title: above the picture.
    Raises:
      ConfigError: matplotlib is not installed.
    """
    rows = _rows(bits)
    figure = new_figure(path, 9.0, 1.4 + 0.42 * len(rows))
    from matplotlib.patches import Patch

    axes = figure.add_subplot()
    for height, parts in enumerate(rows.values()):
        total = sum(weights[name] for name in parts.values())
        left = 0.0
        for part, name in parts.items():
            width = weights[name] / total
            axes.barh(height, width, left=left, color=_COLOURS[bits[name]], edgecolor="white", linewidth=0.6)
            if len(parts) <= _MOST_LETTERED:
                colour = "black" if bits[name] <= 4 else "white"
                label = f"{part}\n{bits[name]}" if part else str(bits[name])
                axes.text(left + width / 2, height, label, ha="center", va="center", fontsize=6, color=colour)
            left += width
        axes.text(1.005, height, f"{total / 1e6:.2f} M", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(title, fontsize=9)
    used = [Patch(color=colour, label=f"{width} bits") for width, colour in _COLOURS.items() if width in bits.values()]
    figure.legend(handles=used, loc="outside lower center", ncols=len(used), fontsize=8, frameon=False)
    save_figure(figure, path)


def plot_tradeoff(path: Path, found: Tradeoff, chosen: tuple[int, float], title: str) -> None:
    """Write the picture of what each size of the file costs in summed sensitivity, by the best and by uniform widths.

    Args:
      path: ends in .png.
      found: see `tradeoff`.
      chosen: bytes and sensitivity of this search's result.
      title: above the picture.
    Raises:
      ConfigError: matplotlib is not installed.
    """
    figure = new_figure(path, 7.0, 4.5)
    axes = figure.add_subplot()
    axes.plot([size / 1e6 for size, _ in found.best], [cost for _, cost in found.best], "-", label="best widths")
    for bits, (size, cost) in found.uniform.items():
        axes.plot([size / 1e6], [cost], "o", color="0.4", label="uniform" if bits == min(found.uniform) else None)
        axes.annotate(f"{bits} bit", (size / 1e6, cost), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.plot([chosen[0] / 1e6], [chosen[1]], "*", markersize=12, color="tab:red", label="chosen")
    axes.set_xscale("log")
    if all(cost > 0 for _, cost in (*found.best, *found.uniform.values(), chosen)):
        axes.set_yscale("log")
    axes.set_xlabel("packed file, MB")
    axes.set_ylabel("sum of sensitivities")
    axes.set_title(title, fontsize=9)
    axes.grid(True, which="both", linewidth=0.3)
    axes.legend(fontsize=8)
    save_figure(figure, path)


def _rows(bits: Mapping[str, int]) -> dict[str, dict[str, str]]:
    """Return layer -> part -> name: ``layers.0.ih.forget`` is part ``ih.forget`` of ``layers.0``."""
    rows: dict[str, dict[str, str]] = {}
    for name in bits:
        match = re.match(r"(?:layers|blocks)\.\d+", name)
        layer = match[0] if match else name.split(".")[0]
        rows.setdefault(layer, {})[name[len(layer) :].lstrip(".")] = name
    return rows
