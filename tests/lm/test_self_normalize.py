# SPDX-License-Identifier: Apache-2.0
"""Models that normalise themselves: what they pay for it, and how near their normalisers come to 1."""

from __future__ import annotations

import pytest
import torch

from kaldi_mpq.artefact import read_json
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.fit.run import fit_lm
from kaldi_mpq.fit.settings import FitSettings
from kaldi_mpq.lm.batches import PADDING
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.perplexity import corpus_batches, log_normalizer_spread
from kaldi_mpq.lm.train import train_lm
from kaldi_mpq.text.corpus import Corpus


def ln_z(model, corpus) -> torch.Tensor:
    """Return ln Z of every token, by the definition."""
    found = []
    with torch.no_grad():
        for batch in corpus_batches(model, corpus, 10_000, "utterance"):
            logits = model.logits(model(batch.inputs)[0]).double()
            found.append(logits.exp().sum(dim=-1).log()[batch.targets != PADDING])
    return torch.cat(found)


def test_squares_of_log_normalizers_are_added(kind, make_model, make_corpus):
    """The loss is cross entropy plus the weight times their mean; spread is what the definition says."""
    model, corpus = make_model(kind), make_corpus([3, 0, 6])
    (batch,) = corpus_batches(model, corpus, 10_000, "utterance")
    plain, _ = Objective(model)(batch, None)
    paid, _ = Objective(model, self_normalize=0.25)(batch, None)
    expected = ln_z(model, corpus)
    assert (paid - plain).item() == pytest.approx(0.25 * float(expected.square().mean()), rel=1e-4)
    spread = log_normalizer_spread(model, corpus)
    wanted = [expected.mean(), expected.std(unbiased=False), expected.abs().max()]
    assert list(spread.values()) == pytest.approx([float(value) for value in wanted], rel=1e-4)


@pytest.mark.parametrize("method", ["ste", "admm"])
def test_float_and_quantized_models_learn_to_normalise(settings, toy, tmp_path, method):
    """Trained with the setting, ln Z of both stays near 0 on held-out text, as ppl.json says; without, it does not."""
    dev = Corpus.load(toy / "dev.ids")
    plain, paid = settings(out=tmp_path / "plain"), settings(out=tmp_path / "paid", self_normalize=0.3)
    train_lm(plain)
    assert "ln Z" in train_lm(paid)
    usual = {"lm": paid.out, "data": toy, "bits": 4, "epochs": 1, "batch_tokens": 100, "threads": 1, "device": "cpu"}
    fit_lm(FitSettings(out=tmp_path / "fitted", method=method, self_normalize=0.3, **usual))
    sizes = {name: ln_z(load_lm(tmp_path / name), dev).square().mean().item() for name in ("plain", "paid", "fitted")}
    assert sizes["paid"] < 0.1 * sizes["plain"] and sizes["fitted"] < 0.1 * sizes["plain"]
    for name in ("paid", "fitted"):
        spread = read_json(tmp_path / name / "ppl.json")["dev"]["log_normalizer"]
        assert spread["mean"] ** 2 + spread["deviation"] ** 2 == pytest.approx(sizes[name], rel=1e-2)
    assert "log_normalizer" not in read_json(plain.out / "ppl.json")["dev"]


def test_a_negative_weight_is_refused(settings):
    """It would push normalisers away from 1."""
    with pytest.raises(ConfigError, match="self_normalize"):
        settings(self_normalize=-0.1)
