# SPDX-License-Identifier: Apache-2.0
"""One step of the training loop: how far it goes, and which parameters it pulls where."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from kaldi_mpq.lm import train as loop
from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.settings import OptimSettings
from kaldi_mpq.lm.train import Trainer
from kaldi_mpq.text.corpus import Corpus

UNK, BOS, EOS = 20, 21, 22


def test_clipping_bounds_the_gradient(settings, toy):
    """A step of plain SGD is no longer than the rate times the bound; without a bound it is longer."""
    moved = {}
    for clip in (0.0, 0.01):
        chosen = settings(optimizer="sgd", momentum=0.0, learning_rate=1.0, clip=clip, warmup_steps=0, dropout=0.0)
        torch.manual_seed(1)
        model = build(ModelConfig("lstm", 23, BOS, EOS, UNK, embedding_dim=4, hidden_dim=4, layers=1))
        before = parameters_to_vector(model.parameters()).detach().clone()
        corpora = (Corpus.load(toy / f"{name}.ids") for name in ("train", "dev"))
        trainer = Trainer(Objective(model), chosen, *corpora, chosen.out)
        trainer._one_step(next(trainer._remaining()))
        moved[clip] = float((parameters_to_vector(model.parameters()).detach() - before).norm())
    assert moved[0.01] == pytest.approx(0.01, rel=1e-2)
    assert moved[0.0] > 0.02


def test_only_matrices_decay_and_parameters_may_scale_their_rate():
    """Biases and norms are not pulled to zero, and rate_factor makes a group of its own."""
    model = build(ModelConfig("lstm", 23, BOS, EOS, UNK, embedding_dim=4, hidden_dim=4, layers=1))
    model.output.bias.rate_factor = 0.5
    for name in ("adam", "sgd"):
        groups = loop.make_optimizer(Objective(model), OptimSettings(optimizer=name, weight_decay=0.1)).param_groups
        for group in groups:
            assert all((parameter.dim() > 1) == (group["weight_decay"] > 0) for parameter in group["params"])
        factors = {id(parameter): group["rate_factor"] for group in groups for parameter in group["params"]}
        assert len(factors) == len(list(model.parameters()))
        assert factors.pop(id(model.output.bias)) == 0.5
        assert set(factors.values()) == {1.0}
