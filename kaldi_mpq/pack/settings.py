# SPDX-License-Identifier: Apache-2.0
"""Settings of ``mpq pack``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.settings import setting

__all__ = ["PackSettings"]


@dataclass(frozen=True)
class PackSettings:
    """Store a fitted LM in one small file.

    Writes OUT and, beside it, size.json (bytes measured on disk) and words.txt.
    """

    fit: Path = setting(help="directory that mpq fit wrote", positional=True)
    out: Path = setting(help="file to write, for example exp/lstm_2bit/model.mpq", positional=True)
