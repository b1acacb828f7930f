# SPDX-License-Identifier: Apache-2.0
"""The package diffq within our budget: the file on disk counts, and is what was measured."""

import pickle
import sys

import pytest
import torch

from kaldi_mpq.artefact import read_json
from kaldi_mpq.cli.main import main
from kaldi_mpq.errors import ConfigError, PrecisionError
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.lm.model import build
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.perplexity import perplexity
from kaldi_mpq.search.run import search_bits
from kaldi_mpq.text.corpus import Corpus
from tests.search.tiny import interrupt_at, settings_of

BUDGET = 12_000  # the package pads to blocks of 2,048 weights, so that so small an LM has no small file


def needs_diffq():
    """Skip where the optional package is not installed."""
    return pytest.importorskip("diffq", reason="the extra [diffq] is not installed")


def run(lm, data, out, **options):
    """Run the search and return what it wrote of itself."""
    search_bits(settings_of(lm, data, out, **{"method": "diffq", "budget": BUDGET, "epochs": 1, **options}))
    return read_json(out / "search.json")


def test_the_package_is_named_where_it_is_absent(toy_lm, toy_data, tmp_path, monkeypatch, capsys):
    """One line says what to install, and nothing has been trained."""
    monkeypatch.setitem(sys.modules, "diffq", None)
    with pytest.raises(ConfigError, match=r"pip install diffq==0\.2\.4"):
        run(toy_lm, toy_data, tmp_path / "out")
    words = ["search", "--method", "diffq", "--budget", "12000", "--data", str(toy_data), str(toy_lm)]
    assert main([*words, str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_its_file_is_within_the_budget_and_holds_what_was_measured(toy_lm, toy_data, tmp_path):
    """The packed state on disk gives back, through the package alone, the perplexity in ppl.json."""
    diffq = needs_diffq()
    found = run(toy_lm, toy_data, tmp_path)
    size = (tmp_path / "model.diffq").stat().st_size
    assert size == found["bytes"] == read_json(tmp_path / "size.json")["bytes"] <= found["budget"]
    assert found["bits"] == {}
    assert not (tmp_path / "precision.json").exists()
    model = build(load_lm(toy_lm).config)
    state = pickle.loads((tmp_path / "model.diffq").read_bytes())  # our own, a moment old
    diffq.restore_quantized_state(Objective(model), state)
    dev = Corpus.load(toy_data / "dev.ids")
    measured = read_json(tmp_path / "ppl.json")["dev"]["perplexity"]
    assert perplexity(model, dev).value == pytest.approx(measured, rel=1e-3)  # vectors are float16
    assert perplexity(load_lm(tmp_path), dev).value == pytest.approx(measured, rel=1e-6)
    float_perplexity = perplexity(load_lm(toy_lm), dev).value
    assert measured < 1.3 * float_perplexity


def test_more_bytes_mean_more_bits(toy_lm, toy_data, tmp_path):
    """The price of the size follows the budget."""
    needs_diffq()
    bits = [
        run(toy_lm, toy_data, tmp_path / str(budget), budget=budget)["nominal_mean_bits"] for budget in (10_000, 24_000)
    ]
    assert bits[0] + 1 < bits[1]


def test_an_interrupted_training_goes_on(toy_lm, toy_data, tmp_path, monkeypatch):
    """Ended in the middle, the same command leaves the same file; a finished one is not run again."""
    needs_diffq()
    whole = run(toy_lm, toy_data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, "diffq", 8)
        with pytest.raises(KeyboardInterrupt):
            run(toy_lm, toy_data, tmp_path / "broken", checkpoint_minutes=1e-9)
    assert not (tmp_path / "broken" / "model.diffq").exists()
    again = run(toy_lm, toy_data, tmp_path / "broken", checkpoint_minutes=1e-9)
    assert again["bytes"] == whole["bytes"]
    tensors = [load_lm(tmp_path / name).state_dict() for name in ("whole", "broken")]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    monkeypatch.setitem(sys.modules, "diffq", None)
    assert run(toy_lm, toy_data, tmp_path / "broken")["bytes"] == whole["bytes"]


def test_what_it_cannot_reach_is_refused(toy_lm, toy_data, tmp_path):
    """A budget below its fewest bits says what is possible; groups must divide every matrix."""
    needs_diffq()
    with pytest.raises(PrecisionError, match=r"too small for DiffQ, expected at least \d+ bytes.*diffq-min-bits"):
        run(toy_lm, toy_data, tmp_path, budget=5600)
    with pytest.raises(ConfigError, match="expected diffq_group"):
        run(toy_lm, toy_data, tmp_path, diffq_group=1024)
