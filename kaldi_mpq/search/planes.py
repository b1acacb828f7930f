# SPDX-License-Identifier: Apache-2.0
"""Training of soft bit planes under soft bit masks, both of which end as zeros and ones.

    loss = cross entropy + price of the expected size
    gates of a group (g2, g4, g8) = sigmoid(beta_m M);   shares of 1, 2, 4, 8 bits: 1 - g2, g2 (1 - g4), ...

beta_m grows from 1 while masks are trained; after a part of the steps the widths are chosen, within the budget, and the
gates are 0 or 1 from then on. beta, of the bits, grows all the way; what is validated after the choice, and what
comes out, has every bit 0 or 1. Not here: the planes of a matrix (`quant.bit_planes`).

Paper: Xiao et al., arXiv 2212.02770, whose code counts masks above a half, layers alike, in lambda (R - R*) sum m; here
the expected bytes count and the multiplier is found (`size_price`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kaldi_mpq.lm.batches import Batch
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.perplexity import Perplexity
from kaldi_mpq.precision import FLOAT_BITS
from kaldi_mpq.quant.bit_planes import SoftPlanes, width_shares
from kaldi_mpq.quant.fake_quant import plain_tensors, see_through
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import GRID_BITS
from kaldi_mpq.quant.quantized import Quantized
from kaldi_mpq.search.allocate import Item
from kaldi_mpq.search.choice import choose_widths
from kaldi_mpq.search.size_price import SizePrice
from kaldi_mpq.search.step_log import StepLog
from kaldi_mpq.search.training import matrices_of
from kaldi_mpq.search.units import Group
from kaldi_mpq.text.corpus import Corpus

__all__ = ["PlanesObjective", "constant_gates", "first_shares"]

_OPEN = 1.0  # masks M at first: gates of 0.73; at the paper's 0 half of every weight would be its sign alone
_FLAT = 5.0  # beta of the masks when widths are chosen
_KEPT = -1  # in place of a group's number: stays in floating point
_HARD = 1e8  # beta at which a bit is 0 or 1


class PlanesObjective(Objective):
    """Cross entropy of the model of soft bits, plus the price of its size until the widths are chosen.

    Args:
      model: the float model; its matrices are parametrized in place.
      groups: all parts of the model.
      items: widths, 1 to 8 bits, and bytes of the G groups that are to have planes; the others stay as they are.
      granularity: which weights share a scale.
      price: bytes, and what they cost, over GRID_BITS.
      betas: of the bits, at first and at last.
      mask_beta: of the masks, when the widths are chosen; 1 at first.
      mask_part: part of the steps after which they are chosen.
      mask_rate, scale_rate: learning rates of masks and scales over that of the weights.
      log: where shares and expected bytes are written.
    """

    keeps_last = True

    def __init__(
        self,
        model: LanguageModel,
        groups: Sequence[Group],
        items: Sequence[Item],
        granularity: Granularity,
        price: SizePrice,
        *,
        betas: tuple[float, float],
        mask_beta: float,
        mask_part: float,
        mask_rate: float,
        scale_rate: float = 3.0,
        log: StepLog | None = None,
    ) -> None:
        super().__init__(model)
        self.items, self.price, self.log = list(items), price, log
        self.betas, self.mask_beta, self.mask_part = betas, mask_beta, mask_part
        place = {item.name: number for number, item in enumerate(items)}
        self._matrices: list[tuple[str, SoftPlanes, list[int]]] = []
        for parameter, units, numbers in matrices_of(groups):
            places = [place.get(groups[number].name, _KEPT) for number in numbers]
            planes = SoftPlanes(model.get_parameter(parameter).detach(), units, granularity)
            planes.kept = [each == _KEPT for each in places]
            planes.log_scale.rate_factor = scale_rate
            see_through(model, parameter, planes)
            self._matrices.append((parameter, planes, places))
        self.masks = nn.Parameter(torch.full((len(items), 3), _OPEN))
        self.masks.rate_factor = mask_rate
        given = torch.stack([constant_gates(item.bits) for item in items])
        self.register_buffer("given", given, persistent=False)
        self.register_buffer("chosen", torch.zeros(len(items), dtype=torch.int64))  # bits; 0: not yet
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.total_steps = 1

    @property
    def choosing_step(self) -> int:
        """After how many steps the widths are chosen."""
        return max(1, round(self.mask_part * self.total_steps))

    @property
    def is_chosen(self) -> bool:
        """Whether the widths are fixed."""
        return bool((self.chosen > 0).all())

    def gates(self) -> Tensor:
        """Return (G, 3) gates of now."""
        if self.is_chosen:
            bounds = torch.tensor(GRID_BITS[1:], device=self.chosen.device)
            return (self.chosen[:, None] >= bounds).to(self.masks.dtype)
        beta = self.mask_beta ** min(int(self.steps) / self.choosing_step, 1.0)
        return torch.where(self.given.isnan(), torch.sigmoid(beta * self.masks), self.given)

    @property
    def beta(self) -> float:
        """Steepness of the bits' sigmoid of now: grows geometrically."""
        first, last = self.betas
        return first * (last / first) ** min(int(self.steps) / max(self.total_steps, 1), 1.0)

    def forward(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        """See Objective.forward."""
        gates = self.gates()
        self._set(gates, self.beta)
        with parametrize.cached():
            loss, state = super().forward(batch, state)
        if self.is_chosen:
            return loss, state
        self.price.progress = int(self.steps) / self.choosing_step
        return loss + self.price.loss(width_shares(gates)), state

    def after_step(self, step: int) -> None:
        """Follow the budget with the price, choose the widths when it is time, and log."""
        self.steps.fill_(step)
        shares = width_shares(self.gates().detach())
        if not self.is_chosen:
            self.price.progress = step / self.choosing_step
            self.price.update(shares)
            if step >= self.choosing_step:
                self._choose()
        if self.log and self.log.is_due(step, self.total_steps):
            self.log.write("csq", step, self._entry(shares))

    @torch.no_grad()
    def validate(self, corpus: Corpus, batch_tokens: int, context: str) -> Perplexity:
        """Return the perplexity of the soft bits, once the widths are chosen of the hard ones."""
        self._set(self.gates(), _HARD if self.is_chosen else self.beta)
        with parametrize.cached():
            return super().validate(corpus, batch_tokens, context)

    def bits(self) -> dict[str, int]:
        """Return the chosen width of each of the G groups."""
        return {item.name: int(bits) for item, bits in zip(self.items, self.chosen)}

    def quantized(self) -> dict[str, Quantized]:
        """Return every unit of 1 to 8 bits on its grid."""
        weights = self.tensors()
        found: dict[str, Quantized] = {}
        for parameter, planes, places in self._matrices:
            bits = [FLOAT_BITS[0] if place == _KEPT else int(self.chosen[place]) for place in places]
            found.update(planes.quantized(weights[parameter], bits))
        return found

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the float tensors under the model's own names."""
        return plain_tensors(self.model.state_dict())

    def _choose(self) -> None:
        """Fix the widths: the likeliest ones that the budget allows."""
        masks = self.masks.detach().cpu().double()  # as flat as their order allows: of closed gates some are nearer
        shares = width_shares(torch.where(self.given.cpu().isnan(), torch.sigmoid(_FLAT * masks), self.given.cpu()))
        bits = choose_widths(self.items, GRID_BITS, shares, self.price.capacity)
        self.chosen.copy_(torch.tensor([bits[item.name] for item in self.items]))

    def _set(self, gates: Tensor, beta: float) -> None:
        for _, planes, places in self._matrices:
            planes.gates, planes.beta = gates[places], beta  # what is kept gets the last group's gates: not looked at

    def _entry(self, shares: Tensor) -> dict[str, Any]:
        table = {item.name: [round(share, 5) for share in row] for item, row in zip(self.items, shares.tolist())}
        return {
            "expected_bytes": round(float(self.price.expected_bytes(shares))),
            "price": float(self.price.price),
            "beta": self.beta,
            "shares": table,
        }


def first_shares(items: Sequence[Item]) -> Tensor:
    """Return the (G, 4) shares of 1, 2, 4 and 8 bits that a training begins with."""
    given = torch.stack([constant_gates(item.bits) for item in items])
    return width_shares(torch.where(given.isnan(), torch.sigmoid(torch.tensor(_OPEN)), given))


def constant_gates(bits: Sequence[int]) -> Tensor:
    """Return the (3,) gates g2, g4, g8 that are 0 or 1 because only ``bits`` are allowed; NaN: to be found."""
    gates = []
    for below, width in pairwise(GRID_BITS):
        if not any(each >= width for each in bits):
            gates.append(0.0)
        else:
            gates.append(torch.nan if below in bits else 1.0)
    return torch.tensor(gates)
