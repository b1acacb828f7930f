# SPDX-License-Identifier: Apache-2.0
"""The price of a byte: the part of a searching loss that pulls the expected size of the model to the budget.

    g = E[bytes] / target - 1,     penalty = lambda g + g^2 / 2         (printed: lambda sum_u sum_n p_un sqrt(n))
    after every step:  lambda <- lambda + rate g

The target falls evenly from the size at first to the budget in the first half of a search: from a large excess lambda
would grow far beyond its place, and shares that have once closed come back slowly.

This is the method of multipliers: lambda settles where the expected size is the budget. Below the budget g is negative,
and lambda falls until widths grow back. Not here: where the shares p come from (`nas`, `csq`).

Paper: Xu et al., TASLP 2021, section V-C: beta sum_{n,l} a_n sqrt(n), with beta fixed and not said, and with a the
softmax's inputs, which has no lower bound; here p, and lambda is beta. Multipliers: Hestenes, 1969.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kaldi_mpq.search.allocate import Item

__all__ = ["PENALTIES", "SizePrice", "candidates"]

_RAMP = 0.5  # part of a search in which the target comes down to the budget
PENALTIES = ("bytes", "sqrt-bits")


def candidates(items: Sequence[Item]) -> tuple[int, ...]:
    """Return the widths that some unit may have, in order."""
    return tuple(sorted({bits for item in items for bits in item.bits}))


class SizePrice(nn.Module):
    """Bytes of U units at K widths, and the multiplier of their expected sum.

    Args:
      items: widths and bytes of the units.
      widths: the K widths.
      capacity: bytes that the units together may take.
      penalty: one of PENALTIES.
      price: lambda at first.
      rate: of lambda per step; 0 keeps it.
      shares: (U, K) at first; default: the target is the budget from the beginning.

    ``progress``, which its owner sets, is the part of the search that is done.
    """

    def __init__(
        self,
        items: Sequence[Item],
        widths: Sequence[int],
        capacity: int,
        *,
        penalty: str,
        price: float,
        rate: float,
        shares: Tensor | None = None,
    ) -> None:
        super().__init__()
        if penalty not in PENALTIES:
            raise ValueError(f"no penalty {penalty!r}")
        self.capacity, self.penalty, self.rate = capacity, penalty, rate
        table = [[_bytes(item, bits) for bits in widths] for item in items]
        self.register_buffer("bytes", torch.tensor(table, dtype=torch.float64), persistent=False)
        self.register_buffer("allowed", torch.tensor([[bits in item.bits for bits in widths] for item in items]),
                             persistent=False)  # fmt: skip
        self.register_buffer("roots", torch.tensor([bits**0.5 for bits in widths]), persistent=False)
        self.register_buffer("price", torch.tensor(price, dtype=torch.float64))
        self.start = float(capacity) if shares is None else float(self.expected_bytes(shares))
        self.progress = 0.0

    def expected_bytes(self, shares: Tensor) -> Tensor:
        """Return the expected bytes of all units, float64, given (U, K) shares."""
        return (shares.to(torch.float64) * self.bytes).sum()

    def loss(self, shares: Tensor) -> Tensor:
        """Return the penalty to be added to the mean cross entropy in nats per token."""
        if self.penalty == "sqrt-bits":
            return self.price.to(shares.dtype) * (shares * self.roots).sum()
        excess = self.excess(shares)
        return (self.price * excess + 0.5 * excess.square()).to(shares.dtype)

    def excess(self, shares: Tensor) -> Tensor:
        """Return g."""
        done = min(self.progress / _RAMP, 1.0)
        return self.expected_bytes(shares) / (self.start + done * (self.capacity - self.start)) - 1.0

    @torch.no_grad()
    def update(self, shares: Tensor) -> None:
        """Move the price by one step; an excess beyond the whole budget counts as the whole budget."""
        self.price += self.rate * self.excess(shares).clamp(-1.0, 1.0)


def _bytes(item: Item, bits: int) -> float:
    return float(item.bytes[item.bits.index(bits)]) if bits in item.bits else 0.0
