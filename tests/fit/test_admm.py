# SPDX-License-Identifier: Apache-2.0
"""ADMM's three updates against their formulas, and the starting scale that the paper leaves open."""

import pytest
import torch

from kaldi_mpq.fit.admm import AdmmObjective
from kaldi_mpq.fit.extragradient import ExtraGradientObjective
from kaldi_mpq.lm.batches import Batch
from kaldi_mpq.lm.model import build
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.precision import PrecisionMap
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import to_codes

CONFIG = {
    "model": "lstm",
    "vocab_size": 9,
    "bos": 1,
    "eos": 2,
    "unk": 3,
    "embedding_dim": 6,
    "hidden_dim": 6,
    "layers": 1,
}


def make(bits=2, kind=AdmmObjective, model=None, **options):
    """An objective over a small LSTM."""
    torch.manual_seed(0)
    model = model or build(CONFIG)
    units = model.units()
    precision = PrecisionMap.uniform([unit.name for unit in units], bits)
    return kind(model, units, precision, Granularity(), **{"gamma": 0.1, "interval": 1, **options})


def batch():
    """Two sentences."""
    return Batch(torch.tensor([[1, 4, 5], [1, 6, 7]]), torch.tensor([[4, 5, 2], [6, 7, 2]]))


def snapshot(part):
    """Copies of a part's scale, dual variables and grid."""
    return part.scale.clone(), part.dual.clone(), part.grid.clone()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_it_starts_on_a_grid_that_is_not_all_zeros(bits):
    """With weights near 0.05 an alpha of 1 gives V = 0 and alpha = 0/0; the starting scale here gives neither."""
    for part in make(bits).parts:
        assert torch.isfinite(part.grid).all() and (part.scale > 0).all()
        assert (part.grid != 0).any(dim=1).all()


def test_the_loss_is_the_augmented_lagrangian():
    """F + gamma/2 ||Theta - Q + lambda||^2, with dual variables that are not 0."""
    objective = make()
    for part in objective.parts:
        part.update(part.anchor * 1.1, "sum")
    loss, _ = objective(batch(), None)
    plain, _ = Objective(objective.model)(batch(), None)
    distance = 0.0
    for part in objective.parts:
        rows = dict(objective.model.named_parameters())[part.unit.parameter][part.unit.start : part.unit.stop]
        distance += (rows - part.grid + part.dual).square().sum()
    assert torch.isclose(loss, plain + 0.05 * distance)


@pytest.mark.parametrize("projection", ["sum", "weights"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_updates_are_those_of_the_paper(bits, projection):
    """Scale and codes alternate as in (2), V from Theta + lambda or from Theta; lambda moves as in (3); row by row."""
    objective = make(bits, projection=projection)
    part = objective.parts[0]
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        weights = part.grid + 0.03 * torch.randn(part.grid.shape, generator=generator)
        alpha, dual, _ = snapshot(part)
        target = weights + dual
        source = target if projection == "sum" else weights
        for row in range(len(weights)):
            scale = alpha[row, 0]
            for _ in range(20):
                codes = to_codes(source[row], scale, bits).float()
                scale = (target[row] @ codes) / (codes @ codes) if codes.any() and target[row] @ codes > 0 else scale
            alpha[row, 0] = scale
        part.update(weights, projection)
        assert torch.allclose(part.scale, alpha, rtol=1e-4)
        # the grid holds float16 scales
        assert torch.allclose(part.grid, to_codes(source, part.scale, bits) * part.scale, rtol=2e-3, atol=1e-6)
        assert torch.allclose(part.dual, dual + weights - part.grid, atol=1e-6)


def test_dual_and_grid_are_updated_every_interval():
    """Nothing happens between."""
    objective = make(interval=3)
    before = [snapshot(part) for part in objective.parts]
    with torch.no_grad():
        for parameter in objective.model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    for step in (1, 2):
        objective.after_step(step)
        assert all(torch.equal(part.dual, old[1]) for part, old in zip(objective.parts, before))
    objective.after_step(3)
    assert all((part.dual != old[1]).any() for part, old in zip(objective.parts, before))


def test_training_brings_weights_towards_the_grid():
    """With a strong pull and plain descent, the distance from the grid falls by more than half."""
    objective = make(bits=2, gamma=5.0, interval=5)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.05)

    def distance():
        total = 0.0
        for part in objective.parts:
            rows = dict(objective.model.named_parameters())[part.unit.parameter][part.unit.start : part.unit.stop]
            total += float((rows - part.grid).square().sum().detach())
        return total

    before = distance()
    for step in range(1, 61):
        optimizer.zero_grad()
        objective(batch(), None)[0].backward()
        optimizer.step()
        objective.after_step(step)
    assert distance() < 0.5 * before


def test_validation_is_of_the_model_on_its_grid(tmp_path):
    """The perplexity that decides is that of the projected weights, and the weights are float again afterwards."""
    import numpy as np

    from kaldi_mpq.lm.perplexity import perplexity
    from kaldi_mpq.text.corpus import Corpus

    corpus = Corpus(np.array([4, 5, 6, 7, 8], np.int32), np.array([0, 2, 5]), np.zeros(2, np.int32))
    objective = make(1)
    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    value = objective.validate(corpus, 100, "utterance").value
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.model.state_dict().items())
    with torch.no_grad():
        for unit in objective.model.units():
            dict(objective.model.named_parameters())[unit.parameter][unit.start : unit.stop] = objective.quantized()[
                unit.name
            ].values()
    assert value == pytest.approx(perplexity(objective.model, corpus).value, rel=1e-6)


def test_an_extra_gradient_step_is_the_printed_one():
    """One step by the loop equals Theta - eta2 gradL(Theta - eta1 gradL(Theta)) by hand, for every parameter."""
    eta1, eta2 = 0.3, 0.2
    by_hand, ours = make(), make(kind=ExtraGradientObjective, eta1=eta1)
    parameters = list(by_hand.model.parameters())
    start = [parameter.detach().clone() for parameter in parameters]
    for length in (eta1, eta2):
        gradients = torch.autograd.grad(by_hand(batch(), None)[0], parameters)
        with torch.no_grad():
            for parameter, old, gradient in zip(parameters, start, gradients):
                parameter.copy_(old - length * gradient)
    optimizer = torch.optim.SGD(ours.parameters(), lr=eta2)
    ours.train()
    ours(batch(), None)[0].backward()
    optimizer.step()
    ours.after_step(99)  # beyond the shift, interval 1: the duals move, the weights do not
    wanted = by_hand.model.state_dict()
    found = ours.tensors()
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-6) for name in wanted)
