# SPDX-License-Identifier: Apache-2.0
"""All widths of every unit in one model with shared weights, and the shares that mix them.

    W^_u = sum_n p_un f_n(W_u)

    softmax:   p_u = softmax(a_u)                                           weights and a together, as printed
    uniform:   p_u one-hot, every width equally likely                      weights only
    gumbel:    p_u = softmax((a_u + G) / T),  G = -ln(-ln U),  T falling    a only, weights as they are

a are the architecture weights, one per width of a unit or of a group of units. Not here: the stages' order (`nas`).

Paper: Xu et al., TASLP 2021, section V-C (softmax; the paper mixes outputs of models trained apart, here weights are
shared and scales are not); Xu et al., arXiv 2206.11643 (uniform, then gumbel).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from kaldi_mpq.lm.batches import Batch
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.perplexity import Perplexity
from kaldi_mpq.quant.fake_quant import see_through
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.mixture import MixedWidths
from kaldi_mpq.search.size_price import SizePrice
from kaldi_mpq.search.step_log import StepLog
from kaldi_mpq.search.training import matrices_of
from kaldi_mpq.search.units import Group
from kaldi_mpq.text.corpus import Corpus

__all__ = ["SupernetObjective"]


class SupernetObjective(Objective):
    """Cross entropy of the mixture, plus the price of its size where architecture weights are trained.

    Args:
      model: the float model; its matrices are parametrized in place.
      groups: the U parts that have a width of their own.
      widths: the K widths.
      granularity: which weights share a scale.
      price: bytes, and what they cost.
      temperatures: T at first and at last.
      architecture_rate: learning rate of a over that of the weights.
      label_smoothing: see Objective.
      log: where shares and expected bytes are written.
    """

    keeps_last = True

    def __init__(
        self,
        model: LanguageModel,
        groups: Sequence[Group],
        widths: Sequence[int],
        granularity: Granularity,
        price: SizePrice,
        *,
        temperatures: tuple[float, float] = (1.0, 1.0),
        architecture_rate: float = 1.0,
        label_smoothing: float = 0.0,
        log: StepLog | None = None,
    ) -> None:
        super().__init__(model, label_smoothing)
        self.groups, self.temperatures, self.log = list(groups), temperatures, log
        self._matrices: list[tuple[MixedWidths, list[int]]] = []
        for parameter, units, numbers in matrices_of(groups):
            mixed = MixedWidths(model.get_parameter(parameter).detach(), units, widths, granularity)
            see_through(model, parameter, mixed)
            self._matrices.append((mixed, numbers))
        self.logits = nn.Parameter(torch.zeros(len(groups), len(widths)))
        self.logits.rate_factor = architecture_rate
        self.price = price
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.total_steps = 1
        self.begin("softmax")

    def begin(self, stage: str) -> None:
        """Make ``softmax``, ``uniform`` or ``gumbel`` what is trained from now on; make the optimiser after this."""
        self.stage = stage
        self.zero_grad(set_to_none=True)  # the last stage's gradients would count when this one's are clipped
        self.model.requires_grad_(stage != "gumbel")
        self.logits.requires_grad_(stage != "uniform")
        self.steps.zero_()

    def shares(self) -> Tensor:
        """Return (U, K) shares without noise, at temperature 1."""
        return functional.softmax(self.logits.masked_fill(~self.price.allowed, -torch.inf), dim=1)

    @property
    def temperature(self) -> float:
        """T of this step: falls geometrically."""
        first, last = self.temperatures
        return first * (last / first) ** min(int(self.steps) / max(self.total_steps - 1, 1), 1.0)

    def forward(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        """See Objective.forward; one draw of shares per call."""
        self._set(self._drawn())
        with parametrize.cached():
            loss, state = super().forward(batch, state)
        if self.stage != "uniform":
            self.price.progress = int(self.steps) / self.total_steps
            loss = loss + self.price.loss(self.shares())
        return loss, state

    def after_step(self, step: int) -> None:
        """Follow the budget with the price, and log."""
        self.steps.fill_(step)
        shares = self.shares().detach()
        if self.stage != "uniform":
            self.price.progress = step / self.total_steps
            self.price.update(shares)
        if self.log and self.log.is_due(step, self.total_steps):
            self.log.write(self.stage, step, self._entry(shares))

    @torch.no_grad()
    def validate(self, corpus: Corpus, batch_tokens: int, context: str) -> Perplexity:
        """Return the perplexity of the mixture without noise."""
        self._set(self.shares())
        with parametrize.cached():
            return super().validate(corpus, batch_tokens, context)

    def _drawn(self) -> Tensor:
        if self.stage == "softmax":
            return self.shares()
        noise = torch.empty_like(self.logits).exponential_().log().neg()  # G = -ln(-ln U): -ln of an exponential
        if self.stage == "uniform":
            widest = noise.masked_fill(~self.price.allowed, -torch.inf).argmax(dim=1)
            return functional.one_hot(widest, self.logits.shape[1]).to(noise.dtype)
        noisy = (self.logits + noise) / self.temperature
        return functional.softmax(noisy.masked_fill(~self.price.allowed, -torch.inf), dim=1)

    def _set(self, shares: Tensor) -> None:
        for mixed, numbers in self._matrices:
            mixed.shares = shares[numbers]

    def _entry(self, shares: Tensor) -> dict[str, Any]:
        table = {group.name: [round(share, 5) for share in row] for group, row in zip(self.groups, shares.tolist())}
        return {
            "expected_bytes": round(float(self.price.expected_bytes(shares))),
            "price": float(self.price.price),
            "temperature": self.temperature if self.stage == "gumbel" else 1.0,
            "shares": table,
        }
