# SPDX-License-Identifier: Apache-2.0
"""Settings of the searches that train: the part of ``mpq search`` that ``--method nas|csq`` reads.

`settings` has those of the whole verb.
"""

from __future__ import annotations

from dataclasses import dataclass

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.settings import setting

__all__ = ["TrainingSettings"]

_POSITIVE = (
    "learning_rate", "epochs", "train_tokens", "checkpoint_minutes", "nas_epochs", "nas_rate", "nas_temperature",
    "nas_final_temperature", "csq_mask_rate", "csq_mask_beta", "csq_beta", "csq_final_beta",
    "diffq_group", "diffq_rate",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How ``nas`` trains its supernet and its architecture weights, and ``csq`` its bits."""

    learning_rate: float = setting(2e-3, help="nas, csq: learning rate of weights at its highest")
    epochs: int = setting(2, help="nas, csq: passes over the training text")
    train_tokens: int = setting(1000, help="nas, csq: tokens per batch")
    dropout: float | None = setting(None, help="nas, csq: dropout while training; default: the float LM's")
    checkpoint_minutes: float = setting(5.0, help="nas, csq: minutes between checkpoints")
    price: float = setting(0.0, help="nas, csq: weight of the size in the loss at first (beta in the papers)")
    price_rate: float = setting(
        0.05, help="nas, csq: how fast that weight follows the relative excess over the budget, per step; 0: not at all"
    )
    nas_mixture: str = setting(
        "gumbel",
        help="nas: weights on sampled widths, then widths by Gumbel noise on held-out text; or, as printed, weights "
        "and softmax mixture together",
        choices=("gumbel", "softmax"),
    )
    nas_penalty: str = setting(
        "bytes", help="nas: what has a price: bytes, or roots of bits as printed", choices=("bytes", "sqrt-bits")
    )
    nas_held_out: float = setting(0.05, help="nas, gumbel: part of the training text that only chooses widths")
    nas_epochs: int = setting(10, help="nas, gumbel: passes over that part")
    nas_rate: float = setting(0.05, help="nas: learning rate of the architecture weights")
    nas_temperature: float = setting(2.0, help="nas, gumbel: temperature at first")
    nas_final_temperature: float = setting(0.2, help="nas, gumbel: temperature at last")
    csq_mask_part: float = setting(0.5, help="csq: part of the steps after which the widths are fixed")
    csq_mask_rate: float = setting(0.03, help="csq: learning rate of the bit masks")
    csq_mask_beta: float = setting(20.0, help="csq: steepness of the bit masks' sigmoid at last; 1 at first")
    csq_beta: float = setting(4.0, help="csq: steepness of the bits' sigmoid at first")
    csq_final_beta: float = setting(50.0, help="csq: steepness of the bits' sigmoid at last")
    diffq_group: int = setting(8, help="diffq: weights that share their number of bits")
    diffq_min_bits: int = setting(2, help="diffq: fewest bits of a weight", choices=(1, 2, 3, 4))
    diffq_rate: float = setting(0.02, help="diffq: learning rate of the bits")

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ConfigError(f"bad value for {name}", expected="a number above 0", found=getattr(self, name))
        for name in ("nas_held_out", "csq_mask_part"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"bad value for {name}", expected="a number in (0, 1)", found=getattr(self, name))
        if not self.price_rate >= 0:
            raise ConfigError("bad value for price_rate", expected="a number not below 0", found=self.price_rate)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ConfigError("bad value for dropout", expected="a number in [0, 1)", found=self.dropout)
