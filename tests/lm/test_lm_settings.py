# SPDX-License-Identifier: Apache-2.0
"""Settings out of range are refused, and those of the recipes are good."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.lm.settings import OptimSettings, TrainSettings
from kaldi_mpq.settings import build as build_settings
from kaldi_mpq.settings import read_yaml

CONFIGS = sorted(Path(__file__).resolve().parents[2].glob("recipes/*/conf/lm/*.yaml"))


@pytest.mark.parametrize(
    "changed",
    [
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"epochs": 0},
        {"batch_tokens": -1},
        {"window": 0},
        {"patience": 0},
        {"validate_every": 0.0},
        {"label_smoothing": 1.0},
        {"final_rate": -0.1},
        {"momentum": 1.0},
        {"weight_decay": -1e-3},
        {"warmup_steps": -1},
        {"clip": -1.0},
        {"seed": -1},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(changed):
    """The error names the setting."""
    with pytest.raises(ConfigError, match=f"bad value for {next(iter(changed))}"):
        OptimSettings(**changed)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parents[2].name}-{path.stem}")
def test_the_recipes_settings_are_good(path):
    """Each YAML file of a recipe has known keys and good values, and makes a model."""
    settings = build_settings(TrainSettings, read_yaml(path), where=path)
    shape = {name: getattr(settings, name) for name in ("model", "layers", "heads", "norm", "tied", "dropout")}
    dims = {"embedding_dim": settings.embedding_dim, "hidden_dim": settings.hidden_dim}
    model = build(ModelConfig(vocab_size=10, bos=8, eos=9, unk=7, **shape, **dims))
    assert model.config.layers == settings.layers
