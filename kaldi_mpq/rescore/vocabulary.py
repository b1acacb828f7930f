# SPDX-License-Identifier: Apache-2.0
"""The words of the lattices and those of the language model must be the same, under the same ids.

Not here: how words.txt is read (`text.vocab`).
"""

from __future__ import annotations

from pathlib import Path

from kaldi_mpq.artefact import require
from kaldi_mpq.errors import VocabularyError
from kaldi_mpq.lm.model import ModelConfig
from kaldi_mpq.pack.load import words_of
from kaldi_mpq.text.vocab import Vocabulary, check_same, read_words

__all__ = ["lattice_vocabulary"]


def lattice_vocabulary(words: Path, lm: Path, config: ModelConfig) -> Vocabulary:
    """Return the vocabulary of a lang directory, once it is known to be the language model's.

    Args:
      words: the words.txt of the lattices.
      lm: the language model's directory or file, with its words.txt in or beside it.
      config: the language model's shape.
    Raises:
      MissingInputError, VocabularyError: a file is not there; the two differ (the first difference is shown); or the
        model does not have as many words as its own words.txt.
    """
    require([words, lm])
    own = words_of(lm)
    theirs = tuple(read_words(own))
    if len(theirs) != config.vocab_size:
        raise VocabularyError(
            "words.txt does not fit the model", where=own, expected=f"{config.vocab_size} words", found=len(theirs)
        )
    symbols = (config.bos, config.eos, config.unk)
    check_same(
        Vocabulary(theirs, *symbols), Vocabulary(tuple(read_words(words)), *symbols), ours_name=own, theirs_name=words
    )
    return Vocabulary(theirs, *symbols)
