# SPDX-License-Identifier: Apache-2.0
"""``mpq score tune``: the weights of the language models with the fewest errors on dev, from kept scores.

Not here: the search itself (`tune_search`), and how errors are counted (`judge`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kaldi_mpq.artefact import require, stamp, write_json, writing
from kaldi_mpq.errors import LatticeError, ScoringError
from kaldi_mpq.native.decode_dir import expected_archives
from kaldi_mpq.native.kept_scores import KeptScores
from kaldi_mpq.score.error_counts import ErrorCounts
from kaldi_mpq.score.inputs import ScoredSet, parse_sets
from kaldi_mpq.score.judge import TextJudge
from kaldi_mpq.score.settings import TuneSettings
from kaldi_mpq.score.tune_plot import plot_curves
from kaldi_mpq.score.tune_search import Axis, Candidates, Search
from kaldi_mpq.settings import as_plain
from kaldi_mpq.text.vocab import read_words

__all__ = ["read_scores", "tune_weights"]

log = logging.getLogger(__name__)

_STEP, _FINE_STEP = 0.05, 0.01  # of language model weights
_BONUS_STEP, _FINE_BONUS_STEP = 0.1, 0.02


def tune_weights(settings: TuneSettings) -> str:
    """Write ``tune.json``, ``fusion.yaml`` and ``tune.png``; return the error rate with the weights found.

    Raises:
      MissingInputError: naming every input that is missing.
      ScoringError, LatticeError, TextError: references or scores that cannot be used.
    """
    (one,) = parse_sets(settings.dev, ())
    require([settings.words, one.data / "text", one.data / "utt2spk"])
    kept = read_scores(one.decode)
    judge = TextJudge(one, settings)
    counts, never = _count_errors(kept, judge, read_words(settings.words), one)
    started = time.monotonic()
    plan = _Plan.make(settings, kept)
    scored = kept.select(np.flatnonzero(np.diff(kept.lattice_offsets)))  # the others have no paths
    errors = np.array([one.errors for one in counts], np.int64)
    candidates = Candidates(scored.lattice_offsets, errors, scored.graph, plan.features(scored))
    search = Search(candidates, plan.axes)
    point, _ = search.run(plan.start, settings.starts, settings.seed)

    def total(at: Sequence[float]) -> ErrorCounts:
        chosen = scored.lattice_offsets[:-1] + candidates.best(search.factors(at))
        return never + ErrorCounts.total(counts[path] for path in chosen.tolist())

    before = min((plan.with_lmwt(lmwt) for lmwt in plan.axes[0].grid), key=lambda at: search.errors(at))
    seconds = time.monotonic() - started
    log.info("%d candidates in %.1f s: %.0f/s", candidates.tried, seconds, candidates.tried / max(seconds, 1e-9))
    oracle = never.errors + sum(int(errors[_paths_of(scored, row)].min()) for row in range(len(scored)))
    _write(settings, one, plan, search, (point, total(point)), (before, total(before)), oracle, never.errors)
    return (
        f"{total(point)} {one.name} at {plan.named(point)}; {total(before).wer:.2f} at {plan.named(before)}; "
        f"{100.0 * oracle / max(total(point).ref_words, 1):.2f} oracle; "
        f"{candidates.tried} candidates in {seconds:.1f} s"
    )


def read_scores(decode: Path) -> KeptScores:
    """Return the kept scores of all jobs of a decode directory.

    Raises:
      MissingInputError: naming every job without scores.
      ScoringError: a damaged file, jobs with different language models, or no utterance at all.
      LatticeError: an utterance is there twice.
    """
    paths = [archive.with_name(f"scores.{job}.npz") for job, archive in enumerate(expected_archives(decode), start=1)]
    require([decode / "num_jobs", *paths], hint="mpq rescore nbest --keep-scores true writes scores.J.npz")
    parts = [KeptScores.load(path) for path in paths]
    for path, part in zip(paths, parts):
        ours, theirs = _models(parts[0]), _models(part)
        if ours != theirs:
            raise ScoringError("scores of other language models than those of job 1", where=path, expected=ours,
                               found=theirs, hint="rescore all jobs with the same settings")  # fmt: skip
    kept = KeptScores.concat(parts)
    names, times = np.unique(kept.keys, return_counts=True)
    if (times > 1).any():
        raise LatticeError(f"utterance {names[times > 1][0]} is there twice", where=decode)
    if not len(kept):
        raise ScoringError("no scores", where=decode, found="jobs without utterances")
    return kept


@dataclass(frozen=True)
class _Plan:
    """What is looked for, and from where.

    Args:
      axes: LMWT, w_old (unless it is tied), each w_k, rho; those that are not looked for have one value.
      start: the rescoring's weights.
      terms: the new models, as in a fusion file but for their weights.
      tied: w_old is the sum of the w_k.
    """

    axes: tuple[Axis, ...]
    start: tuple[float, ...]
    terms: tuple[Mapping[str, Any], ...]
    tied: bool

    @classmethod
    def make(cls, settings: TuneSettings, kept: KeptScores) -> _Plan:
        """Return the plan for the scores of a directory."""
        fusion = kept.info["fusion"]
        lowest = 0.0 if settings.tie_old else settings.min_weight

        def axis(kind: str, name: str, now: float, grid: np.ndarray, fine: float, inverse: bool = False) -> Axis:
            return Axis(name, np.round(grid, 6) if kind in settings.search else np.array([now]), fine, inverse)

        lmwts = np.arange(settings.min_lmwt, settings.max_lmwt + 1).astype(float)
        lmwt = float(np.clip(round(kept.info["inv_acwt"]), lmwts[0], lmwts[-1]))
        start = [lmwt if "lmwt" in settings.search else float(kept.info["inv_acwt"])]
        axes = [axis("lmwt", "LMWT", start[0], lmwts, 0.0, True)]
        if not settings.tie_old:
            start.append(fusion["old_weight"])
            axes.append(axis("old_weight", "old weight", start[-1], _grid(0.0, settings.max_weight, _STEP), _FINE_STEP))
        for term in fusion["terms"]:
            start.append(term["weight"])
            grid = _grid(lowest, settings.max_weight, _STEP)
            name = f"weight of {term['lm']}{' backward' if term.get('backward') else ''}"
            axes.append(axis("weights", name, start[-1], grid, _FINE_STEP))
        start.append(fusion["word_bonus"])
        grid = _grid(-settings.max_bonus, settings.max_bonus, _BONUS_STEP)
        axes.append(axis("word_bonus", "word bonus", start[-1], grid, _FINE_BONUS_STEP))
        terms = tuple({name: value for name, value in term.items() if name != "weight"} for term in fusion["terms"])
        return cls(tuple(axes), tuple(map(float, start)), terms, settings.tie_old)

    def features(self, scored: KeptScores) -> np.ndarray:
        """Return (J, P) what each axis's factor multiplies."""
        per_utterance = np.diff(scored.lattice_offsets)
        words = np.where(np.repeat(scored.unchanged, per_utterance), 0, scored.num_words)  # those get no bonus
        terms = scored.terms - scored.old if self.tied else np.concatenate([[-scored.old], scored.terms])
        return np.concatenate([[scored.acoustic], terms, [-words]])

    def with_lmwt(self, lmwt: float) -> list[float]:
        """Return the start with another LMWT."""
        return [float(lmwt), *self.start[1:]]

    def fusion(self, point: Sequence[float]) -> dict[str, Any]:
        """Return what a fusion file says at a point."""
        *weights, bonus = [round(value, 6) for value in point[1:]]
        old = round(sum(weights), 6) if self.tied else weights.pop(0)
        terms = [{**term, "weight": weight} for term, weight in zip(self.terms, weights)]
        return {"old_weight": old, "word_bonus": bonus, "terms": terms}

    def named(self, point: Sequence[float]) -> str:
        """Return a point for people."""
        fusion = self.fusion(point)
        weights = " ".join(f"{term['weight']:g}" for term in fusion["terms"])
        return (
            f"LMWT {point[0]:g}, old weight {fusion['old_weight']:g}, weight(s) {weights}, "
            f"word bonus {fusion['word_bonus']:g}"
        )


