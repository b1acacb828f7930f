# SPDX-License-Identifier: Apache-2.0
"""``mpq fit --activation-bits``: weights and activations on grids together."""

from __future__ import annotations

import pytest
import torch

from kaldi_mpq.artefact import read_json
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.fit.run import fit_lm
from kaldi_mpq.fit.settings import FitSettings
from kaldi_mpq.lm.activation_grid import ActivationGrid
from kaldi_mpq.lm.kaldi_rnnlm.exporter import export_kaldi_rnnlm
from kaldi_mpq.lm.perplexity import perplexity
from kaldi_mpq.lm.settings import ExportSettings, TrainSettings
from kaldi_mpq.lm.train import train_lm
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.pack.settings import PackSettings
from kaldi_mpq.pack.write import pack_lm
from kaldi_mpq.text.corpus import Corpus

QUICK = {"batch_tokens": 400, "warmup_steps": 5, "threads": 1, "device": "cpu", "epochs": 1, "learning_rate": 0.01}


@pytest.fixture(scope="module", params=["lstm", "transformer"])
def trained(request, float_lm, data, tmp_path_factory):
    """A float LM of each architecture."""
    if request.param == "lstm":
        return float_lm
    out = tmp_path_factory.mktemp("exp") / "transformer"
    shape = {"model": "transformer", "embedding_dim": 16, "hidden_dim": 24, "heads": 2, "layers": 2, "dropout": 0.0}
    train_lm(TrainSettings(out=out, data=data, **shape, **{**QUICK, "epochs": 5}))
    return out


def fit(lm, data, out, **options) -> float:
    """Fit with quick settings; return dev perplexity."""
    fit_lm(FitSettings(**{"lm": lm, "out": out, "data": data, "bits": 4, **QUICK, **options}))
    return read_json(out / "ppl.json")["dev"]["perplexity"]


def test_training_makes_up_for_coarse_activations(trained, data, tmp_path):
    """With 2-bit activations rounding alone loses more than training does, distilled from the float model or not."""
    rounded = fit(trained, data, tmp_path / "round", method="round", activation_bits=2)
    assert fit(trained, data, tmp_path / "ste", activation_bits=2) < rounded
    assert fit(trained, data, tmp_path / "taught", activation_bits=2, distill_weight=0.7) < rounded


def test_a_packed_model_sees_what_the_fitted_one_saw(trained, data, tmp_path):
    """The file says how activations are seen and holds the clips: same perplexity, same logits, clips that learned."""
    reported = fit(trained, data, tmp_path / "fit", activation_bits=4)
    pack_lm(PackSettings(tmp_path / "fit", tmp_path / "packed" / "model.mpq"))
    model = open_lm(tmp_path / "packed" / "model.mpq")
    assert model.config.activation_bits == 4
    assert perplexity(model, Corpus.load(data / "dev.ids")).value == pytest.approx(reported, rel=1e-6)
    clips = [grid.clip.item() for grid in model.modules() if isinstance(grid, ActivationGrid) and grid.clip is not None]
    assert clips and all(0 < clip != 1.0 for clip in clips)
    words = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        seen = model(words)[0]
        for module in model.modules():
            if isinstance(module, ActivationGrid):
                module.largest = 2**14  # as good as float: the grids did matter
        assert not torch.allclose(model(words)[0], seen, atol=1e-4)


def test_kaldi_has_no_such_networks(float_lm, data, tmp_path):
    """An LSTM with activations on a grid is not exported as one without."""
    fit(float_lm, data, tmp_path / "fit", method="round", activation_bits=4)
    with pytest.raises(ConfigError, match="activations"):
        export_kaldi_rnnlm(ExportSettings(tmp_path / "fit", tmp_path / "rnnlm"))
