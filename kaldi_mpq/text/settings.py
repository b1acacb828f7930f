# SPDX-License-Identifier: Apache-2.0
"""Settings of ``mpq text``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.settings import setting

__all__ = ["TextSettings"]


@dataclass(frozen=True)
class TextSettings:
    """Turn Kaldi text and words.txt into language-model data.

    Writes words.txt, train.ids, dev.ids, NAME.ids of each test set, and stats.json into OUT.
    """

    out: Path = setting(help="directory to write", positional=True)
    words: Path = setting(help="Kaldi's words.txt")
    train: Path = setting(help="Kaldi text file to train on")
    dev: Path = setting(help="Kaldi text file for early stopping and tuning")
    test: tuple[str, ...] = setting((), help="NAME=FILE, further texts; may be repeated")
    bos: str = setting("<s>", help="sentence start symbol in words.txt")
    eos: str = setting("</s>", help="sentence end symbol in words.txt; may be the same as --bos")
    unk: str = setting("<unk>", help="symbol that out-of-vocabulary words are replaced by")
