# SPDX-License-Identifier: Apache-2.0
"""A small vocabulary, and the function that writes a Kaldi data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaldi_mpq.text.vocab import Vocabulary

WORDS = ("<eps>", "yeah", "okay", "naïve", "<unk>", "#0", "<s>", "</s>")


@pytest.fixture
def words_txt(tmp_path) -> Path:
    """A good words.txt."""
    path = tmp_path / "words.txt"
    path.write_text("".join(f"{word} {number}\n" for number, word in enumerate(WORDS)), encoding="utf-8")
    return path


@pytest.fixture
def vocabulary(words_txt) -> Vocabulary:
    """The vocabulary of the good words.txt."""
    return Vocabulary.read(words_txt)


@pytest.fixture
def data_dir(tmp_path):
    """Return a function that writes a data directory from the text of its files and returns its ``text``."""

    def write(**files: str) -> Path:
        place = tmp_path / "data"
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content.encode("utf-8"))
        return place / "text"

    return write
