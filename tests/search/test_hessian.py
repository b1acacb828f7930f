# SPDX-License-Identifier: Apache-2.0
"""Estimated traces beside those of the dense Hessian of small models."""

import math

import pytest
import torch
from torch.nn import functional

from kaldi_mpq.errors import NumericalError
from kaldi_mpq.lm.batches import PADDING
from kaldi_mpq.search.hessian import Trace, estimate_traces
from kaldi_mpq.search.units import groups_of


def dense_traces(model, groups, batches):
    """Return the trace of each group's block, every second derivative taken on its own."""
    parameters = dict(model.named_parameters())
    logits, targets = [], []
    for batch in batches:
        counted = batch.targets != PADDING
        logits.append(model.logits(model(batch.inputs)[0][counted]))
        targets.append(batch.targets[counted])
    loss = functional.cross_entropy(torch.cat(logits), torch.cat(targets))
    diagonal = {}
    for name in {unit.parameter for group in groups for unit in group.units}:
        (gradient,) = torch.autograd.grad(loss, [parameters[name]], create_graph=True)
        second = [
            torch.autograd.grad(gradient.flatten()[i], [parameters[name]], retain_graph=True)[0].flatten()[i]
            for i in range(gradient.numel())
        ]
        diagonal[name] = torch.stack(second).view_as(gradient)
    return {
        group.name: sum(float(diagonal[unit.parameter][unit.start : unit.stop].sum()) for unit in group.units)
        for group in groups
    }


def check_traces(model, groups, batches, distribution):
    """Compare estimated traces with those of the dense Hessian."""
    expected = dense_traces(model, groups, batches)
    found = estimate_traces(model, groups, batches, probes=60, distribution=distribution, seed=3)
    for group in groups:
        trace = found[group.name]
        assert trace.probes == 60
        assert abs(trace.value - expected[group.name]) <= 5 * trace.standard_error + 1e-6
    assert any(trace.standard_error < 0.3 * abs(trace.value) for trace in found.values())


def test_estimates_agree_with_the_dense_hessian(kind, make_model, make_batches):
    """Every trace is within five of its own standard errors, for units of every kind of model."""
    model = make_model(kind, layers=1)
    units = groups_of(model, "gate")
    check_traces(
        model,
        [units[0], units[1], units[len(units) // 2], units[-1]],
        make_batches(model, batch_tokens=100)[:1],
        "rademacher",
    )


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_groups_of_units_have_one_trace(distribution, make_model, make_batches):
    """A gate with both its matrices, a whole sub-layer: the sum over its units, under either distribution."""
    for kind in ("lstm", "transformer"):
        model = make_model(kind, layers=1)
        check_traces(model, groups_of(model, "sublayer")[:3], make_batches(model, batch_tokens=100)[:1], distribution)


def test_the_loss_is_the_mean_over_all_batches(make_model, make_batches):
    """Cut into other batches, the same text has the same traces, probe by probe."""
    model = make_model("transformer")
    groups = groups_of(model, "gate")[:3]
    one, many = (
        estimate_traces(model, groups, make_batches(model, batch_tokens=size), probes=4, seed=1) for size in (100, 7)
    )
    for group in groups:
        assert one[group.name].value == pytest.approx(many[group.name].value, rel=1e-3, abs=1e-6)


def test_probes_stop_when_the_error_is_small_enough(make_model, make_batches):
    """A loose tolerance takes fewer probes than a strict one, never fewer than eight, never more than allowed."""
    model = make_model()
    batches, groups = make_batches(model), groups_of(model, "matrix")[:2]
    loose = estimate_traces(model, groups, batches, probes=40, tolerance=1e9)
    strict = estimate_traces(model, groups, batches, probes=40, tolerance=1e-9)
    assert {trace.probes for trace in loose.values()} == {8}
    assert {trace.probes for trace in strict.values()} == {40}


def test_an_interrupted_estimate_goes_on_to_the_same_numbers(make_model, make_batches):
    """What was saved after some groups, given back, leads to what an undisturbed run finds."""
    model = make_model()
    batches, groups = make_batches(model), groups_of(model, "matrix")
    saved = []
    whole = estimate_traces(
        model, groups, batches, probes=9, after_group=lambda rows: saved.append({k: list(v) for k, v in rows.items()})
    )
    assert estimate_traces(model, groups, batches, probes=9, done=saved[1]) == whole
    assert len(saved) == len(groups)


def test_noise_does_not_make_a_part_harmless():
    """Below its standard error, a trace counts as that; above, as itself."""
    assert Trace.of([-3.0, 1.0]).safe == Trace.of([-3.0, 1.0]).standard_error > 0
    assert Trace.of([5.0, 5.5]).safe == 5.25


def test_a_model_that_is_not_finite_is_named(make_model, make_batches):
    """An infinite second derivative is an error with the unit's name."""
    model = make_model()
    batches = make_batches(model)
    model.output.bias.data[0] = math.nan
    with pytest.raises(NumericalError, match="embedding"):
        estimate_traces(model, groups_of(model, "gate"), batches, probes=2)
