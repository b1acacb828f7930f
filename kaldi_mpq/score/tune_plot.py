# SPDX-License-Identifier: Apache-2.0
"""A picture: word error rate against each weight, the others at their best. Not here: the numbers (`tune_search`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaldi_mpq.picture import new_figure, save_figure

__all__ = ["plot_curves"]


def plot_curves(path: Path, curves: Mapping[str, Mapping[str, Sequence[Any]]], ref_words: int, name: str) -> None:
    """Write the picture, a panel for each weight.

    Args:
      curves: of each weight its ``values`` and the ``errors`` there.
      ref_words: words of the reference.
      name: the set.
    Raises:
      ConfigError: matplotlib is not installed.
    """
    columns = min(len(curves), 3)
    rows = math.ceil(len(curves) / columns)
    figure = new_figure(path, 3.6 * columns, 2.8 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for (weight, curve), axes in zip(curves.items(), panels):
        rates = [100.0 * errors / max(ref_words, 1) for errors in curve["errors"]]
        axes.plot(curve["values"], rates, color="tab:blue", linewidth=1.2)
        least = min(rates)
        where = [value for value, rate in zip(curve["values"], rates) if rate == least]
        axes.plot(where, [least] * len(where), "o", markersize=3, color="tab:orange")
        axes.set_ylim(0.98 * least, 1.3 * least + 0.1)  # what is much worse does not matter
        axes.set_xlabel(weight if len(weight) < 40 else f"...{weight[-36:]}", fontsize=8)
        axes.grid(True, linewidth=0.3)
    for axes in list(panels):
        axes.set_visible(False)
    figure.supylabel(f"word error rate on {name}, %", fontsize=9)
    save_figure(figure, path)
