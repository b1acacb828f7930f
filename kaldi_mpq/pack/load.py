# SPDX-License-Identifier: Apache-2.0
"""A language model from wherever it is: a directory (float or fitted) or a packed file, unpacked or as it is.

Not here: what is in them.
"""

from __future__ import annotations

import logging
from pathlib import Path

from kaldi_mpq.artefact import require, sha256_of
from kaldi_mpq.errors import ConfigError, VocabularyError
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.native import packed
from kaldi_mpq.pack.format import read_file
from kaldi_mpq.pack.packed_load import has_packed_kernels, load_packed_weights
from kaldi_mpq.pack.read import load_packed

__all__ = ["open_lm", "words_of"]

log = logging.getLogger(__name__)

_ACTIVATION_BITS = {"auto": 16, "packed": 16, "packed8": 8}


def open_lm(path: str | Path, kernel: str = "torch", denominator: str = "exact") -> LanguageModel:
    """Return the model in an LM directory or a packed file, in evaluation mode.

    Args:
      kernel: ``torch``: in float32. ``packed``: a packed file is computed with as it is, activations in 16 bits;
        ``packed8``: in 8 bits, faster, scores not as near. ``auto``: as ``packed`` where there are kernels for the
        model and this processor. Directories are in float32 in any case.
      denominator: ``cheap``: packed models normalise with 8-bit activations, see `PackedModel`; others exactly.
    Raises:
      MissingInputError: nothing is there, or the directory lacks a file.
      ModelFileError: damaged, or not finite.
      ConfigError: there are no kernels for the packed model, which ``auto`` would unpack.
    """
    path = Path(path)
    require([path], hint="an LM directory (mpq lm train, mpq fit) or a file (mpq pack)")
    if path.is_dir():
        return load_lm(path)
    if kernel == "torch":
        return load_packed(path)
    if has_packed_kernels(path) and (kernel != "auto" or packed.has_fast_kernels()):
        log.info("%s is computed with its weights packed, %d-bit activations", path, _ACTIVATION_BITS[kernel])
        model = load_packed_weights(path, _ACTIVATION_BITS[kernel])
        if denominator == "cheap":
            model.use_cheap_denominator()
        return model
    if kernel != "auto":
        raise ConfigError(f"no kernels for {path} as it is packed", expected="parts of 8 bits or less",
                          hint="--kernel auto unpacks it")  # fmt: skip
    log.info("%s is unpacked to float32: packed kernels are for models with parts of 8 bits or less, and AVX2", path)
    return load_packed(path)


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
