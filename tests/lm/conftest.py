# SPDX-License-Identifier: Apache-2.0
"""Small models of every kind, and a language small enough to learn in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kaldi_mpq.lm.model import LanguageModel, ModelConfig, build
from kaldi_mpq.lm.settings import TrainSettings
from kaldi_mpq.text.corpus import Corpus
from kaldi_mpq.text.prepare import prepare_text
from kaldi_mpq.text.settings import TextSettings

VOCABULARY, UNK, BOS, EOS = 23, 20, 21, 22
SHAPES = {
    "lstm": {"model": "lstm", "embedding_dim": 8, "hidden_dim": 8, "layers": 2},
    "lstm-projected": {"model": "lstm", "embedding_dim": 6, "hidden_dim": 10, "layers": 2, "tied": False},
    "lstm-peephole": {
        "model": "lstm",
        "embedding_dim": 8,
        "hidden_dim": 8,
        "layers": 2,
        "projected": True,
        "peephole": True,
    },
    "transformer-pre": {"model": "transformer", "embedding_dim": 12, "hidden_dim": 10, "layers": 2, "heads": 3},
    "transformer-post": {
        "model": "transformer",
        "embedding_dim": 8,
        "hidden_dim": 12,
        "layers": 2,
        "heads": 2,
        "norm": "post",
        "tied": False,
    },
}


@pytest.fixture(params=SHAPES)
def kind(request) -> str:
    """Each kind of model in turn."""
    return request.param


@pytest.fixture
def make_model():
    """Return a function from a kind to a random model, all of whose weights matter."""

    def make(kind: str, **changed) -> LanguageModel:
        torch.manual_seed(3)
        model = build(ModelConfig(vocab_size=VOCABULARY, bos=BOS, eos=EOS, unk=UNK, **{**SHAPES[kind], **changed}))
        with torch.no_grad():
            for parameter in model.parameters():  # biases start at 0, norms at 1: neither would show a mistake
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_corpus():
    """Return a function that makes a random corpus of utterances of given lengths."""

    def make(lengths, conversations=None, seed: int = 0) -> Corpus:
        offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
        words = np.random.default_rng(seed).integers(1, UNK, int(offsets[-1])).astype(np.int32)
        numbers = np.zeros(len(lengths)) if conversations is None else np.asarray(conversations)
        return Corpus(words, offsets, numbers.astype(np.int32))

    return make


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """A directory as ``mpq text`` writes it: 14 meetings of 10 utterances, in which each word has two successors."""
    place = tmp_path_factory.mktemp("toy")
    generator = np.random.default_rng(0)
    symbols = ["<eps>", *(f"w{i}" for i in range(1, UNK)), "<unk>", "<s>", "</s>"]
    (place / "words.txt").write_text("".join(f"{word} {i}\n" for i, word in enumerate(symbols)))
    for name, meetings in (("train", 14), ("dev", 4)):
        lines = []
        for meeting in range(meetings):
            for number in range(10):
                words, last = [], 0
                for _ in range(int(generator.integers(2, 9))):
                    last = (5 * last + int(generator.integers(0, 2)) + 1) % (UNK - 1)
                    words.append(f"w{last + 1}")
                lines.append(f"m{meeting}-{number} {' '.join(words)}\n")
        (place / name).write_text("".join(lines))
    prepare_text(TextSettings(place / "lm", place / "words.txt", place / "train", place / "dev"))
    return place / "lm"


@pytest.fixture
def settings(toy, tmp_path):
    """Return a function that makes training settings of a small model, a second's work."""
    small = {
        "embedding_dim": 12,
        "hidden_dim": 12,
        "layers": 1,
        "heads": 2,
        "dropout": 0.1,
        "learning_rate": 0.02,
        "warmup_steps": 5,
        "epochs": 3,
        "batch_tokens": 100,
        "window": 10,
        "threads": 1,
        "device": "cpu",
    }

    def make(**changed) -> TrainSettings:
        return TrainSettings(**{"out": tmp_path / "lm", "data": toy, **small, **changed})

    return make
