# SPDX-License-Identifier: Apache-2.0
"""Sensitivities of all parts of a model at all their widths, measured once and kept in ``sensitivity.tsv``.

Not here: the measures themselves (`kl`, `hessian`), nor what is done with the numbers (`measured`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kaldi_mpq.artefact import read_json, sha256_of, write_json
from kaldi_mpq.errors import ConfigError, NumericalError
from kaldi_mpq.lm.batches import Batch
from kaldi_mpq.lm.perplexity import corpus_batches
from kaldi_mpq.pack.prototypes import Prototypes
from kaldi_mpq.precision import Unit
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.search.hessian import Trace, estimate_traces
from kaldi_mpq.search.kl import DivergenceMeter
from kaldi_mpq.search.problem import Problem
from kaldi_mpq.search.sample import draw_sample
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.search.table import SensitivityTable
from kaldi_mpq.search.units import Group
from kaldi_mpq.text.corpus import Corpus

__all__ = ["COLUMNS", "Costs", "Measures"]

log = logging.getLogger(__name__)
Costs = dict[str, dict[int, float]]  # group -> bits -> sensitivity

COLUMNS = {"kl": ("kl_vocabulary", "kl_word"), "hessian": ("trace", "standard_error", "distance")}


class Measures:
    """Sensitivities by one measure, read from ``sensitivity.tsv`` or measured and put there.

    Args:
      problem: whose parts and widths.
      settings: of the search.
      name: ``kl`` or ``hessian``.
    Raises:
      MissingInputError, TextError: no text to measure on.
      ConfigError: ``settings.reuse`` was made of other inputs.
    """

    def __init__(self, problem: Problem, settings: SearchSettings, name: str) -> None:
        self.problem, self.settings, self.name = problem, settings, name
        granularity = Granularity(settings.granularity, settings.block)
        self.prototypes = Prototypes(problem.model, granularity, settings.prototypes)
        made_from = _made_from(settings, name, self.prototypes)
        self.table = SensitivityTable(settings.out / "sensitivity.tsv", made_from, COLUMNS[name])
        _take_what_is_there(self.table, settings)
        self._meter: DivergenceMeter | None = None

    def costs(self, around: str = "float") -> Costs:
        """Return the sensitivity of every group at every width that it may have.

        Args:
          around: ``float``, or the bits that all other groups have (``kl`` only).
        Raises:
          NumericalError: a sensitivity is not finite.
        """
        wanted = [(group, bits) for group in self.problem.groups for bits in self.problem.bytes[group.name]]
        missing = [(group, bits) for group, bits in wanted if (around, group.name, bits) not in self.table]
        if missing:
            log.info("measuring %d sensitivities around %s", len(missing), around)
            try:
                self._measure_kl(around, missing) if self.name == "kl" else self._measure_traces(missing)
            finally:
                if len(self.table):
                    self.table.save()  # an interrupted search goes on from here
        costs: Costs = {group.name: {} for group in self.problem.groups}
        for group, bits in wanted:
            costs[group.name][bits] = _cost(self.table[around, group.name, bits], self.settings, self.name, group)
        self._save_with(around, costs)
        return costs

    def joint_divergence(self, bits: Mapping[str, int]) -> float:
        """Return the divergence when every group has its width at once, in nats per token."""
        return self.meter.measure(self._values(bits)).vocabulary

    @property
    def meter(self) -> DivergenceMeter:
        """What measures divergences, made when it is first needed."""
        if self._meter is None:
            self._meter = DivergenceMeter(self.problem.model, self._batches(self.settings.sample_tokens))
        return self._meter

    def _measure_kl(self, around: str, missing: list[tuple[Group, int]]) -> None:
        others = {} if around == "float" else self._values({group.name: int(around) for group in self.problem.groups})
        with self.meter.around(others):
            for group, bits in missing:
                found = self.meter.measure({unit: self.prototypes.values(unit, bits) for unit in group.units})
                self.table.put((around, group.name, bits), kl_vocabulary=found.vocabulary, kl_word=found.word)

    def _measure_traces(self, missing: list[tuple[Group, int]]) -> None:
        settings, table = self.settings, self.table
        kept = settings.out / "probes.json"
        before = read_json(kept) if kept.exists() else {}
        traces = estimate_traces(
            self.problem.model,
            self.problem.groups,
            self._batches(settings.hessian_tokens),
            probes=settings.probes,
            distribution=settings.probe,
            tolerance=settings.tolerance,
            seed=settings.seed,
            done=before["estimates"] if before.get("made_from") == table.made_from else {},
            after_group=lambda rows: write_json(kept, {"made_from": table.made_from, "estimates": rows}),
        )
        for group, bits in missing:
            errors = [self.prototypes.values(unit, bits) - self.prototypes.float_values(unit) for unit in group.units]
            distance = sum(float(error.double().square().sum()) for error in errors)
            trace, error = traces[group.name].value, traces[group.name].standard_error
            if trace < error and bits == missing[0][1]:
                log.warning("%s: its trace is below its standard error, which is taken in its place", group.name)
            table.put(("float", group.name, bits), trace=trace, standard_error=error, distance=distance)
        table.save()
        kept.unlink(missing_ok=True)

    def _values(self, bits: Mapping[str, int]) -> dict[Unit, Tensor]:
        """Return the weights of every unit at the width of its group."""
        return {
            unit: self.prototypes.values(unit, bits[group.name])
            for group in self.problem.groups
            for unit in group.units
        }

    def _batches(self, tokens: int) -> list[Batch]:
        settings = self.settings
        corpus = Corpus.load(settings.data / f"{settings.sample}.ids")
        sample = draw_sample(corpus, tokens, settings.seed, settings.context)
        log.info("sample: %d utterances, %d tokens", len(sample), sample.num_tokens)
        return list(corpus_batches(self.problem.model, sample, settings.batch_tokens, settings.context))

    def _save_with(self, around: str, costs: Costs) -> None:
        """Write the table with columns for those who read it: sizes, and the sensitivities that were asked for."""
        sizes = self.problem.bytes
        keys = [(around, group, bits) for group in self.problem.groups for bits in costs[group.name]]
        named = [((about, group.name, bits), group) for about, group, bits in keys]
        self.table.save(
            {
                "parameters": {key: group.count for key, group in named},
                "bytes": {key: sizes[group.name][key[2]] for key, group in named},
                "sensitivity": {key: costs[group.name][key[2]] for key, group in named},
            }
        )


def _cost(values: dict[str, float], settings: SearchSettings, name: str, group: Group) -> float:
    """Return the sensitivity that the settings ask for, of measured values."""
    if name == "kl":
        cost = values[f"kl_{settings.kl}"]
    else:
        trace = Trace(values["trace"], values["standard_error"], 0)
        cost = trace.safe * values["distance"] / (group.count if settings.trace == "mean" else 1)
    if not cost - cost == 0.0:
        raise NumericalError(f"unit {group.name}: a sensitivity that is not finite", found=cost)
    return cost


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
