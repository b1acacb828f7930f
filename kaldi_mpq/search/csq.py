# SPDX-License-Identifier: Apache-2.0
"""Widths and values at once by continuous sparsification of bits: `mpq search --method csq` needs no `mpq fit`.

Not here: planes and masks in training (`planes`), the planes of a matrix (`quant.bit_planes`), the loop (`lm.train`).

Paper: Xiao et al., "CSQ: growing mixed-precision quantization scheme with bi-level continuous sparsification", 2022
(arXiv 2212.02770).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kaldi_mpq.lm.train import Trainer
from kaldi_mpq.precision import FLOAT_BITS
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import GRID_BITS
from kaldi_mpq.quant.quantized import Quantized
from kaldi_mpq.search.allocate import Item
from kaldi_mpq.search.planes import PlanesObjective, first_shares
from kaldi_mpq.search.problem import Found, Problem
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.search.size_price import SizePrice
from kaldi_mpq.search.step_log import StepLog
from kaldi_mpq.search.training import loop_settings, sizes_of, trainable_copy
from kaldi_mpq.text.corpus import Corpus

__all__ = ["Fitted", "search_csq"]


@dataclass(frozen=True)
class Fitted:
    """What training on the found widths left: float tensors by name, and every unit of 1 to 8 bits on its grid."""

    tensors: Mapping[str, Tensor]
    quantized: Mapping[str, Quantized]


def search_csq(
    problem: Problem, settings: SearchSettings, train: Corpus, dev: Corpus, made_with: dict[str, Any]
) -> tuple[Found, Fitted]:
    """Return the widths found, and the weights trained with them.

    Checkpoint and ``architecture.jsonl`` (shares of widths and expected bytes by step) are in the settings' ``out``.

    Args:
      problem: model and budget; where a unit may be quantized, floating-point widths are not considered.
      train, dev: texts; the latter is only reported on.
      made_with: settings that a checkpoint must share to be resumed.
    Raises:
      ConfigError: there is a checkpoint of other settings, or too little text.
    """
    torch.manual_seed(settings.seed)
    items, kept, capacity = _split(problem)
    price = SizePrice(
        items,
        GRID_BITS,
        capacity,
        penalty="bytes",
        price=settings.price,
        rate=settings.price_rate,
        shares=first_shares(items),
    )
    objective = PlanesObjective(
        trainable_copy(problem.model, settings.dropout),
        problem.groups,
        items,
        Granularity(settings.granularity, settings.block),
        price,
        betas=(settings.csq_beta, settings.csq_final_beta),
        mask_beta=settings.csq_mask_beta,
        mask_part=settings.csq_mask_part,
        mask_rate=settings.csq_mask_rate / settings.learning_rate,
        log=StepLog(settings.out / "architecture.jsonl"),
    )
    trainer = Trainer(objective, loop_settings(settings), train, dev, settings.out / "csq")
    objective.total_steps = trainer.total_steps
    dev_perplexity = trainer.run({**made_with, "stage": "csq"})
    objective.cpu()
    found = objective.bits()
    bits = {group.name: found.get(group.name, kept.get(group.name)) for group in problem.groups}
    details = {"dev_perplexity": dev_perplexity, "price": float(price.price), "choosing_step": objective.choosing_step}
    return Found(bits, details), Fitted(objective.tensors(), objective.quantized())


def _split(problem: Problem) -> tuple[list[Item], dict[str, int], int]:
    """Return what gets planes, the width of what stays in floating point, and the bytes that the former may take."""
    items, kept, capacity = [], {}, problem.capacity
    for item in sizes_of(problem):
        gridded = [j for j, bits in enumerate(item.bits) if bits in GRID_BITS]
        if gridded:
            chosen = ([each[j] for j in gridded] for each in (item.bits, item.bytes, item.costs))
            items.append(Item(item.name, *map(tuple, chosen)))
        else:
            kept[item.name] = min(bits for bits in item.bits if bits in FLOAT_BITS)
            capacity -= item.bytes[item.bits.index(kept[item.name])]
    return items, kept, capacity
