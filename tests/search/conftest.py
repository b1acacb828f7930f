# SPDX-License-Identifier: Apache-2.0
"""Random models of every kind, too small to take time, and a float LM that has learned a small language."""

import numpy as np
import pytest
import torch

from kaldi_mpq.lm.model import build
from kaldi_mpq.lm.perplexity import corpus_batches
from kaldi_mpq.text.corpus import Corpus
from tests.search.tiny import make_data, make_lm

SHAPES = {
    "lstm": {"model": "lstm", "embedding_dim": 4, "hidden_dim": 4, "layers": 2},
    "lstm-untied": {"model": "lstm", "embedding_dim": 3, "hidden_dim": 5, "layers": 2, "tied": False},
    "lstm-peephole": {"model": "lstm", "embedding_dim": 4, "hidden_dim": 3, "layers": 1, "peephole": True},
    "transformer": {"model": "transformer", "embedding_dim": 4, "hidden_dim": 6, "layers": 2, "heads": 2},
    "transformer-post": {
        "model": "transformer",
        "embedding_dim": 4,
        "hidden_dim": 5,
        "layers": 1,
        "heads": 1,
        "norm": "post",
        "tied": False,
    },
}
WORDS = 11


@pytest.fixture(params=SHAPES)
def kind(request):
    """Each kind of model in turn."""
    return request.param


@pytest.fixture(scope="session")
def make_model():
    """Return a function from a kind to a random model in which every weight matters."""

    def make(kind="lstm", **changed):
        torch.manual_seed(5)
        config = {"vocab_size": WORDS, "bos": 9, "eos": 10, "unk": 8, **SHAPES[kind], **changed}
        model = build(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_batches():
    """Return a function from a model to batches of random text."""

    def make(model, context="utterance", batch_tokens=12):
        lengths = [3, 4, 1, 3, 2, 2]
        offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
        words = np.random.default_rng(0).integers(1, 8, int(offsets[-1])).astype(np.int32)
        corpus = Corpus(words, offsets, np.array([0, 0, 1, 1, 1, 2], np.int32))
        return list(corpus_batches(model, corpus, batch_tokens, context))

    return make


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory):
    """A directory as ``mpq text`` writes it."""
    return make_data(tmp_path_factory.mktemp("toy_text"))


@pytest.fixture(scope="session")
def toy_lm(toy_data, tmp_path_factory):
    """The directory of a trained float LSTM."""
    return make_lm(toy_data, tmp_path_factory.mktemp("toy_exp") / "float")
