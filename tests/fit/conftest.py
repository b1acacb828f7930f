# SPDX-License-Identifier: Apache-2.0
"""A language small enough to learn in seconds: text, and a float LM that has learned it."""

import numpy as np
import pytest

from kaldi_mpq.lm.settings import TrainSettings
from kaldi_mpq.lm.train import train_lm
from kaldi_mpq.text.prepare import prepare_text
from kaldi_mpq.text.settings import TextSettings

WORDS = 40
TRAINING = {"batch_tokens": 400, "warmup_steps": 10, "threads": 1, "device": "cpu"}


def write_text(path, utterances, generator):
    """A text in which each word has three likely successors."""
    lines = []
    for number in range(utterances):
        word, words = 0, []
        for _ in range(int(generator.integers(3, 9))):
            word = (7 * word + 3 * int(generator.integers(1, 4))) % WORDS
            words.append(f"w{word}")
        lines.append(f"meeting{number // 50:03d}-{number:05d} {' '.join(words)}\n")
    path.write_text("".join(lines))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A directory as ``mpq text`` writes it."""
    place = tmp_path_factory.mktemp("text")
    generator = np.random.default_rng(0)
    symbols = ["<eps>", *(f"w{i}" for i in range(WORDS)), "<unk>", "<s>", "</s>"]
    (place / "words.txt").write_text("".join(f"{word} {i}\n" for i, word in enumerate(symbols)))
    write_text(place / "train", 700, generator)
    write_text(place / "dev", 100, generator)
    prepare_text(TextSettings(place / "lm", place / "words.txt", place / "train", place / "dev"))
    return place / "lm"


@pytest.fixture(scope="session")
def float_lm(data, tmp_path_factory):
    """A trained float LSTM."""
    out = tmp_path_factory.mktemp("exp") / "float"
    shape = {"embedding_dim": 12, "hidden_dim": 16, "layers": 1, "dropout": 0.0}
    train_lm(TrainSettings(out=out, data=data, epochs=10, learning_rate=0.02, **shape, **TRAINING))
    return out
