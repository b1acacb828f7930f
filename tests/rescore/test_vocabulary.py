# SPDX-License-Identifier: Apache-2.0
"""Lattices and language model must agree on the words."""

from __future__ import annotations

import pytest

from kaldi_mpq.errors import MissingInputError, VocabularyError
from kaldi_mpq.lm.checkpoint import save_lm
from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.rescore.vocabulary import lattice_vocabulary

WORDS = ["<eps>", "a", "b", "<unk>", "<s>", "</s>"]
CONFIG = ModelConfig("lstm", len(WORDS), 4, 5, 3, 4, 4, 1)


def write_words(path, words):
    """Write a words.txt."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{word} {i}\n" for i, word in enumerate(words)))
    return path


@pytest.fixture
def lm(tmp_path):
    """A language model's directory."""
    save_lm(tmp_path / "lm", build(CONFIG), {})
    write_words(tmp_path / "lm" / "words.txt", WORDS)
    return tmp_path / "lm"


def test_same_words_are_accepted(lm, tmp_path):
    """The vocabulary that comes back has the model's special symbols."""
    vocabulary = lattice_vocabulary(write_words(tmp_path / "lang" / "words.txt", WORDS), lm, CONFIG)
    assert (vocabulary.words, vocabulary.bos, vocabulary.eos, vocabulary.unk) == (tuple(WORDS), 4, 5, 3)


@pytest.mark.parametrize(
    ("theirs", "shown"),
    [
        (["<eps>", "a", "c", "<unk>", "<s>", "</s>"], r"first at id 2, expected 'b' .*, found 'c'"),
        (WORDS[:-1], r"first at id 5"),
    ],
)
def test_first_difference_and_both_sizes_are_shown(lm, tmp_path, theirs, shown):
    """A user sees which word differs, in which file, and how many words each has."""
    words = write_words(tmp_path / "lang" / "words.txt", theirs)
    with pytest.raises(VocabularyError, match=shown) as error:
        lattice_vocabulary(words, lm, CONFIG)
    assert f"{words}: {len(theirs)} words" in str(error.value)


def test_model_that_does_not_fit_its_own_words_is_refused(lm, tmp_path):
    """A words.txt copied from elsewhere into the model's directory is found out."""
    write_words(lm / "words.txt", [*WORDS, "more"])
    with pytest.raises(VocabularyError, match=r"does not fit the model, expected 6 words, found 7"):
        lattice_vocabulary(write_words(tmp_path / "lang" / "words.txt", WORDS), lm, CONFIG)


def test_all_missing_files_are_named(lm, tmp_path):
    """Both the lang directory's words.txt and the model are named when neither is there."""
    with pytest.raises(MissingInputError, match=r"words\.txt.*nothing"):
        lattice_vocabulary(tmp_path / "words.txt", tmp_path / "nothing", CONFIG)
