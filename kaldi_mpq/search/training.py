# SPDX-License-Identifier: Apache-2.0
"""What the searches that train have in common: a copy of the model to train, and the settings of the training loop.

Not here: the loop (`lm.train`), and what is trained (`supernet`, `planes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from kaldi_mpq.lm.model import LanguageModel, build
from kaldi_mpq.lm.settings import OptimSettings
from kaldi_mpq.precision import Unit
from kaldi_mpq.search.allocate import Item
from kaldi_mpq.search.problem import Problem
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.search.units import Group

__all__ = ["loop_settings", "matrices_of", "sizes_of", "trainable_copy"]


def trainable_copy(model: LanguageModel, dropout: float | None) -> LanguageModel:
    """Return a copy of a model, with another dropout unless that is None."""
    config = model.config if dropout is None else replace(model.config, dropout=dropout)
    copy = build(config)
    copy.load_state_dict(model.state_dict())
    return copy


def loop_settings(settings: SearchSettings, **changes: Any) -> OptimSettings:
    """Return the training loop's settings."""
    return OptimSettings(
        **{
            "learning_rate": settings.learning_rate,
            "epochs": settings.epochs,
            "batch_tokens": settings.train_tokens,
            "checkpoint_minutes": settings.checkpoint_minutes,
            "warmup_steps": 20,
            "context": settings.context,
            "seed": settings.seed,
            "device": settings.device,
            "threads": settings.threads,
            **changes,
        }
    )


def matrices_of(groups: Sequence[Group]) -> Iterator[tuple[str, list[Unit], list[int]]]:
    """Yield the name of each matrix, its units from its first row to its last, and the number of each one's group."""
    found: dict[str, list[tuple[int, Unit, int]]] = {}
    for number, group in enumerate(groups):
        for unit in group.units:
            found.setdefault(unit.parameter, []).append((unit.start, unit, number))
    for parameter, entries in found.items():
        entries.sort(key=lambda entry: entry[0])
        yield parameter, [unit for _, unit, _ in entries], [number for _, _, number in entries]


def sizes_of(problem: Problem) -> list[Item]:
    """Return the problem's groups with widths and bytes, at no cost each."""
    return problem.items({name: dict.fromkeys(sizes, 0.0) for name, sizes in problem.bytes.items()})
