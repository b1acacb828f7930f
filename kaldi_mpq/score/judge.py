# SPDX-License-Identifier: Apache-2.0
"""The hypotheses of a sweep against a reference: a text, utterance by utterance, or an stm, by times.

Not here: best paths (`sweep`), alignments (`sclite`, `align`, `stm`), which point is best (`run`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from kaldi_mpq.errors import ScoringError
from kaldi_mpq.score.align import KaldialignScorer
from kaldi_mpq.score.aligned import Aligned, Utterance, total
from kaldi_mpq.score.ctm import Recordings, ctm_lines, frame_shift_of
from kaldi_mpq.score.error_counts import ErrorCounts
from kaldi_mpq.score.inputs import ScoredSet, WordFilter, read_table
from kaldi_mpq.score.sclite import ScliteScorer
from kaldi_mpq.score.sctk import Sctk
from kaldi_mpq.score.settings import TuneSettings, WerSettings
from kaldi_mpq.score.stm import StmScorer
from kaldi_mpq.score.sweep import Point, Sweep

__all__ = ["StmJudge", "TextJudge"]

log = logging.getLogger(__name__)

_INSTALL = "install it (Debian: apt-get install sctk), or set KALDI_ROOT to a Kaldi with tools/sctk"


class TextJudge:
    """Scores against ``text``: every different hypothesis of an utterance once.

    Raises:
      TextError, ScoringError: a malformed text, an utterance without a speaker, or no sclite where it was asked for.
    """

    def __init__(self, one: ScoredSet, settings: TuneSettings | WerSettings) -> None:
        texts = read_table(one.data / "text")
        speakers = read_table(one.data / "utt2spk")
        without = [name for name in texts if len(speakers.get(name, ())) != 1]
        if without:
            raise ScoringError("utterances without a speaker", where=one.data / "utt2spk", found=", ".join(without[:5]))
        self._filter = WordFilter.make(settings.case, settings.ignore_words)
        self._texts = {name: self._filter(text) for name, text in texts.items()}
        self._speakers = {name: speakers[name][0] for name in texts}
        self._scorer = _text_scorer(settings.scorer)
        self.name = self._scorer.name
        self.references = tuple(texts)

    def sweep_counts(self, sweep: Sweep) -> list[ErrorCounts]:
        """Return the errors at each point; an utterance without hypotheses is deleted."""
        by_hypothesis, deleted = self.hypothesis_counts(
            {name: [hypothesis.words for hypothesis in found] for name, found in sweep.hypotheses.items()}
        )
        return [
            deleted + ErrorCounts.total(by_hypothesis[name][numbers[index]] for name, numbers in sweep.choices.items())
            for index in range(len(sweep.points))
        ]

    def hypothesis_counts(
        self, hypotheses: Mapping[str, Sequence[Sequence[str]]]
    ) -> tuple[dict[str, list[ErrorCounts]], ErrorCounts]:
        """Return the errors of each hypothesis of each utterance, and those of references without any: deleted."""
        missing = [name for name in self.references if name not in hypotheses]
        pairs = [(self._texts[name], self._filter(words)) for name, found in hypotheses.items() for words in found]
        distinct = dict.fromkeys(pairs)
        counts = self._scorer.count([*distinct, *((self._texts[name], ()) for name in missing)])
        count_of = dict(zip(distinct, counts))
        each = iter(pairs)
        by_hypothesis = {name: [count_of[next(each)] for _ in found] for name, found in hypotheses.items()}
        return by_hypothesis, ErrorCounts.total(counts[len(distinct) :])

    def report(self, sweep: Sweep, point: Point, directory: Path) -> list[Aligned]:
        """Return all alignments at one point and leave the scorer's reports in ``directory``."""
        hypotheses = sweep.at(point)
        utterances = [
            Utterance(
                name, self._speakers[name], ref, self._filter(hypotheses[name].words) if name in hypotheses else ()
            )
            for name, ref in self._texts.items()
        ]
        return self._scorer.report(utterances, directory)


class StmJudge:
    """Scores words with times against ``stm``.

    Raises:
      TextError, ScoringError: malformed segments or stm, or there is no SCTK.
    """

    def __init__(self, one: ScoredSet, settings: WerSettings) -> None:
        sctk = Sctk.find()
        if sctk is None:
            raise ScoringError("scoring an stm needs SCTK", hint=_INSTALL)
        self._recordings = Recordings.read(one.data)
        self._shift = settings.frame_shift or frame_shift_of(one.decode)
        log.info("%s: %.3f s a frame", one.name, self._shift)
        self._ignored = settings.ignore_words
        glm = one.data / "glm"
        directory = settings.out / one.name
        directory.mkdir(parents=True, exist_ok=True)
        self._scorer = StmScorer(sctk, one.data / "stm", glm if glm.exists() else None, directory)
        self.name = self._scorer.name
        self.references = tuple(self._recordings.segments)

    def sweep_counts(self, sweep: Sweep) -> list[ErrorCounts]:
        """Return the errors at each point."""
        with tempfile.TemporaryDirectory(prefix="mpq_stm_") as directory:
            return [total(self._scorer.score(self._ctm(sweep, point), Path(directory))) for point in sweep.points]

    def report(self, sweep: Sweep, point: Point, directory: Path) -> list[Aligned]:
        """Return all alignments at one point and leave sclite's reports in ``directory``."""
        return self._scorer.score(self._ctm(sweep, point), directory, ("sum", "rsum", "pralign", "dtl", "sgml"))

    def _ctm(self, sweep: Sweep, point: Point) -> list[str]:
        return ctm_lines(sweep.at(point), self._recordings, self._shift, self._ignored)


def _text_scorer(wanted: str) -> ScliteScorer | KaldialignScorer:
    sctk = None if wanted == "kaldialign" else Sctk.find()
    if sctk is None and wanted == "sclite":
        raise ScoringError("no sclite", expected="on PATH, in /usr/lib/sctk/bin or under KALDI_ROOT", hint=_INSTALL)
    if sctk is None and wanted == "auto":
        log.info("no sclite found: kaldialign scores, with the same counts (%s)", _INSTALL)
    return KaldialignScorer() if sctk is None else ScliteScorer(sctk)
