# SPDX-License-Identifier: Apache-2.0
"""The divergence of a model with a part changed, beside its definition in double precision."""

import copy

import pytest
import torch

from kaldi_mpq.lm.batches import PADDING
from kaldi_mpq.lm.perplexity import carry
from kaldi_mpq.pack.prototypes import swapped
from kaldi_mpq.search import kl
from kaldi_mpq.search.kl import DivergenceMeter


def log_probabilities(model, batches):
    """Return (M, V) float64 log-probabilities and (M,) targets of all batches, states carried from the float model."""
    model = copy.deepcopy(model).double()
    found, targets = [], []
    with torch.no_grad():
        for batch in batches:
            counted = batch.targets != PADDING
            found.append(torch.log_softmax(model.logits(model(batch.inputs)[0][counted]), dim=1))
            targets.append(batch.targets[counted])
    return torch.cat(found), torch.cat(targets)


def definition(model, values, batches):
    """Return the equations of the module as they are written."""
    before, targets = log_probabilities(model, batches)
    with swapped(model, values):
        after, _ = log_probabilities(model, batches)
    p = before.exp()
    own = before.gather(1, targets[:, None]) - after.gather(1, targets[:, None])
    word = p.gather(1, targets[:, None]) * own
    return float((p * (before - after)).sum() / len(targets)), float(word.sum() / len(targets))


@pytest.mark.parametrize("size", [1e-3, 0.1, 2.0])
def test_it_is_the_definition(kind, size, make_model, make_batches):
    """For every unit, whether its change is tiny or large, to six digits (a tiny one to three)."""
    model = make_model(kind)
    batches = make_batches(model)
    meter = DivergenceMeter(model, batches)
    for unit in model.units():
        rows = model.state_dict()[unit.parameter][unit.start : unit.stop]
        values = {unit: rows + size * torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))}
        found = meter.measure(values)
        vocabulary, word = definition(model, values, batches)
        assert found.vocabulary == pytest.approx(vocabulary, rel=1e-3 if size < 0.01 else 1e-4, abs=1e-11)
        assert found.word == pytest.approx(word, rel=1e-2, abs=1e-7)
        assert found.vocabulary >= 0


def test_nothing_changed_is_no_divergence_and_the_model_is_as_before(make_model, make_batches):
    """Equal weights give 0, and a measurement leaves every weight as it was."""
    model = make_model("transformer")
    before = copy.deepcopy(model.state_dict())
    meter = DivergenceMeter(model, make_batches(model))
    unit = model.units()[2]
    rows = model.state_dict()[unit.parameter][unit.start : unit.stop].clone()
    assert meter.measure({unit: rows}).vocabulary == 0
    assert meter.measure({unit: rows + 1}).vocabulary > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_remembered_prefixes_and_kept_logits_change_nothing(kind, make_model, make_batches, monkeypatch):
    """With and without them, and in blocks of other sizes, the same numbers."""
    model = make_model(kind)
    batches = make_batches(model)
    unit = model.units()[-1]
    values = {unit: torch.ones(unit.stop - unit.start, unit.columns)}
    expected = DivergenceMeter(model, batches).measure(values)
    plain = DivergenceMeter(model, batches, prefixes=False).measure(values)
    monkeypatch.setattr(kl, "_KEPT_BYTES", 0)
    monkeypatch.setattr(kl, "_BLOCK", 3)
    again = DivergenceMeter(model, batches).measure(values)
    for other in (plain, again):
        assert other.vocabulary == pytest.approx(expected.vocabulary, rel=1e-5)
        assert other.word == pytest.approx(expected.word, rel=1e-4, abs=1e-7)


def test_a_change_beyond_the_range_of_exp_is_still_measured(make_model, make_batches):
    """Logits that move by thousands give a large finite divergence."""
    model = make_model("lstm-untied")
    unit = next(unit for unit in model.units() if unit.parameter == "output.weight")
    found = DivergenceMeter(model, make_batches(model)).measure({unit: 3000 * torch.randn(unit.stop, unit.columns)})
    assert 100 < found.vocabulary < 1e6


def test_conversations_carry_the_float_models_state(make_model, make_batches):
    """In conversations every window starts from what the float model has left, so nothing changed is still 0."""
    model = make_model("lstm")
    batches = make_batches(model, "conversation")
    state = None
    for batch in batches:
        _, state = model(batch.inputs, carry(model, state, batch.fresh))
    meter = DivergenceMeter(model, batches)
    unit = model.units()[1]
    assert meter.measure({unit: model.state_dict()[unit.parameter][unit.start : unit.stop].clone()}).vocabulary == 0
    assert any(bool(recording.state is not None) for recording in meter.recordings)