def _count_errors(
    kept: KeptScores, judge: TextJudge, words: Sequence[str], one: ScoredSet
) -> tuple[list[ErrorCounts], ErrorCounts]:
    """Return the errors of each of P hypotheses, and those of references without any: deleted."""
    if len(kept.words) and int(kept.words.max()) >= len(words):
        raise LatticeError("word ids beyond words.txt", where=one.decode, expected=f"0 to {len(words) - 1}",
                           found=int(kept.words.max()))  # fmt: skip
    strangers = sorted(set(kept.keys.tolist()) - set(judge.references))
    if strangers:
        hint = "does the decode directory belong to this data directory?"
        raise ScoringError(f"{len(strangers)} utterance(s) without a reference", where=one.data,
                           found=", ".join(strangers[:5]), hint=hint)  # fmt: skip
    names = [words[number] for number in kept.words.tolist()]
    offsets = kept.word_offsets.tolist()
    hypotheses = {
        str(key): [names[offsets[path] : offsets[path + 1]] for path in _paths_of(kept, row)]
        for row, key in enumerate(kept.keys)
        if len(_paths_of(kept, row))
    }
    by_hypothesis, never = judge.hypothesis_counts(hypotheses)
    missing = len(judge.references) - len(hypotheses)
    if missing:
        log.warning("%s: %d utterance(s) without a hypothesis count as deleted", one.name, missing)
    return [count for found in by_hypothesis.values() for count in found], never


