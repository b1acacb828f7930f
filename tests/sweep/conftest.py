# SPDX-License-Identifier: Apache-2.0
"""A small language, a float LM of it, and sweeps of a few cells."""

import pytest

from kaldi_mpq.settings import build
from kaldi_mpq.sweep.settings import SweepSettings
from tests.search.tiny import make_data, make_lm

QUICK = {
    "search": {"sample_tokens": 200, "plot": False, "train_tokens": 300, "epochs": 1, "learning_rate": 0.005},
    "fits": {
        "ste": {"method": "ste", "epochs": 1, "batch_tokens": 300, "warmup_steps": 5},
        "round": {"method": "round"},
    },
    "seeds": [1],
    "device": "cpu",
}


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory):
    """A directory as ``mpq text`` writes it."""
    return make_data(tmp_path_factory.mktemp("toy_text"))


@pytest.fixture(scope="session")
def toy_lm(toy_data, tmp_path_factory):
    """The directory of a trained float LSTM."""
    return make_lm(toy_data, tmp_path_factory.mktemp("toy_exp") / "float")


@pytest.fixture
def sweep_of(toy_lm, toy_data, tmp_path):
    """Return a function from cells and options to the settings of a sweep into ``tmp_path / "out"``."""

    def make(*cells, **options):
        search = {**QUICK["search"], **options.pop("search", {})}
        values = {"lm": toy_lm, "data": toy_data, "out": tmp_path / "out", **QUICK, "cells": cells, **options}
        return build(SweepSettings, {**values, "search": search})

    return make
