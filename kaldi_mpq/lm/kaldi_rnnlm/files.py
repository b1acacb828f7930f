# SPDX-License-Identifier: Apache-2.0
"""What lies beside ``final.raw`` in a Kaldi RNNLM directory: embeddings, words and special symbols.

    word_embedding.final.mat                           one row per word id, or
    feat_embedding.final.mat, word_feats.txt           a row per feature; "id  feature value feature value ..."
    config/words.txt                                   the lattices' words.txt and, last, <brk>
    special_symbol_opts.txt                            --bos-symbol=N --eos-symbol=N --brk-symbol=N
    config/oov.txt                                     the unknown word

Not here: the network (`nnet3`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kaldi_mpq.errors import MissingInputError, ModelFileError, VocabularyError
from kaldi_mpq.lm.kaldi_rnnlm.objects import read_matrix

__all__ = ["BREAK", "check_complete", "read_embedding", "read_oov", "read_symbols"]

BREAK = "<brk>"
_DEFAULTS = {"bos": (1, "<s>"), "eos": (2, "</s>"), "brk": (3, BREAK)}  # Kaldi leaves out an option that says this


def check_complete(directory: Path, words: Path) -> None:
    """Raise MissingInputError naming every file of an RNNLM directory that is not there."""
    needed = [directory / "final.raw", words, directory / "special_symbol_opts.txt"]
    missing: list[str | Path] = [path for path in needed if not path.exists()]
    if not (directory / "word_embedding.final.mat").exists():
        features = [directory / name for name in ("feat_embedding.final.mat", "word_feats.txt")]
        absent = [path for path in features if not path.exists()]
        if len(absent) == len(features):
            missing.append(f"{directory / 'word_embedding.final.mat'} (or feat_embedding.final.mat and word_feats.txt)")
        else:
            missing += absent
    if missing:
        raise MissingInputError(missing, hint="is this the directory of a Kaldi RNNLM that has been trained?")


def read_embedding(directory: Path) -> tuple[np.ndarray, Path]:
    """Return the (V, E) embeddings of the words, float32, and the file that they come from.

    Raises:
      ModelFileError: a file is damaged, or word_feats.txt does not fit the features.
    """
    path = directory / "word_embedding.final.mat"
    if path.exists():  # Kaldi's scripts too prefer it
        return read_matrix(path), path
    path = directory / "word_feats.txt"
    return _combined(path, read_matrix(directory / "feat_embedding.final.mat")), path


def _combined(path: Path, features: np.ndarray) -> np.ndarray:
    """Return the sum of each word's features times their values."""
    rows = []
    wide = features.astype(np.float64)
    for number, line in enumerate(path.read_bytes().splitlines()):
        try:
            word, *pairs = line.split()
            indexes, values = np.array(pairs[::2], np.int64), np.array(pairs[1::2], np.float64)
            fits = int(word) == number and len(indexes) == len(values) and np.isfinite(values).all()
        except ValueError:
            fits = False
        if not fits or (len(indexes) and not 0 <= indexes.min() <= indexes.max() < len(features)):
            raise ModelFileError(
                "bad line of word features",
                where=f"{path}:{number + 1}",
                expected=f"{number}, then pairs of a feature below {len(features)} and its value",
                found=repr(line[:80].decode("utf-8", "replace")),
            )
        rows.append(values @ wide[indexes])
    if not rows:
        raise ModelFileError("no word features", where=path)
    return np.stack(rows).astype(np.float32)


def read_symbols(path: Path, words: list[str]) -> tuple[int, int]:
    """Return the ids of sentence start and end.

    Kaldi leaves an option out where the id is its own default (1, 2, 3), so the file may even be empty; its programs
    then refuse to run. Here the default is taken if it is the right word.

    Raises:
      VocabularyError: an option is malformed, or an id is no word's, or a default not the word that it stands for.
    """
    given: dict[str, int] = {}
    for option in path.read_text(encoding="utf-8", errors="replace").split():
        name, _, value = option.removeprefix("--").partition("=")
        if name.removesuffix("-symbol") not in _DEFAULTS or not value.isdecimal():
            expected = "--bos-symbol=ID --eos-symbol=ID --brk-symbol=ID"
            raise VocabularyError("bad special symbols", where=path, expected=expected, found=repr(option))
        given[name.removesuffix("-symbol")] = int(value)
    ids = []
    for name in ("bos", "eos"):
        default, symbol = _DEFAULTS[name]
        number = given.get(name, default)
        found = words[number] if number < len(words) else None
        if found is None or (name not in given and found.lower() != symbol):
            raise VocabularyError(
                f"no --{name}-symbol" if name not in given else f"bad --{name}-symbol",
                where=path,
                expected=f"the id of {symbol}" + ("" if name in given else f", which is not {default}"),
                found=f"{number}, which is " + ("no word" if found is None else repr(found)),
            )
        ids.append(number)
    return ids[0], ids[1]


def read_oov(directory: Path) -> str | None:
    """Return the unknown word that ``config/oov.txt`` names; None where the file is not there or empty."""
    path = directory / "config" / "oov.txt"
    return (path.read_text(encoding="utf-8", errors="replace").strip() or None) if path.exists() else None
