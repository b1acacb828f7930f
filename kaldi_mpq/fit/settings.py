# SPDX-License-Identifier: Apache-2.0
"""Settings of ``mpq fit``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.settings import OptimSettings
from kaldi_mpq.settings import setting

__all__ = ["FitSettings"]


@dataclass(frozen=True, kw_only=True)
class FitSettings(OptimSettings):
    """Quantize the weights of a trained LM, and train them on their grids.

    Writes an LM directory into OUT whose weights lie on the grid, with precision.json and quant.safetensors (codes and
    scales) for mpq pack. The same command goes on from the last checkpoint after an interruption.
    """

    lm: Path = setting(help="directory of the float LM (mpq lm train)", positional=True)
    out: Path = setting(help="directory to write", positional=True)
    data: Path = setting(Path("data/lm"), help="directory that mpq text wrote")
    bits: int | None = setting(None, help="bits of every weight", choices=(1, 2, 4, 8, 16, 32))
    activation_bits: int = setting(
        0, help="bits of what goes into the layers' matrices; 0: float", choices=(0, 2, 3, 4, 5, 6, 7, 8)
    )
    precision: Path | None = setting(None, help="precision.json: bits of each part, instead of --bits")
    prototypes: tuple[str, ...] = setting(
        (), help="BITS=DIR,...: parts of a width start from mpq fit --bits BITS in DIR, not from the float weights"
    )
    method: str = setting(
        "ste",
        help="rounding only, straight-through training with learned scales, or ADMM",
        choices=("round", "ste", "admm"),
    )
    granularity: str = setting("row", help="weights that share a scale", choices=("row", "tensor", "block"))
    block: int = setting(0, help="block: columns that share a scale")
    learning_rate: float = setting(0.0, help="learning rate at its highest; 0: what the float LM was trained with")
    schedule: str = setting(
        "auto",
        help="learning-rate schedule; auto: cosine, constant with admm, whose grid must be followed to the end",
        choices=("auto", "cosine", "halving", "constant"),
    )
    epochs: int = setting(4, help="passes over the training text at most")
    enough: float = setting(
        0.0, help="stop once dev perplexity is within this part above the float LM's: 0.001 trains nothing at 8 bits"
    )
    dropout: float | None = setting(None, help="dropout while training; default: the float LM's")
    scale_rate: float = setting(3.0, help="ste: learning rate of the scales' logarithms over that of the weights")
    even_rates: bool = setting(
        True, help="ste: lower learning rates for wider weights, by the gap of their levels (4 bits: 1/7, 8: 1/127)"
    )
    distill_weight: float = setting(
        0.0, help="weight of the divergence from the float LM in the loss; 0: cross entropy only"
    )
    distill_temperature: float = setting(1.0, help="temperature of both distributions in that divergence")
    gamma: float = setting(5e-3, help="admm: weight of the distance between weights and grid; printed: 0.001")
    gamma_growth: float = setting(1.0, help="admm: factor of gamma from one update to the next; printed: 1")
    admm_interval: int = setting(100, help="admm: optimiser steps between updates of grid and dual variables")
    admm_projection: str = setting(
        "sum",
        help="admm: what is put on the grid: weights plus dual variables, or weights as printed",
        choices=("sum", "weights"),
    )
    admm_update: str = setting(
        "optimizer",
        help="admm: how weights move: the optimiser, or extra-gradient steps as printed",
        choices=("optimizer", "extragradient"),
    )
    eta1: float = setting(0.02, help="extragradient: length of the step that looks ahead")
    eta2: float = setting(0.001, help="extragradient: length of the step that is made")

    positive: ClassVar[tuple[str, ...]] = tuple(n for n in OptimSettings.positive if n != "learning_rate")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.learning_rate >= 0:
            raise ConfigError("bad value for learning_rate", expected="a number above 0", found=self.learning_rate)
        if (self.bits is None) == (self.precision is None):
            raise ConfigError("how many bits?", expected="either --bits N or --precision FILE", hint="--bits 2")
        for name in ("gamma", "admm_interval", "eta1", "eta2", "distill_temperature", "scale_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"bad value for {name}", expected="a number above 0", found=getattr(self, name))
        if self.enough < 0:
            raise ConfigError("bad value for enough", expected="a number of at least 0", found=self.enough)
        if not 0 <= self.distill_weight <= 1:
            raise ConfigError("bad value for distill_weight", expected="a number in [0, 1]", found=self.distill_weight)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ConfigError("bad value for dropout", expected="a number in [0, 1)", found=self.dropout)
