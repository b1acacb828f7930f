# SPDX-License-Identifier: Apache-2.0
"""What the float model says about the training text, as a part of the loss.

    loss = (1 - w) * cross entropy + w * T^2 * mean over tokens of KL(p_float^(1/T) || p^(1/T))

Not here: how weights come onto their grids (`ste`, `admm`).

Paper: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, section 2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kaldi_mpq.lm.batches import PADDING, Batch
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.perplexity import carry

__all__ = ["DistilledObjective", "Teacher", "divergence"]


def divergence(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) in nats, the mean over rows.

    Args:
      logits, teacher_logits: (M, V).
      temperature: T > 0.
    """
    ours = functional.log_softmax(logits / temperature, dim=-1)
    theirs = functional.log_softmax(teacher_logits / temperature, dim=-1)
    total = functional.kl_div(ours, theirs, reduction="sum", log_target=True)
    return total * (temperature**2 / len(logits))


class Teacher:
    """The float model beside the training, with a state of its own where context crosses utterances.

    Not a module, so that neither optimiser nor checkpoints see its weights.

    Args:
      model: the float model; is frozen.
      weight: w in [0, 1].
      temperature: T > 0.
    """

    def __init__(self, model: LanguageModel, weight: float, temperature: float) -> None:
        self.model = model.eval().requires_grad_(False)
        self.weight, self.temperature = weight, temperature
        self.state: Any = None

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Return (M, V) logits of the batch's counted positions."""
        self.model.to(batch.inputs.device)
        hidden, self.state = self.model(batch.inputs, carry(self.model, self.state, batch.fresh))
        return self.model.logits(hidden[batch.targets != PADDING])


class DistilledObjective(Objective):
    """Cross entropy, mixed with the divergence from a teacher if there is one."""

    starts_good = True  # rounded, the float model may be good enough already

    def __init__(
        self, model: LanguageModel, label_smoothing: float, teacher: Teacher | None, self_normalize: float = 0.0
    ) -> None:
        super().__init__(model, label_smoothing, self_normalize)
        self.teacher = teacher

    def token_loss(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        """See Objective.token_loss."""
        if self.teacher is None:
            return super().token_loss(batch, logits, targets)
        weight = self.teacher.weight
        distilled = weight * divergence(logits, self.teacher.logits(batch), self.teacher.temperature)
        return distilled if weight == 1.0 else (1.0 - weight) * super().token_loss(batch, logits, targets) + distilled

    def get_extra_state(self) -> Tensor:
        """Return the teacher's carried state, so that a resumed training goes on exactly; empty where there is none."""
        state = self.teacher.state if self.teacher else None
        return torch.empty(0) if state is None else torch.stack(list(vars(state.detach()).values()))

    def set_extra_state(self, state: Tensor) -> None:
        """Take back what `get_extra_state` returned."""
        if self.teacher and state.numel():
            self.teacher.state = type(self.model.start(1))(*state)
