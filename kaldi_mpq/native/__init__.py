# SPDX-License-Identifier: Apache-2.0
"""Lattice archives and algorithms, n-gram models, dense products in C++; each name is loaded when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaldi_mpq.native._archive import Lattices
    from kaldi_mpq.native.archive import LatticeReader, LatticeWriter
    from kaldi_mpq.native.old_lm import OldLm, find_old_lm, open_old_lm
    from kaldi_mpq.native.paths import (
        Paths,
        WordConfidences,
        best_paths,
        check,
        determinize,
        forward_backward,
        is_deterministic,
        nbest,
        path_lattices,
        prune,
        prune_by_posterior,
        subset,
        useful_states,
        word_confidences,
    )
    from kaldi_mpq.native.search import RowTable, Searches

__all__ = [
    "LatticeReader",
    "LatticeWriter",
    "Lattices",
    "OldLm",
    "Paths",
    "RowTable",
    "Searches",
    "WordConfidences",
    "best_paths",
    "check",
    "determinize",
    "find_old_lm",
    "forward_backward",
    "is_deterministic",
    "nbest",
    "open_old_lm",
    "path_lattices",
    "prune",
    "prune_by_posterior",
    "subset",
    "useful_states",
    "word_confidences",
]

_HOMES = {
    "archive": ("LatticeReader", "LatticeWriter", "Lattices"),
    "old_lm": ("OldLm", "find_old_lm", "open_old_lm"),
    "paths": (
        "Paths",
        "WordConfidences",
        "best_paths",
        "check",
        "determinize",
        "forward_backward",
        "is_deterministic",
        "nbest",
        "path_lattices",
        "prune",
        "prune_by_posterior",
        "subset",
        "useful_states",
        "word_confidences",
    ),
    "search": ("RowTable", "Searches"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_EXTENSIONS = ("_archive", "_dense", "_ngram", "_packed", "_paths", "_search")


def __getattr__(name: str) -> Any:
    if name in _EXTENSIONS:
        return _load_extension(name)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _load_extension(name: str) -> Any:
    full_name = f"{__name__}.{name}"
    try:
        return importlib.import_module(full_name)
    except ModuleNotFoundError as error:
        if error.name != full_name:
            raise
    from kaldi_mpq.errors import MpqError

    raise MpqError(
        f"the C++ extension {full_name} is not built for this Python",
        hint="build it in the project's folder with `pip install -e .` or `python setup.py build_ext --inplace`",
    )
