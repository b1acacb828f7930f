# SPDX-License-Identifier: Apache-2.0
"""ADMM: float weights that are pulled towards a grid, which moves towards them, until they lie on it.

    L = F(Theta) + gamma/2 ||Theta - Q + lambda||^2 - gamma/2 ||lambda||^2,    Q = f(Theta) = alpha V on the grid

    (1) Theta   a descent step on L, for every minibatch; and every ``interval`` steps
    (2) Q       min over alpha, V of ||Theta + lambda - alpha V||^2, by alternation from the last alpha
    (3) lambda  += Theta - Q

Different from the paper, and why: (1) is the optimiser's step by default (`extragradient` has the printed steps as an
option); the paper does not say what one iteration is, here it is ``interval`` minibatches. (2) starts from the
error-minimising alpha of the float model (alpha = 1 rounds a language model's weights to 0, and alpha is 0/0 then), and
puts Theta + lambda on the grid, which is what minimises the objective as printed; ``projection="weights"`` puts Theta
there, as the paper's inner loop has it. Not here: the loop (`lm.train`).

Paper: Xu et al., "Mixed precision low-bit quantization of neural network language models for speech recognition",
TASLP 2021, section IV.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kaldi_mpq.fit.distill import DistilledObjective, Teacher
from kaldi_mpq.lm.batches import Batch
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.perplexity import Perplexity
from kaldi_mpq.precision import FLOAT_BITS, PrecisionMap, Unit
from kaldi_mpq.quant.fake_quant import plain_tensors
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.quantized import Quantized, quantize
from kaldi_mpq.quant.scale import refine_scale, unit_scales
from kaldi_mpq.text.corpus import Corpus

__all__ = ["AdmmObjective"]

log = logging.getLogger(__name__)
_INNER_ITERATIONS = 20  # of (2), as in the paper


class AdmmObjective(DistilledObjective):
    """The augmented Lagrangian of a model and its grids.

    Args:
      model: the float model, trained in place.
      units, precision, granularity: which weights have how many bits, and which share a scale.
      gamma: weight of the distance to the grid; cross entropy is per token.
      interval: optimiser steps between (2) and (3).
      growth: gamma is multiplied by it after each (3), and lambda divided, which leaves gamma lambda as it is.
      projection: ``sum`` or ``weights``, see the module.
      label_smoothing, teacher, self_normalize: see DistilledObjective.
    """

    def __init__(
        self,
        model: LanguageModel,
        units: Sequence[Unit],
        precision: PrecisionMap,
        granularity: Granularity,
        *,
        gamma: float,
        interval: int,
        growth: float = 1.0,
        projection: str = "sum",
        label_smoothing: float = 0.0,
        teacher: Teacher | None = None,
        self_normalize: float = 0.0,
    ) -> None:
        super().__init__(model, label_smoothing, teacher, self_normalize)
        precision.check_covers(unit.name for unit in units)
        self.interval, self.growth, self.projection = interval, growth, projection
        self.register_buffer("gamma", torch.tensor(gamma))
        self.parts = nn.ModuleList(
            _Part(_rows(model, unit), unit, precision[unit.name], granularity)
            for unit in units
            if precision[unit.name] not in FLOAT_BITS
        )

    def forward(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        """Return the augmented Lagrangian (without its constant) on a batch, and the model's state after it."""
        loss, state = super().forward(batch, state)
        distance = sum((_rows(self.model, part.unit) - part.anchor).square().sum() for part in self.parts)
        return loss + 0.5 * self.gamma * distance, state

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Update grid and dual variables every ``interval`` steps."""
        if step % self.interval:
            return
        apart = total = 0.0
        for part in self.parts:
            weights = _stored_rows(self.model, part.unit)
            part.update(weights, self.projection, self.growth)
            apart += float((weights - part.grid).square().sum())
            total += float(weights.square().sum())
        self.gamma.mul_(self.growth)
        log.info("step %d: distance of weights from grid %.2f%%", step, 100.0 * (apart / max(total, 1e-30)) ** 0.5)

    @torch.no_grad()
    def validate(self, corpus: Corpus, batch_tokens: int, context: str) -> Perplexity:
        """Return the perplexity of the model with its weights on the grid."""
        kept = [_stored_rows(self.model, part.unit).clone() for part in self.parts]
        for part in self.parts:
            rows = _stored_rows(self.model, part.unit)
            rows.copy_(part.projected(rows).values())
        try:
            return super().validate(corpus, batch_tokens, context)
        finally:
            for part, weights in zip(self.parts, kept):
                _stored_rows(self.model, part.unit).copy_(weights)

    def quantized(self) -> dict[str, Quantized]:
        """Return every unit of 1 to 8 bits on its grid."""
        with torch.no_grad():
            return {part.unit.name: part.projected(_stored_rows(self.model, part.unit)) for part in self.parts}

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the float tensors under the model's own names."""
        return plain_tensors(self.model.state_dict())


class _Part(nn.Module):
    """Grid and dual variables of one unit, as buffers, so that checkpoints have them."""

    def __init__(self, weights: Tensor, unit: Unit, bits: int, granularity: Granularity) -> None:
        super().__init__()
        self.unit, self.bits, self.granularity = unit, bits, granularity
        scale = unit_scales(weights.detach(), bits, granularity)
        grid = quantize(weights, bits, granularity, scale).values()
        self.register_buffer("scale", scale)
        self.register_buffer("dual", torch.zeros_like(grid))
        self.register_buffer("anchor", grid)  # Q - lambda

    @property
    def grid(self) -> Tensor:
        """Q, the point on the grid."""
        return self.anchor + self.dual

    def update(self, weights: Tensor, projection: str, growth: float = 1.0) -> None:
        """Do (2) and (3), and make lambda that of a gamma ``growth`` times larger."""
        moved = weights + self.dual
        source = moved if projection == "sum" else weights
        self.scale.copy_(_refined(moved, source, self.scale, self.bits, self.granularity))
        grid = quantize(source, self.bits, self.granularity, self.scale).values()
        self.dual.add_(weights).sub_(grid).div_(growth)
        torch.sub(grid, self.dual, out=self.anchor)

    def projected(self, weights: Tensor) -> Quantized:
        """Return the weights themselves on the grid, at the scales that are best for them."""
        scale = _refined(weights, weights, self.scale, self.bits, self.granularity)
        return quantize(weights, self.bits, self.granularity, scale)


def _refined(moved: Tensor, source: Tensor, scale: Tensor, bits: int, granularity: Granularity) -> Tensor:
    """Return the scales after alternation, which rounds ``source`` and fits ``moved``."""
    refined = scale.clone()
    for (columns, groups), (_, rounded) in zip(granularity.groups(moved), granularity.groups(source)):
        start = scale[:, columns].flatten()
        refined[:, columns] = refine_scale(groups, start, bits, _INNER_ITERATIONS, rounded).view(len(scale), -1)
    return refined


def _rows(model: nn.Module, unit: Unit) -> Tensor:
    """Return a unit's weights as the model computes with them."""
    path, _, name = unit.parameter.rpartition(".")
    return getattr(model.get_submodule(path), name)[unit.start : unit.stop]


def _stored_rows(model: nn.Module, unit: Unit) -> Tensor:
    """Return a view of a unit's weights as they are stored, under a parametrization too."""
    path, _, name = unit.parameter.rpartition(".")
    module = model.get_submodule(path)
    if parametrize.is_parametrized(module, name):
        return module.parametrizations[name].original[unit.start : unit.stop]
    return getattr(module, name)[unit.start : unit.stop]
