# SPDX-License-Identifier: Apache-2.0
"""Pictures by matplotlib: whether it is there, which kinds of file there are, and writing them whole.

Not here: what is drawn (`plot` of each package).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kaldi_mpq.artefact import writing
from kaldi_mpq.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["new_figure", "save_figure"]

_KINDS = ("png", "svg", "pdf")


def new_figure(path: Path, width: float, height: float) -> Figure:
    """Return an empty figure for a file; sizes are inches.

    Raises:
      ConfigError: the file does not end in .png, .svg or .pdf, or matplotlib is not installed.
    """
    if path.suffix.lstrip(".") not in _KINDS:
        raise ConfigError("unknown kind of picture", where=path, expected=".png, .svg or .pdf", found=path.suffix,
                          hint="name the file so")  # fmt: skip
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a picture needs matplotlib", where=path, hint="pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all."""
    with writing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip("."), dpi=150)
