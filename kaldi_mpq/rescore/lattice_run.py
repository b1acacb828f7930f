# SPDX-License-Identifier: Apache-2.0
"""``mpq rescore lattice``: a decode directory in, a decode directory of whole rescored lattices out."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from kaldi_mpq import native
from kaldi_mpq.artefact import require
from kaldi_mpq.errors import ConfigError, LatticeError
from kaldi_mpq.lm.carried import carried
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.train import choose_device
from kaldi_mpq.native.decode_dir import DecodeDir
from kaldi_mpq.rescore.automata import Automaton, NeuralAutomaton, NgramAutomaton, WeightedSum
from kaldi_mpq.rescore.composition import Composed, Composer, SearchSettings, Stage, compose_stages
from kaldi_mpq.rescore.lattice_context import rescore_in_context
from kaldi_mpq.rescore.lattice_settings import LatticeSettings
from kaldi_mpq.rescore.old_lm_check import doubt_old_lm
from kaldi_mpq.rescore.progress import RescoringProgress
from kaldi_mpq.rescore.terms import OpenTerm, open_terms
from kaldi_mpq.rescore.turns import Turns
from kaldi_mpq.text.conversations import conversations_of
from kaldi_mpq.text.vocab import read_words

__all__ = ["LatticeRescorer", "LatticeTally", "rescore_lattices"]

log = logging.getLogger(__name__)

_BATCH_ARCS = 200_000


@dataclass(frozen=True)
class LatticeTally:
    """What was read, written and done; tallies add."""

    utterances: int = 0
    passed_through: int = 0
    arcs_in: int = 0
    arcs_out: int = 0
    words: int = 0  # of the best paths
    frames: int = 0
    questions: int = 0
    evaluations: int = 0

    def __add__(self, other: LatticeTally) -> LatticeTally:
        return LatticeTally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


class LatticeRescorer:
    """Rescores lattices: takes the old language model's costs out of graph costs, and puts in those of the new ones.

    Backward models read the lattices from their end, in a composition of their own. It comes first where there is no
    forward model, because a beam needs costs that a language model is part of. With weights of 0, nothing is changed.

    Args:
      old: the language model whose costs are in the lattices, and its weight, 0 or more.
      terms: the new language models with their weights; backward ones say so in their configuration.
      vocab_size: word ids at or above it make a lattice unusable.
      search: of the composition.
      word_bonus: taken off the cost of every word.
      max_ngram_order: see `NeuralAutomaton`.
      normalize: see `NeuralAutomaton`.
      batch_tokens: LM states in memory; when so many are in use, no lattice is begun and few go on.
      old_reading: of the old model, if it is a G.fst: ``best``: what decoding put into lattices; ``backoff``: what
        Kaldi's lattice rescoring did. See `OldLm.score`.
    """

    def __init__(
        self,
        old: tuple[native.OldLm, float],
        terms: Iterable[tuple[LanguageModel | native.OldLm, float]],
        vocab_size: int,
        search: SearchSettings | None = None,
        word_bonus: float = 0.0,
        max_ngram_order: int = 4,
        normalize: bool = True,
        batch_tokens: int = 32768,
        old_reading: str = "best",
    ) -> None:
        search = search or SearchSettings()
        self._acoustic_scale = search.acoustic_scale
        self._neural: list[NeuralAutomaton] = []
        forward: list[tuple[Automaton, float]] = [(NgramAutomaton(old[0], old_reading), -old[1])]
        backward: list[tuple[Automaton, float]] = []
        terms = list(terms)
        num_neural = sum(isinstance(model, LanguageModel) for model, _ in terms)
        for model, weight in terms:
            if isinstance(model, LanguageModel):
                automaton = NeuralAutomaton(model, max_ngram_order, normalize, max(batch_tokens // num_neural, 1))
                self._neural.append(automaton)
                (backward if model.config.backward else forward).append((automaton, weight))
            else:
                forward.append((NgramAutomaton(model), weight))

        def stage(terms: list[tuple[Automaton, float]], word_cost: float, is_reversed: bool) -> Stage:
            return Stage(Composer(WeightedSum(terms, word_cost), vocab_size, search, self._is_full), is_reversed)

        self._batch_tokens = batch_tokens
        self._stages = []
        if word_bonus or any(weight for _, weight in forward):
            self._stages.append(stage(forward, -word_bonus, False))
        if any(weight for _, weight in backward):
            self._stages.insert(len(self._stages) if len(forward) > 1 else 0, stage(backward, 0.0, True))

    def rescore(self, lattices: native.Lattices) -> native.Lattices:
        """Return the rescored lattices, unusable ones unchanged, in the order given."""
        return next(self.compose([lattices])).lattices

    def compose(
        self,
        batches: Iterable[native.Lattices],
        turns: Turns | None = None,
        over: Callable[[int], None] | None = None,
    ) -> Iterator[Composed]:
        """Yield every batch, rescored, in order; a few are read ahead.

        Args:
          turns: what `turns` returned, where utterances start from what was said before them.
          over: is told how many lattices have come to their end.
        """
        return compose_stages(self._stages, batches, turns, over)

    def turns(self, conversations: Sequence[Sequence[str]], window: int) -> Turns:
        """Return conversations, the utterances of each in order, in which nothing has been said; see `compose`.

        There must be no backward model.

        Args:
          window: words that a transformer sees.
        """
        contexts = {automaton: carried(automaton.model, len(conversations), window) for automaton in self._neural}
        return Turns(conversations, contexts, self._acoustic_scale)

    def rescore_archive(self, source: Path, target: Path, text: bool = False) -> LatticeTally:
        """Rescore every lattice of ``source`` into ``target``, same keys in the same order.

        Raises:
          LatticeError: the archive is damaged; ``target`` is then not written.
        """
        with native.LatticeReader(str(source)) as reader, native.LatticeWriter(str(target), text=text) as writer:
            return self.rescore_batches(reader.batches(max_arcs=_BATCH_ARCS), writer.write, name=source.name)

    def rescore_batches(
        self,
        batches: Iterable[native.Lattices],
        write: Callable[[native.Lattices], object],
        turns: Turns | None = None,
        only: Container[str] | None = None,
        name: str = "rescoring",
    ) -> LatticeTally:
        """Rescore lattices, hand them on in order, name in the log what is unchanged; return what was done.

        Args:
          write: is called with every batch, rescored.
          turns: see `compose`.
          only: names of those that are handed on and counted; None: all.
          name: of what is rescored, for showing how far it is.
        """
        total = LatticeTally()
        questions, evaluations = self._counts()
        arcs_in = 0

        def counted() -> Iterator[native.Lattices]:
            nonlocal arcs_in
            for lattices in batches:
                arcs_in += _chosen(lattices, only).num_arcs
                progress.read(len(lattices))
                yield lattices

        with RescoringProgress(name) as progress:
            for composed in self.compose(counted(), turns, progress.done):
                lattices = _chosen(composed.lattices, only)
                faults = {key: composed.faults[key] for key in lattices.keys if key in composed.faults}
                for key, reason in faults.items():
                    log.warning("WARNING utterance %s goes through unchanged: %s", key, reason)
                write(lattices)
                total += self._tally(lattices) + LatticeTally(passed_through=len(faults))
        now = self._counts()
        work = LatticeTally(arcs_in=arcs_in, questions=now[0] - questions, evaluations=now[1] - evaluations)
        return total + work

    def _is_full(self) -> bool:
        return sum(automaton.histories for automaton in self._neural) > self._batch_tokens

    def _counts(self) -> tuple[int, int]:
        questions = sum(stage.composer.questions for stage in self._stages)
        return questions, sum(automaton.evaluations for automaton in self._neural)

    def _tally(self, after: native.Lattices) -> LatticeTally:
        best = native.best_paths(after, self._acoustic_scale)
        frames = np.diff(after.arc_tid_offsets)[best.arcs].sum()
        frames += np.diff(after.final_tid_offsets)[best.final_state].sum()
        return LatticeTally(
            utterances=len(after),
            arcs_out=after.num_arcs,
            words=int((after.arc_word[best.arcs] != 0).sum()),
            frames=int(frames),
        )


def _chosen(lattices: native.Lattices, only: Container[str] | None) -> native.Lattices:
    return lattices if only is None else lattices.select(np.flatnonzero([key in only for key in lattices.keys]))


def rescore_lattices(settings: LatticeSettings) -> str:
    """Rescore one job, or all of them, of a decode directory; return the summary line.

    Raises:
      MissingInputError, ConfigError, VocabularyError, OldLmError, ModelFileError, LatticeError: see the classes.
    """
    if settings.threads > 0:
        torch.set_num_threads(settings.threads)
    source = DecodeDir.open(settings.in_dir)
    jobs = source.chosen(settings.job)
    rescorer = _make_rescorer(settings, source)
    target = DecodeDir.create(settings.out_dir, source.num_jobs)
    started = time.monotonic()
    total = LatticeTally()
    if settings.context != "utterance":
        total = _in_context(rescorer, source, target, jobs, settings)
        jobs = []
    for job in jobs:
        tally = rescorer.rescore_archive(source.archive(job), target.archive(job), settings.text)
        log.info("job %d: %d utterances, %d passed through unchanged", job, tally.utterances, tally.passed_through)
        total += tally
    summary = _summary(total, time.monotonic() - started, _frame_seconds(settings.in_dir))
    if settings.strict and total.passed_through:
        raise LatticeError(f"{total.passed_through} utterance(s) went through unchanged", where=settings.in_dir,
                           hint="the log names them and says why; everything is written")  # fmt: skip
    return summary


def _in_context(
    rescorer: LatticeRescorer, source: DecodeDir, target: DecodeDir, jobs: Sequence[int], settings: LatticeSettings
) -> LatticeTally:
    conversations = conversations_of(settings.data, sides=settings.context == "side")
    folder = target.path / f".context.{settings.job or 'all'}"  # always the same, so that a killed run's does not stay
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        own = {source.archive(job): target.archive(job) for job in jobs}
        others = [source.archive(job) for job in source.jobs if job not in jobs]
        return rescore_in_context(
            rescorer, own, others, conversations, folder, window=settings.context_window, text=settings.text
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_rescorer(settings: LatticeSettings, source: DecodeDir) -> LatticeRescorer:
    assert settings.old_lang is not None, settings
    fusion = settings.make_fusion()
    words = settings.old_lang / "words.txt"
    require([words, *(term.lm for term in fusion.terms)])
    device = choose_device(settings.device)
    terms = open_terms(fusion, words, device, settings.normalize, settings.kernel, settings.denominator)
    _check_directions(terms, settings)
    ids = {word: number for number, word in enumerate(read_words(words))}
    old = native.open_old_lm(native.find_old_lm(settings.old_lang, settings.old_lm, prefer="fst"), ids)
    if settings.check_old_lm and fusion.old_weight:
        other = {"best": "--old-reading backoff", "backoff": "--old-reading best"}[settings.old_reading]
        doubt_old_lm(old, source.archive(settings.job or 1), settings.acwt, settings.old_reading, other)
    search = SearchSettings(
        acoustic_scale=settings.acwt,
        beam=math.inf if settings.exact else settings.lattice_prune_beam,
        max_arcs=2**62 if settings.exact else settings.max_arcs,
        growth=settings.growth_ratio,
        frontier=settings.frontier,
    )
    return LatticeRescorer(
        old=(old, fusion.old_weight),
        terms=[(opened.model, opened.term.weight) for opened in terms],
        vocab_size=len(ids),
        search=search,
        word_bonus=fusion.word_bonus,
        max_ngram_order=settings.max_ngram_order,
        normalize=settings.normalize,
        batch_tokens=settings.batch_tokens,
        old_reading=settings.old_reading,
    )


def _check_directions(terms: list[OpenTerm], settings: LatticeSettings) -> None:
    for opened in terms:
        if opened.backward and settings.context != "utterance":
            raise ConfigError("--context carries on forward LMs only", where=opened.term.lm, found="a backward one",
                              hint="mpq rescore nbest takes it")  # fmt: skip
        if settings.backward and not opened.backward:
            raise ConfigError("not a backward LM", where=opened.term.lm, expected="one of mpq lm train --backward true")
        if opened.backward and not isinstance(opened.model, LanguageModel):
            raise ConfigError("a backward n-gram cannot rescore lattices", where=opened.term.lm)


def _frame_seconds(decode_dir: Path) -> float:
    """Return the duration of a frame of the lattices: 10 ms, times what Kaldi notes beside the decode directory."""
    factor = decode_dir.parent / "frame_subsampling_factor"
    return 0.01 * int(factor.read_text().split()[0]) if factor.exists() else 0.01


def _summary(tally: LatticeTally, seconds: float, frame_seconds: float) -> str:
    audio = tally.frames * frame_seconds
    return (
        f"{tally.utterances} utterances in, {tally.utterances} out, {tally.passed_through} passed through unchanged; "
        f"{tally.arcs_in} arcs in, {tally.arcs_out} out, {tally.evaluations} LM evaluations "
        f"({tally.evaluations / max(tally.arcs_out, 1):.2f} per arc), "
        f"{tally.words / max(seconds, 1e-9):.0f} words/s, {seconds:.1f} s for {audio:.1f} s of speech "
        f"(real-time factor {seconds / max(audio, 1e-9):.3f})"
    )
