# SPDX-License-Identifier: Apache-2.0
"""A model seen through its grids: values, gradients, several widths in one matrix, and back to plain tensors."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from kaldi_mpq.errors import PrecisionError
from kaldi_mpq.precision import PrecisionMap, Unit
from kaldi_mpq.quant.fake_quant import attach, plain_tensors, quantized_units
from kaldi_mpq.quant.granularity import Granularity

GRANULARITIES = [Granularity("row"), Granularity("tensor"), Granularity("block", 4)]
GATES = [Unit(f"gates.{name}", "gates.weight", 3 * i, 3 * i + 3, 6) for i, name in enumerate("ifgo")]
UNITS = [Unit("embedding", "embedding.weight", 0, 10, 6), *GATES]
MIXED = PrecisionMap({"embedding": 8, "gates.i": 1, "gates.f": 2, "gates.g": 2, "gates.o": 32})


class Small(nn.Module):
    """An embedding that is also the output layer, and one matrix of four gates."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 6)
        self.gates = nn.Linear(6, 12)

    def forward(self, words):
        """(N,) words -> (N, 10) logits."""
        i, f, g, o = self.gates(self.embedding(words)).chunk(4, dim=1)
        hidden = torch.cat([i * f, g * o], dim=1)
        return hidden @ self.embedding.weight.t()


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
def test_each_unit_has_its_own_width(granularity):
    """What the model computes with are the units' grid values; a 32-bit unit is untouched."""
    model = Small()
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attach(model, UNITS, MIXED, granularity)
    quantized = quantized_units(model)
    assert {name: unit.bits for name, unit in quantized.items()} == {
        "embedding": 8,
        "gates.i": 1,
        "gates.f": 2,
        "gates.g": 2,
    }
    for unit in UNITS:
        rows = weights(model)[unit.parameter][unit.start : unit.stop]
        if unit.name in quantized:
            # quantized() rounds the scales to float16
            assert torch.allclose(rows, quantized[unit.name].values(), rtol=2e-3)
            assert quantized[unit.name].scales.shape == granularity.shape(unit.stop - unit.start, unit.columns)
        else:
            assert torch.equal(rows, plain[unit.parameter][unit.start : unit.stop])


def weights(model):
    """The matrices as the model computes with them."""
    return {"embedding.weight": model.embedding.weight, "gates.weight": model.gates.weight}


def test_state_goes_back_to_plain_names():
    """After `attach` the float tensors are found under the old names, and only they."""
    model = Small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attach(model, UNITS, MIXED, Granularity())
    after = plain_tensors(model.state_dict())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
def test_training_moves_weights_and_scales(granularity):
    """A few steps of Adam lower the loss of the rounded model; every scale parameter gets a gradient."""
    torch.manual_seed(3)
    model = Small()
    attach(model, UNITS, PrecisionMap.uniform([unit.name for unit in UNITS], 2), granularity)
    scales = {name: value for name, value in model.named_parameters() if name.endswith("log_scale")}
    start = {name: value.detach().clone() for name, value in scales.items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    words, targets = torch.arange(10), torch.arange(10).roll(1)
    losses = []
    for _ in range(60):
        with parametrize.cached():
            loss = nn.functional.cross_entropy(model(words), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert scales and all((value != start[name]).any() for name, value in scales.items())


def test_neighbours_of_one_width_are_rounded_together():
    """Four gates of one width are one run (the fast path); of mixed widths as many as there are changes."""
    model = Small()
    attach(model, UNITS, PrecisionMap.uniform([unit.name for unit in UNITS], 4), Granularity("tensor"))
    assert len(model.gates.parametrizations.weight[0].runs) == 1
    other = Small()
    attach(other, UNITS, MIXED, Granularity("tensor"))
    assert len(other.gates.parametrizations.weight[0].runs) == 3


def test_float_widths_leave_a_matrix_alone():
    """A matrix whose units are all 16 or 32 bits has no parametrization."""
    model = Small()
    attach(
        model, UNITS, PrecisionMap({**dict.fromkeys((unit.name for unit in GATES), 16), "embedding": 4}), Granularity()
    )
    assert parametrize.is_parametrized(model.embedding, "weight")
    assert not parametrize.is_parametrized(model.gates)


def test_a_parameter_held_twice_is_refused():
    """Tying by sharing the Parameter object would leave one user without the grid."""
    model = Small()
    model.output = nn.Linear(6, 10, bias=False)
    model.output.weight = model.embedding.weight
    with pytest.raises(ValueError, match="held by 2 modules"):
        attach(model, UNITS, MIXED, Granularity())


def test_a_map_that_does_not_fit_is_refused():
    """Unknown and missing units are named."""
    with pytest.raises(PrecisionError, match=r"gates\.x"):
        attach(Small(), UNITS, PrecisionMap({"gates.x": 2}), Granularity())


def test_rows_of_zeros_can_be_trained():
    """A row of zeros (never seen words) starts with a positive scale, not with NaN."""
    model = Small()
    with torch.no_grad():
        model.embedding.weight[0] = 0.0
    attach(model, UNITS, PrecisionMap.uniform([unit.name for unit in UNITS], 4), Granularity())
    assert torch.isfinite(model(torch.tensor([0, 1]))).all()
    model(torch.tensor([0, 1])).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
