# SPDX-License-Identifier: Apache-2.0
"""A picture: word error rate against megabytes, a point for each system. Not here: the numbers (`rows`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kaldi_mpq.picture import new_figure, save_figure
from kaldi_mpq.score.rows import Row

__all__ = ["plot_sizes"]


def plot_sizes(path: Path, rows: Sequence[Row], name: str | None) -> None:
    """Write the picture; a system without a size is a dashed line.

    Args:
      path: ends in .png, .svg or .pdf.
      name: the set whose error rate is shown.
    Raises:
      ConfigError: another ending, or matplotlib is not installed.
    """
    figure = new_figure(path, 7.0, 4.5)
    from matplotlib.ticker import LogFormatter

    axes = figure.add_subplot()
    for row in rows:
        wer = row.wer(name) if name is not None else None
        if wer is None:
            continue
        if row.size_bytes is None:
            axes.axhline(wer, linestyle="--", linewidth=1.0, color="0.6")
            axes.annotate(row.name, (1.0, wer), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
        else:
            axes.plot(row.size_bytes / 1e6, wer, "o", color="tab:blue")
            offset = (4, 4)
            axes.annotate(row.name, (row.size_bytes / 1e6, wer), xytext=offset, textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatted(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))  # 20, not 2 x 10^1
    axes.margins(x=0.2)  # room for the names
    axes.set_xlabel("model on disk, MB")
    axes.set_ylabel(f"word error rate on {name}, %")
    axes.grid(True, which="both", linewidth=0.3)
    save_figure(figure, path)
