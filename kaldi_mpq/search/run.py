# SPDX-License-Identifier: Apache-2.0
"""``mpq search``: a float LM and a budget in, a bit width for every part of it out.

A method is a function from a problem and the settings to the widths it finds; `_METHODS` names them. Not here: the
methods, and training at the widths found (`fit`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from kaldi_mpq.artefact import require, sha256_of, stamp, write_json
from kaldi_mpq.errors import VocabularyError
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.lm.processes import choose_device
from kaldi_mpq.search import trained
from kaldi_mpq.search.baselines import random_bits, uniform_bits
from kaldi_mpq.search.measured import search_hessian, search_inverse, search_kl
from kaldi_mpq.search.plot import plot_bits, plot_tradeoff
from kaldi_mpq.search.problem import Found, Problem, make_problem
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.search.tradeoff import tradeoff
from kaldi_mpq.search.units import precision_of
from kaldi_mpq.settings import as_plain

__all__ = ["search_bits"]


def search_bits(settings: SearchSettings) -> str:
    """Write ``precision.json`` and what led to it into ``settings.out``; return size and sensitivity in one line.

    Raises:
      MissingInputError: naming every input that is not there.
      VocabularyError: the data's words.txt is not the LM's.
      ModelFileError: the LM is damaged or not finite.
      PrecisionError: the budget is below the smallest possible size, or a pattern that no unit has.
    """
    if settings.threads > 0:
        torch.set_num_threads(settings.threads)
    weights = settings.lm / "model.safetensors"
    text = settings.data / f"{settings.sample}.ids"
    require([weights, settings.lm / "words.txt", settings.data / "words.txt", text])
    if sha256_of(settings.lm / "words.txt") != sha256_of(settings.data / "words.txt"):
        raise VocabularyError("not the words.txt that the LM was trained with", where=settings.data / "words.txt")
    problem = make_problem(load_lm(settings.lm), settings)
    problem.model.to(choose_device(settings.device))
    began = time.monotonic()
    found = _METHODS[settings.method](problem, settings)
    seconds = time.monotonic() - began
    if found.bits:
        precision_of(problem.groups, found.bits).write(settings.out / "precision.json")
    result = {
        "method": settings.method,
        "seconds": round(seconds, 3),
        "seed": settings.seed,
        **_sizes(problem, found),
        **found.details,
        "bits": dict(found.bits),
        "made_by": stamp("search", as_plain(settings), [weights, text]),
    }
    write_json(settings.out / "search.json", result)
    summary = (
        f"at most {result['bytes']} bytes of {problem.budget}, {result['ratio']:.2f} times smaller than float32, "
        f"{result['nominal_mean_bits']:.2f} bits nominal"
    )
    if settings.plot:
        _draw(settings, problem, found, f"{settings.method}: {summary}")
    return f"{settings.out}: {summary}, {seconds:.1f} s"


def _draw(settings: SearchSettings, problem: Problem, found: Found, title: str) -> None:
    """Write the pictures that there is something for."""
    if found.bits:
        counts = {group.name: group.count for group in problem.groups}
        plot_bits(settings.out / "bits.png", found.bits, counts, title)
    if found.costs:
        cost = sum(found.costs[name][bits] for name, bits in found.bits.items())
        chosen = (problem.file_bytes(found.bits), cost)
        plot_tradeoff(settings.out / "budgets.png", tradeoff(problem, found.costs), chosen, title)


def _uniform(problem: Problem, settings: SearchSettings) -> Found:
    del settings
    return Found(uniform_bits(problem), {})


def _random(problem: Problem, settings: SearchSettings) -> Found:
    return Found(random_bits(problem, settings.seed), {})


_METHODS: dict[str, Callable[[Problem, SearchSettings], Found]] = {
    "kl": search_kl,
    "hessian": search_hessian,
    "nas": trained.nas,
    "csq": trained.csq,
    "diffq": trained.diffq,
    "uniform": _uniform,
    "random": _random,
    "inverse": search_inverse,
}


def _sizes(problem: Problem, found: Found) -> dict[str, Any]:
    """Return sizes as `size.json` of mpq pack has them; bytes are the most that the file can have."""
    size = problem.file_bytes(found.bits) if found.size is None else found.size
    weights = sum(group.count for group in problem.groups)
    return {
        "budget": problem.budget,
        "bytes": size,
        "parameters": problem.parameters,
        "ratio": 4 * problem.parameters / size,
        "mean_bits": 8 * size / problem.parameters,
        "nominal_mean_bits": sum(group.count * found.bits.get(group.name, 0) for group in problem.groups) / weights,
    }
