# SPDX-License-Identifier: Apache-2.0
"""``mpq score wer``: a sweep over every set, the best point on dev, and what is written about it.

Not here: best paths (`sweep`), how they are scored (`judge`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kaldi_mpq.artefact import stamp, write_json
from kaldi_mpq.errors import ScoringError
from kaldi_mpq.score.aligned import Aligned, by_speaker, total, write_per_spk, write_per_utt
from kaldi_mpq.score.error_counts import ErrorCounts
from kaldi_mpq.score.inputs import ScoredSet, check_inputs, parse_sets
from kaldi_mpq.score.judge import StmJudge, TextJudge
from kaldi_mpq.score.settings import WerSettings
from kaldi_mpq.score.significance import bootstrap
from kaldi_mpq.score.sweep import Point, Sweep, points_of, sweep_lattices
from kaldi_mpq.settings import as_plain
from kaldi_mpq.text.vocab import read_words

__all__ = ["score_wer"]

log = logging.getLogger(__name__)


def score_wer(settings: WerSettings) -> str:
    """Write ``wer.json`` and each set's alignments and reports; return a line ``%WER ...`` for each set.

    Raises:
      MissingInputError: naming every input that is missing.
      ScoringError, LatticeError, TextError: references, lattices or reports that cannot be used.
    """
    sets = parse_sets(settings.dev, settings.eval)
    lattices = check_inputs(sets, settings.words, settings.mode)
    words = read_words(settings.words)
    points = points_of(settings.min_lmwt, settings.max_lmwt, settings.word_ins_penalty)
    judges = {one.name: (StmJudge if settings.mode == "stm" else TextJudge)(one, settings) for one in sets}
    sweeps, counts = {}, {}
    for one in sets:
        judge = judges[one.name]
        sweep = sweeps[one.name] = sweep_lattices(lattices[one.name], points, words, with_times=settings.mode == "stm")
        sweep.require_references(judge.references, one.data)
        counts[one.name] = judge.sweep_counts(sweep)
        log.info("%s: %d utterances at %d points by %s", one.name, len(sweep.hypotheses), len(points), judge.name)
    best = _best(points, counts[sets[0].name])
    (settings.out / "wer.json").unlink(missing_ok=True)  # of an earlier run: it must not stand over this one's reports
    results = {}
    for one in sets:
        aligned = judges[one.name].report(sweeps[one.name], best, settings.out / one.name)
        results[one.name] = _result(one, judges[one.name].references, sweeps[one.name], counts[one.name], aligned)
        if total(aligned) != counts[one.name][points.index(best)]:
            raise ScoringError("other counts the second time", where=one.decode, found=total(aligned))
        write_per_utt(settings.out / one.name / "per_utt", aligned)
        write_per_spk(settings.out / one.name / "per_spk", by_speaker(aligned))
    inputs = [settings.words, *(path for paths in lattices.values() for path in paths)]
    write_json(settings.out / "wer.json", _summary(settings, best, judges[sets[0].name].name, results, inputs))
    return "\n".join(_line(name, result, best) for name, result in results.items())


def _best(points: Sequence[Point], counts: Sequence[ErrorCounts]) -> Point:
    """Return the point with the fewest errors, the first among equals."""
    return points[min(range(len(points)), key=lambda index: counts[index].errors)]


def _result(
    one: ScoredSet, references: Sequence[str], sweep: Sweep, counts: Sequence[ErrorCounts], aligned: Sequence[Aligned]
) -> dict[str, Any]:
    missing = [name for name in references if name not in sweep.hypotheses]
    if missing:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        log.warning("%s: %d utterance(s) without a hypothesis count as deleted: %s", one.name, len(missing), listed)
    interval = bootstrap(aligned)
    own_best = _best(sweep.points, counts)
    return {
        "data_dir": str(one.data),
        "decode_dir": str(one.decode),
        **total(aligned).to_dict(),
        "wer_95": [interval.low, interval.high],
        "without_hypothesis": missing,
        "own_best": _row(own_best, counts[sweep.points.index(own_best)]),
        "sweep": [_row(point, count) for point, count in zip(sweep.points, counts)],
        "speakers": {speaker: count.to_dict() for speaker, count in by_speaker(aligned).items()},
        "per_utt": f"{one.name}/per_utt",
    }


def _row(point: Point, counts: ErrorCounts) -> dict[str, Any]:
    return {"lmwt": point.lmwt, "word_ins_penalty": point.word_ins_penalty, **counts.to_dict()}


def _summary(
    settings: WerSettings, best: Point, scorer: str, results: dict[str, Any], inputs: Sequence[Path]
) -> dict[str, Any]:
    penalties = ",".join(f"{penalty:g}" for penalty in settings.word_ins_penalty)
    parts = {
        "scorer": scorer,
        "mode": settings.mode,
        "case": settings.case if settings.mode == "text" else "fold",
        "ignored": ",".join(settings.ignore_words) or "none",
        "lmwt": f"{settings.min_lmwt}-{settings.max_lmwt}",
        "wip": penalties,
        "tuned_on": next(iter(results)),
    }
    return {
        "signature": "|".join(f"{name}:{value}" for name, value in parts.items()),
        "best": {"lmwt": best.lmwt, "word_ins_penalty": best.word_ins_penalty},
        "sets": results,
        "made_by": stamp("score wer", as_plain(settings), inputs),
    }


def _line(name: str, result: dict[str, Any], best: Point) -> str:
    counts = ErrorCounts.from_dict(result)
    low, high = result["wer_95"]
    return f"{counts} {name} at {best} (95%: {low:.2f} to {high:.2f}; own best {result['own_best']['wer']:.2f})"
