# SPDX-License-Identifier: Apache-2.0
"""Scores of the prefix tree against each hypothesis scored on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.rescore.tree_scores import score_hypotheses

V, BOS, EOS = 37, 35, 36


def tiny(kind: str):
    """Return a small random model of each architecture."""
    torch.manual_seed(3)
    shapes = {
        "lstm": {"model": "lstm", "hidden_dim": 12, "layers": 2},
        "lstm-projected": {"model": "lstm", "hidden_dim": 20, "layers": 1},
        "transformer-pre": {"model": "transformer", "hidden_dim": 16, "layers": 2, "heads": 3},
        "transformer-post": {"model": "transformer", "hidden_dim": 16, "layers": 2, "heads": 2, "norm": "post"},
    }
    config = ModelConfig(vocab_size=V, bos=BOS, eos=EOS, unk=1, embedding_dim=12, **shapes[kind])
    return build(config).eval()


def one_by_one(model, sentence: list[int]) -> list[float]:
    """Return the costs of a sentence's words and end from one forward pass over it."""
    inputs = torch.tensor([[BOS, *sentence]])
    with torch.no_grad():
        logps = functional.log_softmax(model.logits(model(inputs)[0]), dim=-1)[0]
    return [-float(logps[i, word]) for i, word in enumerate([*sentence, EOS])]


@pytest.mark.parametrize("kind", ["lstm", "lstm-projected", "transformer-pre", "transformer-post"])
@pytest.mark.parametrize("batch_tokens", [1, 17, 100_000])
def test_tree_gives_the_scores_of_single_sentences(kind, batch_tokens):
    """However the tree is cut into batches, every word costs what it costs in a pass over its sentence alone."""
    rng = np.random.default_rng(0)
    lattice_sizes = [3, 0, 5, 1, 8]
    sentences = [rng.integers(1, 5, rng.integers(0, 7)).tolist() for _ in range(sum(lattice_sizes))]
    offsets = np.cumsum([0, *map(len, sentences)])
    words = np.array([word for sentence in sentences for word in sentence], np.int32)
    model = tiny(kind)
    costs = score_hypotheses(model, np.cumsum([0, *lattice_sizes]), offsets, words, batch_tokens)
    for p, sentence in enumerate(sentences):
        got = [*costs.word[offsets[p] : offsets[p + 1]], costs.final[p]]
        np.testing.assert_allclose(got, one_by_one(model, sentence), atol=1e-4)


def test_shared_prefixes_are_evaluated_once():
    """Ten copies of a sentence cost as many evaluations as one."""
    model = tiny("lstm")
    words = np.tile(np.array([4, 5, 6], np.int32), 10)
    costs = score_hypotheses(model, np.array([0, 10]), np.arange(0, 31, 3), words, 1000)
    assert costs.evaluations == 4
