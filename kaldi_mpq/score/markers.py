# SPDX-License-Identifier: Apache-2.0
"""A part of a text file that a command writes, between two lines of comment. Not here: what is written there."""

from __future__ import annotations

from pathlib import Path

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import ConfigError

__all__ = ["check_markers", "markers", "write_between_markers"]


def markers(name: str) -> tuple[str, str]:
    """Return the lines before and after the part that is called ``name``."""
    return f"<!-- {name}:start -->", f"<!-- {name}:end -->"


def check_markers(path: Path, name: str) -> str:
    """Return the text of a file that has a place for the part.

    Raises:
      MissingInputError, ConfigError: no such file, or not one line of each marker, in order.
    """
    start, end = markers(name)
    require([path], hint=f"make it with the lines {start} and {end}")
    text = path.read_text(encoding="utf-8")
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ConfigError(
            "no place for the table", where=path, expected=f"one line {start} and, below it, one line {end}"
        )
    return text


def write_between_markers(path: Path, name: str, part: str) -> None:
    """Replace the part of a file, which is written whole or not at all."""
    start, end = markers(name)
    text = check_markers(path, name)
    before, after = text[: text.index(start)], text[text.index(end) :]
    with writing(path) as temporary:
        temporary.write_text(f"{before}{start}\n\n{part}\n\n{after}", encoding="utf-8")