def _write(
    settings: TuneSettings,
    one: ScoredSet,
    plan: _Plan,
    search: Search,
    best: tuple[Sequence[float], ErrorCounts],
    before: tuple[Sequence[float], ErrorCounts],
    oracle: int,
    deleted: int,
) -> None:
    """Write the artefacts, those of an earlier run out of the way first."""
    for name in ("tune.json", "fusion.yaml", "tune.png"):
        (settings.out / name).unlink(missing_ok=True)
    curves = {
        name: {"values": values.tolist(), "errors": (errors + deleted).tolist()}
        for name, (values, errors) in search.curves.items()
    }
    with writing(settings.out / "fusion.yaml") as temporary:
        text = yaml.safe_dump(plan.fusion(best[0]), sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")
    if settings.plot and curves:
        plot_curves(settings.out / "tune.png", curves, best[1].ref_words, one.name)
    report = {
        name: {"lmwt": point[0], "word_ins_penalty": 0.0, "fusion": plan.fusion(point), one.name: counts.to_dict()}
        for name, (point, counts) in (("best", best), ("before", before))
    }
    jobs = len(expected_archives(one.decode))
    inputs = [one.data / "text", *(one.decode / f"scores.{job}.npz" for job in range(1, jobs + 1))]
    searched = {axis.name: [float(axis.grid[0]), float(axis.grid[-1])] for axis in plan.axes if len(axis.grid) > 1}
    made_by = stamp("score tune", as_plain(settings), inputs)
    more = {"oracle_errors": oracle, "searched": searched, "candidates": search.candidates.tried, "curves": curves}
    write_json(settings.out / "tune.json", {**report, **more, "made_by": made_by})


def _grid(first: float, last: float, step: float) -> np.ndarray:
    return np.arange(int((last - first) / step + 1e-9) + 1) * step + first


def _paths_of(kept: KeptScores, row: int) -> range:
    return range(int(kept.lattice_offsets[row]), int(kept.lattice_offsets[row + 1]))


def _models(kept: KeptScores) -> dict[str, Any]:
    """Return what must agree between jobs."""
    return {"inv_acwt": kept.info["inv_acwt"], **kept.info["fusion"]}
