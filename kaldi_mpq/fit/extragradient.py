# SPDX-License-Identifier: Apache-2.0
"""Extra-gradient steps: the gradient that moves the weights is taken one step ahead of them.

    Theta_bar = Theta_k - eta1 * gradL(Theta_k),     Theta_(k+1) = Theta_k - eta2 * gradL(Theta_bar)

The model is seen through a shift, Theta + c: its gradient at c = -eta1 gradL(Theta_k) is gradL(Theta_bar), and an
optimiser without momentum then makes the second step from Theta_k, so that the training loop need not know of it.

Paper: Korpelevich, 1976; Xu et al., TASLP 2021, section IV, update of Theta. Not here: the Lagrangian (`admm`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kaldi_mpq.fit.admm import AdmmObjective
from kaldi_mpq.lm.batches import Batch

__all__ = ["ExtraGradientObjective"]


class ExtraGradientObjective(AdmmObjective):
    """The augmented Lagrangian, evaluated one step of length ``eta1`` ahead; train it with plain gradient descent."""

    def __init__(self, *args: Any, eta1: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.eta1 = eta1
        named = [(module, name) for module in self.model.modules() for name in list(module._parameters)]
        held = [(module, name) for module, name in named if module._parameters[name] is not None]
        self.shifts = [_Shift(module._parameters[name]) for module, name in held]
        for (module, name), shift in zip(held, self.shifts):
            parametrize.register_parametrization(module, name, shift, unsafe=True)
        self.originals = [module.parametrizations[name].original for module, name in held]

    def forward(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        """Return the Lagrangian one step ahead; its gradient there is what moves the weights."""
        if torch.is_grad_enabled():
            heard = self.teacher.state if self.teacher else None
            with parametrize.cached():
                loss, _ = super().forward(batch, state)
            if self.teacher:
                self.teacher.state = heard  # it hears the batch again
            for shift, gradient in zip(self.shifts, torch.autograd.grad(loss, self.originals)):
                torch.mul(gradient, -self.eta1, out=shift.shift)
        with parametrize.cached():
            return super().forward(batch, state)

    def after_step(self, step: int) -> None:
        """Come back from one step ahead, then see AdmmObjective.after_step."""
        for shift in self.shifts:
            shift.shift.zero_()
        super().after_step(step)


class _Shift(nn.Module):
    def __init__(self, parameter: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros_like(parameter), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.shift
