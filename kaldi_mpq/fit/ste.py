# SPDX-License-Identifier: Apache-2.0
"""Quantization-aware training: the model computes with rounded weights, gradients pass straight through the rounding.

Not here: the rounding and its gradients (`quant.rounding`) and the loop (`lm.train`).

Paper: Bengio, Leonard and Courville, "Estimating or propagating gradients through stochastic neurons", 2013 (straight
through); Esser et al., "Learned step size quantization", 2020 (scales that learn).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from kaldi_mpq.fit.distill import DistilledObjective, Teacher
from kaldi_mpq.lm.batches import Batch
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.perplexity import Perplexity
from kaldi_mpq.precision import PrecisionMap, Unit
from kaldi_mpq.quant.fake_quant import attach, level_gaps, plain_tensors, quantized_units
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.quantized import Quantized
from kaldi_mpq.text.corpus import Corpus

__all__ = ["SteObjective"]


class SteObjective(DistilledObjective):
    """The loss of the rounded model.

    Args:
      model: the float model; its matrices are parametrized in place.
      units, precision, granularity: which weights have how many bits, and which share a scale.
      label_smoothing, self_normalize: see Objective.
      teacher: distil from it.
      scale_rate: learning rate of the scales over that of the weights.
      even_rates: parameters move at the learning rate times the gap between the levels of their grid, 1 for 1 and 2
        bits, 1/7 for 4, 1/127 for 8: so weights of all widths pass from level to level equally often.
    """

    def __init__(
        self,
        model: LanguageModel,
        units: Sequence[Unit],
        precision: PrecisionMap,
        granularity: Granularity,
        *,
        label_smoothing: float = 0.0,
        teacher: Teacher | None = None,
        self_normalize: float = 0.0,
        scale_rate: float = 1.0,
        even_rates: bool = True,
    ) -> None:
        super().__init__(model, label_smoothing, teacher, self_normalize)
        attach(model, units, precision, granularity)
        gaps = level_gaps(model)
        for name, parameter in model.named_parameters():
            parameter.rate_factor = gaps[name] if even_rates else 1.0
            if name.endswith("log_scale"):
                parameter.rate_factor *= scale_rate

    def forward(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        """See Objective.forward; every matrix is rounded once, a tied one too."""
        with parametrize.cached():
            return super().forward(batch, state)

    @torch.no_grad()
    def validate(self, corpus: Corpus, batch_tokens: int, context: str) -> Perplexity:
        """Return the perplexity of the rounded model."""
        with parametrize.cached():
            return super().validate(corpus, batch_tokens, context)

    def quantized(self) -> dict[str, Quantized]:
        """Return every unit of 1 to 8 bits on its grid."""
        return quantized_units(self.model)

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the float tensors under the model's own names."""
        return plain_tensors(self.model.state_dict())
