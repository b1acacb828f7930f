# SPDX-License-Identifier: Apache-2.0
"""The Pareto picture: perplexity against megabytes, a line for each method. Not here: the numbers (`rows`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kaldi_mpq.picture import new_figure, save_figure
from kaldi_mpq.sweep.rows import FLOAT, NGRAM, Entry

__all__ = ["plot_pareto"]

_HIGHEST = 1.6  # times the better reference; what is worse is counted in a corner
_SHAPES = "osD^vP*X<>"


def plot_pareto(path: Path, entries: Sequence[Entry], name: str) -> None:
    """Write the picture: a colour for each method, joined through its best fit at each budget; a shape for each fit.

    Bars reach from the best to the worst seed; the float LM and the n-gram are dashed lines.

    Args:
      path: ends in .png, .svg or .pdf.
      entries: of one or more LMs; each has a panel of its own.
      name: the set whose perplexity is shown.
    Raises:
      ConfigError: another ending, or matplotlib is not installed.
    """
    lms = list(dict.fromkeys(entry.lm for entry in entries)) or [""]
    figure = new_figure(path, 7.5, 5.0 * len(lms))
    for axes, lm in zip(figure.subplots(len(lms), squeeze=False)[:, 0], lms):
        _draw(axes, [entry for entry in entries if entry.lm == lm and entry.mean(name) is not None], name)
        axes.set_title(lm, fontsize=10)
    save_figure(figure, path)


def _draw(axes: Any, entries: Sequence[Entry], name: str) -> None:
    from matplotlib.ticker import LogFormatter

    references = [entry for entry in entries if entry.label in (FLOAT, NGRAM)]
    points = [entry for entry in entries if entry.label not in (FLOAT, NGRAM)]
    for entry in references:
        value = entry.mean(name)
        axes.axhline(value, linestyle="--", linewidth=1.0, color="0.5")
        size = f", {entry.bytes / 1e6:.1f} MB" if entry.bytes else ""
        axes.annotate(
            f"{entry.label}{size}",
            (1.0, value),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
        )
    best = min((entry.mean(name) for entry in references), default=None)
    highest = None if best is None else _HIGHEST * best
    shown = [entry for entry in points if highest is None or entry.mean(name) <= highest]
    fits = {fit: _SHAPES[i % len(_SHAPES)] for i, fit in enumerate(sorted({entry.fit for entry in points}))}
    for number, label in enumerate(sorted({entry.label for entry in shown})):
        _series(axes, [entry for entry in shown if entry.label == label], name, f"C{number % 10}", fits)
    _legends(axes, fits)
    if len(shown) < len(points):
        axes.text(
            0.01,
            0.01,
            f"{len(points) - len(shown)} worse than {highest:.0f} not shown",
            transform=axes.transAxes,
            fontsize=7,
            color="0.4",
        )
    axes.set_xscale("log")
    for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatted(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))  # 20, not 2 x 10^1
    axes.set_xlabel("model on disk, MB")
    axes.set_ylabel(f"perplexity on {name}")
    axes.grid(True, which="both", linewidth=0.3)


def _series(axes: Any, entries: Sequence[Entry], name: str, colour: str, shapes: dict[str, str]) -> None:
    """Draw the points of one method, and the line through the best one of each budget."""
    for entry in entries:
        values = entry.perplexities[name]
        mean = entry.mean(name)
        bars = [[mean - min(values)], [max(values) - mean]]
        axes.errorbar(
            [entry.bytes / 1e6],
            [mean],
            yerr=bars,
            fmt=shapes[entry.fit],
            color=colour,
            markersize=5,
            capsize=2,
            linewidth=1.0,
            alpha=0.9,
        )
    best: dict[str, Entry] = {}
    for entry in entries:
        if entry.budget not in best or entry.mean(name) < best[entry.budget].mean(name):
            best[entry.budget] = entry
    line = sorted(best.values(), key=lambda entry: entry.bytes)
    axes.plot(
        [entry.bytes / 1e6 for entry in line],
        [entry.mean(name) for entry in line],
        "-",
        color=colour,
        linewidth=1.0,
        alpha=0.7,
        label=entries[0].label,
    )


def _legends(axes: Any, shapes: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    if axes.get_legend_handles_labels()[0]:
        axes.add_artist(axes.legend(fontsize=7, loc="upper right", title="method", title_fontsize=7))
    if shapes:
        marks = [Line2D([], [], marker=shape, linestyle="", color="0.3", label=fit) for fit, shape in shapes.items()]
        axes.legend(handles=marks, fontsize=7, loc="upper center", title="fit", title_fontsize=7)
