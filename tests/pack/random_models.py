# SPDX-License-Identifier: Apache-2.0
"""Packed files of random weights, and sentences to score with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kaldi_mpq.artefact import sha256_of
from kaldi_mpq.lm.checkpoint import load_weights
from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.pack.units import matching_units
from kaldi_mpq.pack.write import write_packed
from kaldi_mpq.precision import PrecisionMap
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.quantized import quantize_units, tensors_on_grid

VOCABULARY = {"vocab_size": 33, "bos": 1, "eos": 2, "unk": 3}


def write_random(
    path: Path,
    config: dict[str, Any],
    bits: Sequence[int],
    granularity: Granularity | None = None,
    split: str = "gate",
    words: Path | None = None,
) -> Path:
    """Write a model of that configuration, and its words.txt if there is none yet; return its path.

    Args:
      bits: of units in turn.
    """
    torch.manual_seed(1)
    model = build(ModelConfig.from_dict({**VOCABULARY, **config}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(4.0)  # so that words differ in probability
            elif not name.endswith("clip"):
                parameter.uniform_(-0.5, 0.5)
    names = [unit.name for unit in model.units(split)]
    precision = PrecisionMap({name: bits[i % len(bits)] for i, name in enumerate(names)})
    units = matching_units(model, precision)
    quantized = quantize_units(model.state_dict(), units, precision, granularity or Granularity())
    load_weights(model, tensors_on_grid(model.state_dict(), units, precision, quantized), where="test")
    if words is None:
        words = path.parent / "words.txt"
        symbols = ["<eps>", "<s>", "</s>", *map(str, range(30))]
        words.write_text("".join(f"{word} {i}\n" for i, word in enumerate(symbols)))
    write_packed(path, model, precision, quantized, sha256_of(words), {"verb": "test"})
    return path


def sentences() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the hypotheses of three lattices, one of them empty, one without words."""
    rng = np.random.default_rng(0)
    lengths = np.array([0, *rng.integers(1, 7, 40)])
    return np.array([0, 20, 20, 41]), np.r_[0, np.cumsum(lengths)], rng.integers(3, 33, lengths.sum())
