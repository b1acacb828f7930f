# SPDX-License-Identifier: Apache-2.0
"""The committed sample's lattices, and small untrained models over its words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from kaldi_mpq.lm.checkpoint import save_lm
from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.text.vocab import Vocabulary


@pytest.fixture(scope="session")
def lang(sample) -> Path:
    """The lang directory whose LM is inside the lattices."""
    return sample / "data" / "lang_tg"


@pytest.fixture(scope="session")
def decode(sample) -> Path:
    """A decode directory of two jobs."""
    return sample / "exp" / "chain" / "tdnn" / "decode_dev_tg"


@pytest.fixture(scope="session")
def make_lm(lang, tmp_path_factory):
    """Return a function that makes the directory of a random model whose costs vary much."""

    def make(seed: int = 0, model: str = "lstm", backward: bool = False) -> Path:
        torch.manual_seed(seed)
        words = Vocabulary.read(lang / "words.txt")
        path = tmp_path_factory.mktemp("lm")
        symbols = words.bos, words.eos, words.unk
        lm = build(ModelConfig(model, len(words), *symbols, 8, 8, 1, heads=2, backward=backward))
        with torch.no_grad():
            for parameter in lm.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.5)
        save_lm(path, lm, {})
        shutil.copy(lang / "words.txt", path / "words.txt")
        return path

    return make


@pytest.fixture(scope="session")
def lm(make_lm) -> Path:
    """A small random LSTM over the lang directory's words."""
    return make_lm()
