# SPDX-License-Identifier: Apache-2.0
"""Widths by architecture search: train a supernet, read the widths off its architecture weights, fit the budget.

    softmax (printed):  weights and architecture weights together, on the training text
    gumbel:             weights on sampled one-hot paths; then, on text held out from that, architecture weights alone

Result: the width of the largest architecture weight of each unit, brought under the budget (`choice`). Not here: the
supernet (`supernet`), the size in the loss (`size_price`), the loop (`lm.train`), weights for the result (`fit`).

Paper: Xu et al., TASLP 2021, section V-C; the two stages: Xu et al., arXiv 2206.11643.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.settings import OptimSettings
from kaldi_mpq.lm.train import Trainer
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.search.allocate import Item
from kaldi_mpq.search.choice import choose_widths, most_likely
from kaldi_mpq.search.problem import Found, Problem
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.search.size_price import SizePrice, candidates
from kaldi_mpq.search.step_log import StepLog
from kaldi_mpq.search.supernet import SupernetObjective
from kaldi_mpq.search.training import loop_settings, sizes_of, trainable_copy
from kaldi_mpq.text.corpus import Corpus

__all__ = ["hold_out", "search_nas"]


def search_nas(
    problem: Problem, settings: SearchSettings, train: Corpus, dev: Corpus, made_with: dict[str, Any]
) -> Found:
    """Return the widths found, and what is worth knowing of the search.

    Checkpoints and ``architecture.jsonl`` (shares and expected bytes by step) are in the settings' ``out``.

    Args:
      problem: model and budget.
      train, dev: texts; the latter is only reported on.
      made_with: settings that a checkpoint must share to be resumed.
    Raises:
      ConfigError: there is a checkpoint of other settings, or too little text.
    """
    torch.manual_seed(settings.seed)
    items = sizes_of(problem)
    widths = candidates(items)
    objective = _make_supernet(problem, settings, items, widths)
    if settings.nas_mixture == "softmax":
        mixture = _run(objective, "softmax", loop_settings(settings), train, dev, settings.out, made_with)
    else:
        weights_text, held_out = hold_out(train, settings.nas_held_out)
        _run(objective, "uniform", loop_settings(settings), weights_text, dev, settings.out, made_with)
        objective.logits.rate_factor = 1.0
        alone = loop_settings(settings, epochs=settings.nas_epochs, learning_rate=settings.nas_rate,
                              schedule="constant", warmup_steps=0, validate_every=settings.nas_epochs)  # fmt: skip
        mixture = _run(objective, "gumbel", alone, held_out, dev, settings.out, made_with)
    shares = objective.shares().detach().cpu()
    chosen = choose_widths(items, widths, shares, problem.capacity)
    wanted = most_likely(items, widths, shares)
    price = objective.price.cpu()
    details = {
        "widths": list(widths),
        "shares": {item.name: row for item, row in zip(items, shares.tolist())},
        "expected_bytes": problem.fixed_bytes + float(price.expected_bytes(shares)),
        "price": float(price.price),
        "mixture_dev_perplexity": mixture,
        "most_likely_bits": wanted,
        "most_likely_bytes": problem.file_bytes(wanted),
        "changed_for_the_budget": sum(wanted[name] != bits for name, bits in chosen.items()),
    }
    return Found(chosen, details)


def _make_supernet(
    problem: Problem, settings: SearchSettings, items: Sequence[Item], widths: Sequence[int]
) -> SupernetObjective:
    rate = settings.price_rate
    if settings.nas_penalty == "sqrt-bits":
        rate /= len(items)  # the printed penalty is a sum over units: this makes the rate that of their mean
    price = SizePrice(items, widths, problem.capacity, penalty=settings.nas_penalty, price=settings.price, rate=rate)
    return SupernetObjective(
        trainable_copy(problem.model, settings.dropout),
        problem.groups,
        widths,
        Granularity(settings.granularity, settings.block),
        price,
        temperatures=(settings.nas_temperature, settings.nas_final_temperature),
        architecture_rate=settings.nas_rate / settings.learning_rate,
        log=StepLog(settings.out / "architecture.jsonl"),
    )


def hold_out(corpus: Corpus, part: float) -> tuple[Corpus, Corpus]:
    """Return the corpus without its last ``part`` of utterances, and these; cut between conversations if there are any.

    Raises:
      ConfigError: nothing would be left of one of the two.
    """
    count = len(corpus)
    cut = count - max(1, round(part * count))
    begins = [i for i in range(1, count) if corpus.conversation[i] != corpus.conversation[i - 1]]
    if begins:
        cut = min(begins, key=lambda begin: abs(begin - cut))
    if not 0 < cut < count:
        raise ConfigError("too little text to hold some out", expected="2 utterances or more", found=count)
    return _slice(corpus, 0, cut), _slice(corpus, cut, count)


def _run(
    objective: SupernetObjective,
    stage: str,
    settings: OptimSettings,
    train: Corpus,
    dev: Corpus,
    out: Path,
    made_with: dict[str, Any],
) -> float:
    """Train one stage to its end and return the dev perplexity of its mixture."""
    objective.begin(stage)
    trainer = Trainer(objective, settings, train, dev, out / stage)
    objective.total_steps = trainer.total_steps
    return trainer.run({**made_with, "stage": stage})


def _slice(corpus: Corpus, begin: int, end: int) -> Corpus:
    offsets = corpus.offsets[begin : end + 1]
    words = corpus.words[offsets[0] : offsets[-1]]
    return Corpus(words, offsets - offsets[0], corpus.conversation[begin:end])
