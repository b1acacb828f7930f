# SPDX-License-Identifier: Apache-2.0
"""Kaldi's tables of one line per key: text, utt2spk, wav.scp.

Not here: which keys there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import TextError

__all__ = ["read_table", "write_table"]


def write_table(path: Path, lines: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
    """Write ``key value`` lines in Kaldi's order of keys, whole or not at all."""
    pairs = sorted(dict(lines).items(), key=lambda pair: pair[0].encode())
    with writing(path) as temporary:
        temporary.write_text("".join(f"{key} {value}\n" for key, value in pairs), encoding="utf-8")


def read_table(path: Path, *, made_by: str) -> dict[str, str]:
    """Return a table.

    Args:
      made_by: the stage of which it is, for the message where it is missing.
    Raises:
      MissingInputError: there is no such file.
      TextError: it is empty, or a key has two lines.
    """
    require([path], hint=f"run {made_by} first")
    found: dict[str, str] = {}
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            key, _, value = line.strip().partition(" ")
            if key in found:
                raise TextError("a second line of the same key", where=f"{path}:{number}", found=key)
            found[key] = value
    if not found:
        raise TextError("empty", where=path, hint=f"remove it and run {made_by} again")
    return found
