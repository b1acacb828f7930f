# SPDX-License-Identifier: Apache-2.0
"""RNNLM directories, and Kaldi's own scores of sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.lm.imports import import_lm
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.settings import ImportSettings


@pytest.fixture
def imported(tmp_path):
    """Return a function that imports an RNNLM directory and returns our model."""

    def run(directory: Path, **options) -> LanguageModel:
        import_lm(ImportSettings(directory, tmp_path / "lm", **options))
        return load_lm(tmp_path / "lm")

    return run


@pytest.fixture(scope="session")
def our_scores():
    """Return a function from a model and sentences of ids to scores of each sentence's words and its end."""

    @torch.inference_mode()
    def score(model: LanguageModel, sentences: list[list[int]], normalize: bool) -> list[np.ndarray]:
        scores = []
        for sentence in sentences:
            hidden, _ = model(torch.tensor([[model.config.bos, *sentence]]))
            logits = model.logits(hidden[0]).double()
            logits = torch.log_softmax(logits, dim=1) if normalize else logits
            targets = torch.tensor([*sentence, model.config.eos])
            scores.append(logits.gather(1, targets[:, None])[:, 0].numpy())
        return scores

    return score


@pytest.fixture
def kaldi_scores(kaldi, tmp_path):
    """Return a function from an RNNLM directory and sentences of ids to rnnlm-sentence-probs' scores."""

    def score(directory: Path, sentences: list[list[int]], normalize: bool) -> list[np.ndarray]:
        text = tmp_path / "sentences"
        text.write_text("".join(f"u{i} {' '.join(map(str, words))}\n" for i, words in enumerate(sentences)))
        embedding = directory / "word_embedding.final.mat"
        if not embedding.exists():
            features = f"{directory}/word_feats.txt {directory}/feat_embedding.final.mat"
            embedding = f'"rnnlm-get-word-embedding {features} -|"'
        options = f"--normalize-probs={str(normalize).lower()} $(cat {directory}/special_symbol_opts.txt)"
        done = kaldi(f"rnnlm-sentence-probs {options} {directory}/final.raw {embedding} {text}")
        return [np.array(line.split()[1:], float) for line in done.stdout.decode().splitlines()]

    return score


@pytest.fixture(scope="session")
def assert_close():
    """Return a function that asserts that scores of each word agree to 1e-4."""

    def check(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
        assert [len(scores) for scores in ours] == [len(scores) for scores in theirs]
        # rnnlm-sentence-probs prints six digits: of a score beyond -100 the fifth decimal is not there.
        assert all(np.allclose(a, b, rtol=1e-6, atol=1e-4) for a, b in zip(ours, theirs, strict=True))

    return check
