# SPDX-License-Identifier: Apache-2.0
"""Cheap normalisers of packed models against exact ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kaldi_mpq.lm.normalizer import make_normalizer
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.rescore.tree_scores import score_hypotheses
from tests.pack.random_models import sentences, write_random

CONFIG = {"embedding_dim": 24, "hidden_dim": 24, "layers": 1}


@pytest.mark.parametrize("model", ["lstm", "transformer"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_scores_stay_near_the_exact_ones(tmp_path, model, bits):
    """Whatever the width of the words: costs differ by what 8-bit histories do, and do differ."""
    path = write_random(tmp_path / "model.mpq", {**CONFIG, "model": model, "heads": 2}, (bits, 2))
    exact, cheap = (
        score_hypotheses(open_lm(path, "packed", denominator), *sentences(), 8192) for denominator in ("exact", "cheap")
    )
    difference = np.abs(cheap.word - exact.word)
    assert difference.max() < 0.1
    assert np.sqrt(np.mean(difference**2)) < 0.03
    assert (difference.max() > 0) == (bits <= 8)  # words in floats meet histories in floats


def test_single_logits_are_exact(tmp_path):
    """Only the denominator is cheap: logits of words that are asked for have the same bits."""
    path = write_random(tmp_path / "model.mpq", {**CONFIG, "model": "lstm"}, (8,))
    hidden, rows, words = torch.randn(5, 24), torch.arange(33) % 5, torch.arange(33)
    exact, cheap = (make_normalizer(open_lm(path, "packed", denominator)) for denominator in ("exact", "cheap"))
    assert torch.equal(exact.logits(hidden, rows, words), cheap.logits(hidden, rows, words))
    assert not torch.equal(exact.log_normalizer(hidden), cheap.log_normalizer(hidden))
