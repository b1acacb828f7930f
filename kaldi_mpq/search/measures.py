# SPDX-License-Identifier: Apache-2.0
"""Sensitivities of all parts of a model at all their widths, measured once and kept in ``sensitivity.tsv``.

Not here: the measures themselves (`kl`, `hessian`), nor what is done with the numbers (`run`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from kaldi_mpq.artefact import read_json, sha256_of, write_json
from kaldi_mpq.errors import ConfigError, NumericalError
from kaldi_mpq.lm.batches import Batch
from kaldi_mpq.lm.perplexity import corpus_batches
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.search.hessian import Trace, estimate_traces
from kaldi_mpq.search.kl import DivergenceMeter
from kaldi_mpq.search.problem import Problem
from kaldi_mpq.search.prototypes import Prototypes
from kaldi_mpq.search.sample import draw_sample
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.search.table import SensitivityTable
from kaldi_mpq.text.corpus import Corpus

__all__ = ["COLUMNS", "Costs", "measure"]

log = logging.getLogger(__name__)
Costs = dict[str, dict[int, float]]  # group -> bits -> sensitivity

COLUMNS = {"kl": ("kl_vocabulary", "kl_word"), "hessian": ("trace", "standard_error", "distance")}


def measure(problem: Problem, settings: SearchSettings, name: str) -> Costs:
    """Return the sensitivity of every group at every width that it may have.

    Args:
      name: ``kl`` or ``hessian``.
    Raises:
      MissingInputError, TextError: no text to measure on.
      ConfigError: ``settings.reuse`` was made of other inputs.
      NumericalError: a sensitivity is not finite.
    """
    prototypes = Prototypes(problem.model, Granularity(settings.granularity, settings.block), settings.prototypes)
    table = SensitivityTable(settings.out / "sensitivity.tsv", _made_from(settings, name, prototypes), COLUMNS[name])
    _take_what_is_there(table, settings)
    wanted = [(group, bits) for group in problem.groups for bits in problem.bytes[group.name]]
    missing = [(group, bits) for group, bits in wanted if (group.name, bits) not in table]
    if missing:
        batches = _batches(problem, settings, settings.sample_tokens if name == "kl" else settings.hessian_tokens)
        log.info("measuring %d sensitivities, %d are there", len(missing), len(table))
        try:
            _MEASURES[name](problem, settings, prototypes, table, missing, batches)
        finally:
            if len(table):
                table.save()  # an interrupted search goes on from here
    costs = {
        group.name: {bits: _cost(table[group.name, bits], settings, name, group) for bits in problem.bytes[group.name]}
        for group in problem.groups
    }
    _save_with_costs(table, problem, costs)
    return costs


def _measure_kl(
    problem: Problem,
    settings: SearchSettings,
    prototypes: Prototypes,
    table: SensitivityTable,
    missing: list[tuple[Any, int]],
    batches: list[Batch],
) -> None:
    del settings
    meter = DivergenceMeter(problem.model, batches)
    for group, bits in missing:
        found = meter.measure({unit: prototypes.values(unit, bits) for unit in group.units})
        table.put(group.name, bits, kl_vocabulary=found.vocabulary, kl_word=found.word)


def _measure_hessian(
    problem: Problem,
    settings: SearchSettings,
    prototypes: Prototypes,
    table: SensitivityTable,
    missing: list[tuple[Any, int]],
    batches: list[Batch],
) -> None:
    kept = settings.out / "probes.json"
    done = {}
    if kept.exists():
        before = read_json(kept)
        done = before["estimates"] if before.get("made_from") == table.made_from else {}
    traces = estimate_traces(
        problem.model,
        problem.groups,
        batches,
        probes=settings.probes,
        distribution=settings.probe,
        tolerance=settings.tolerance,
        seed=settings.seed,
        done=done,
        after_group=lambda rows: write_json(kept, {"made_from": table.made_from, "estimates": rows}),
    )
    for group, bits in missing:
        moved = sum(
            float((prototypes.values(unit, bits) - prototypes.float_values(unit)).double().square().sum())
            for unit in group.units
        )
        trace = traces[group.name]
        if trace.value < trace.standard_error and bits == min(problem.bytes[group.name]):
            log.warning("%s: its trace is below its standard error, which is taken in its place", group.name)
        table.put(group.name, bits, trace=trace.value, standard_error=trace.standard_error, distance=moved)
    table.save()
    kept.unlink(missing_ok=True)


_MEASURES: dict[str, Callable[..., None]] = {"kl": _measure_kl, "hessian": _measure_hessian}


def _cost(values: dict[str, float], settings: SearchSettings, name: str, group: Any) -> float:
    """Return the sensitivity that the settings ask for, of measured values."""
    if name == "kl":
        cost = values[f"kl_{settings.kl}"]
    else:
        trace = Trace(values["trace"], values["standard_error"], 0)
        cost = trace.safe * values["distance"] / (group.count if settings.trace == "mean" else 1)
    if not cost - cost == 0.0:
        raise NumericalError(f"unit {group.name}: a sensitivity that is not finite", found=cost)
    return cost


def _save_with_costs(table: SensitivityTable, problem: Problem, costs: Costs) -> None:
    keys = [(group, bits) for group in problem.groups for bits in costs[group.name]]
    table.save(
        {
            "parameters": {(group.name, bits): group.count for group, bits in keys},
            "bytes": {(group.name, bits): problem.bytes[group.name][bits] for group, bits in keys},
            "sensitivity": {(group.name, bits): costs[group.name][bits] for group, bits in keys},
        }
    )


def _made_from(settings: SearchSettings, name: str, prototypes: Prototypes) -> dict[str, Any]:
    """Return everything that measured values depend on; not: budget, candidates, floors."""
    shared = ("units", "granularity", "block", "sample", "batch_tokens", "context", "seed")
    own = ("hessian_tokens", "probes", "probe", "tolerance") if name == "hessian" else ("sample_tokens",)
    return {
        "measure": name,
        "model": sha256_of(settings.lm / "model.safetensors"),
        "text": sha256_of(settings.data / f"{settings.sample}.ids"),
        "prototypes": prototypes.hashes(),
        **{key: getattr(settings, key) for key in (*shared, *own)},
    }


def _take_what_is_there(table: SensitivityTable, settings: SearchSettings) -> None:
    if settings.reuse is not None:
        other = settings.reuse / "sensitivity.tsv"
        if not other.exists():
            raise ConfigError("no sensitivities to take", where=other, hint="mpq search --method kl makes them")
        different = table.take_from(other)
        if different:
            raise ConfigError("sensitivities of another search", where=other, found=f"other {', '.join(different)}")
    if table.path.exists():
        different = table.take_from(table.path)
        if different:
            log.info("%s: made with other %s, measured anew", table.path, ", ".join(different))


def _batches(problem: Problem, settings: SearchSettings, tokens: int) -> list[Batch]:
    corpus = Corpus.load(settings.data / f"{settings.sample}.ids")
    sample = draw_sample(corpus, tokens, settings.seed, settings.context)
    log.info("sample: %d utterances, %d tokens", len(sample), sample.num_tokens)
    return list(corpus_batches(problem.model, sample, settings.batch_tokens, settings.context))
