# SPDX-License-Identifier: Apache-2.0
"""A language model from wherever it is: a directory (float or fitted) or a packed file. Not here: what is in them."""

from __future__ import annotations

from pathlib import Path

from kaldi_mpq.artefact import require, sha256_of
from kaldi_mpq.errors import VocabularyError
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.pack.format import read_file
from kaldi_mpq.pack.read import load_packed

__all__ = ["open_lm", "words_of"]


def open_lm(path: str | Path) -> LanguageModel:
    """Return the model in an LM directory or a packed file, float32, in evaluation mode.

    Raises:
      MissingInputError: nothing is there, or the directory lacks a file.
      ModelFileError: damaged, or not finite.
    """
    path = Path(path)
    require([path], hint="an LM directory (mpq lm train, mpq fit) or a file (mpq pack)")
    return load_lm(path) if path.is_dir() else load_packed(path)


def words_of(path: str | Path) -> Path:
    """Return the words.txt of a model, in its directory or beside its file; it must be the one the model was made with.

    Raises:
      MissingInputError: there is none.
      VocabularyError: it is not the packed model's.
    """
    path = Path(path)
    words = (path if path.is_dir() else path.parent) / "words.txt"
    require([path, words])
    if path.is_file():
        expected, found = read_file(path).header.get("words_sha256"), sha256_of(words)
        if found != expected:
            raise VocabularyError(
                "words.txt is not the one that the model was made with", where=words, expected=expected, found=found
            )
    return words
