# SPDX-License-Identifier: Apache-2.0
"""Distillation: the divergence, its mixture with cross entropy, and a teacher that stays as it is."""

import math

import pytest
import torch

from kaldi_mpq.fit.distill import DistilledObjective, Teacher, divergence
from kaldi_mpq.lm.batches import PADDING, Batch
from kaldi_mpq.lm.model import build
from kaldi_mpq.lm.objective import Objective

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


def batch(fresh=None):
    """Two sentences, one shorter."""
    return Batch(torch.tensor([[1, 4, 5], [1, 6, 1]]), torch.tensor([[4, 5, 2], [6, 2, PADDING]]), fresh)


def test_divergence_is_the_sum_over_the_vocabulary():
    """T^2 sum p ln(p / q), computed term by term; 0 between equal distributions, however the logits are shifted."""
    ours, theirs = torch.randn(3, 5), torch.randn(3, 5)
    for temperature in (1.0, 2.5):
        p, q = (torch.softmax(logits / temperature, dim=-1).double().tolist() for logits in (theirs, ours))
        slow = sum(p[i][j] * math.log(p[i][j] / q[i][j]) for i in range(3) for j in range(5)) / 3 * temperature**2
        assert float(divergence(ours, theirs, temperature)) == pytest.approx(slow, rel=1e-5)
    assert float(divergence(ours, ours + 7.0, 2.0)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_loss_is_the_mixture(weight):
    """(1 - w) cross entropy + w divergence, over counted positions only."""
    torch.manual_seed(0)
    student, teacher = build(CONFIG), build(CONFIG)
    loss, _ = DistilledObjective(student, 0.0, Teacher(teacher, weight, 2.0))(batch(), None)
    plain, _ = Objective(student)(batch(), None)
    counted = batch().targets != PADDING
    logits = [model.logits(model(batch().inputs)[0][counted]) for model in (student, teacher)]
    assert torch.isclose(loss, (1 - weight) * plain + weight * divergence(*logits, 2.0))


def test_only_the_student_learns():
    """The teacher has no gradients, and is in neither parameters nor checkpoints."""
    student, teacher = build(CONFIG), build(CONFIG)
    objective = DistilledObjective(student, 0.0, Teacher(teacher, 0.5, 1.0))
    objective(batch(), None)[0].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(parameter is held for parameter in teacher.parameters() for held in objective.parameters())
    tensors = [name for name in objective.state_dict() if not name.endswith("_extra_state")]
    assert len(tensors) == len(student.state_dict())


def test_the_teacher_carries_its_own_state():
    """With context, the second batch's divergence depends on the first, and a resumed objective has the same one."""
    torch.manual_seed(0)
    objective = DistilledObjective(build(CONFIG), 0.0, Teacher(build(CONFIG), 1.0, 1.0))
    start, on = batch(torch.tensor([True, True])), batch(torch.tensor([False, False]))
    _, state = objective(start, None)
    saved = objective.state_dict()
    second, _ = objective(on, state)
    forgetful = DistilledObjective(objective.model, 0.0, Teacher(objective.teacher.model, 1.0, 1.0))
    assert not torch.isclose(forgetful(on, state)[0], second)
    resumed = DistilledObjective(objective.model, 0.0, Teacher(objective.teacher.model, 1.0, 1.0))
    resumed.load_state_dict(saved)
    assert torch.equal(resumed(on, state)[0], second)
