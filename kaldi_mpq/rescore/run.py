# SPDX-License-Identifier: Apache-2.0
"""``mpq rescore nbest``: a decode directory in, a decode directory out."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from kaldi_mpq import native
from kaldi_mpq.artefact import require, stamp
from kaldi_mpq.errors import LatticeError
from kaldi_mpq.lm.train import choose_device
from kaldi_mpq.native.decode_dir import DecodeDir
from kaldi_mpq.native.kept_scores import KeptScores
from kaldi_mpq.rescore.context import gather, score_conversations
from kaldi_mpq.rescore.lattice import lattice_ops
from kaldi_mpq.rescore.nbest import Hypotheses, NbestRescorer, Tally, TermsScorer
from kaldi_mpq.rescore.old_lm_check import doubt_old_lm
from kaldi_mpq.rescore.settings import NbestSettings
from kaldi_mpq.rescore.terms import OpenTerm, open_terms
from kaldi_mpq.rescore.tree_scores import SentenceCosts
from kaldi_mpq.settings import as_plain
from kaldi_mpq.text.conversations import conversations_of
from kaldi_mpq.text.vocab import read_words

__all__ = ["rescore_nbest"]

log = logging.getLogger(__name__)


def rescore_nbest(settings: NbestSettings) -> str:
    """Rescore one job, or all of them, of a decode directory; return the summary line.

    Raises:
      MissingInputError, ConfigError, VocabularyError, OldLmError, ModelFileError, LatticeError: see the classes.
    """
    if settings.threads > 0:
        torch.set_num_threads(settings.threads)
    source = DecodeDir.open(settings.in_dir)
    jobs = source.chosen(settings.job)
    rescorer, terms = _make_rescorer(settings, source)
    target = DecodeDir.create(settings.out_dir, source.num_jobs)
    started = time.monotonic()
    total = Tally()
    if settings.context != "utterance":
        rescorer, total = _in_context(rescorer, terms, source, jobs, settings)
    for job in jobs:
        total += _rescore_job(rescorer, source, target, job, settings)
    summary = _summary(total, time.monotonic() - started)
    if settings.strict and total.passed_through:
        raise LatticeError(f"{total.passed_through} utterance(s) went through unchanged", where=settings.in_dir,
                           hint="the log names them and says why; everything is written")  # fmt: skip
    return summary


def _rescore_job(
    rescorer: NbestRescorer, source: DecodeDir, target: DecodeDir, job: int, settings: NbestSettings
) -> Tally:
    target.scores(job).unlink(missing_ok=True)  # those of other lattices must not stand beside the new ones
    tally, kept = rescorer.rescore_archive(source.archive(job), target.archive(job))
    log.info("job %d: %d utterances, %d passed through unchanged", job, tally.utterances, tally.passed_through)
    if rescorer.keep_scores:
        fusion, made_by = rescorer.fusion.to_dict(), stamp("rescore nbest", as_plain(settings))
        info = {"fusion": fusion, "inv_acwt": settings.inv_acwt, "made_by": made_by}
        KeptScores.concat([KeptScores.empty(len(rescorer.fusion.terms)), *kept], info).save(target.scores(job))
    return tally


def _in_context(
    rescorer: NbestRescorer, terms: Sequence[OpenTerm], source: DecodeDir, jobs: Sequence[int], settings: NbestSettings
) -> tuple[NbestRescorer, Tally]:
    """Return a rescorer with the scores of the jobs' utterances in the context of their conversations."""
    conversations = conversations_of(settings.data, sides=settings.context == "side")
    own, others = ([source.archive(job) for job in source.jobs if (job in jobs) == mine] for mine in (True, False))
    found = gather(rescorer, own, others, conversations)
    scores = score_conversations(
        rescorer, terms, found, conversations, window=settings.context_window, batch_tokens=settings.batch_tokens
    )
    return replace(rescorer, score_terms=scores), Tally(evaluations=scores.evaluations)


def _make_rescorer(settings: NbestSettings, source: DecodeDir) -> tuple[NbestRescorer, list[OpenTerm]]:
    """Return how lattices are rescored, every utterance on its own, and the new language models."""
    scale = 1.0 / settings.inv_acwt
    ops = lattice_ops(settings.backend)
    if settings.test:
        return NbestRescorer(settings.n, scale, 2**31 - 1, None, None, None, ops, keep_ali=settings.keep_ali), []
    fusion = settings.make_fusion()
    words = settings.old_lang / "words.txt"
    require([words, *(term.lm for term in fusion.terms)])
    device = choose_device(settings.device)
    terms = open_terms(fusion, words, device, settings.normalize, settings.kernel, settings.denominator)
    ids = {word: number for number, word in enumerate(read_words(words))}
    old_lm = native.open_old_lm(native.find_old_lm(settings.old_lang, settings.old_lm, prefer="carpa"), ids)
    reading = "backoff" if settings.use_phi else "best"
    if settings.check_old_lm and fusion.old_weight:
        other = f"--use-phi {str(not settings.use_phi).lower()}"
        doubt_old_lm(old_lm, source.archive(settings.job or 1), scale, reading, other)
    rescorer = NbestRescorer(
        n=settings.n,
        acoustic_scale=scale,
        vocab_size=len(ids),
        fusion=fusion,
        old_lm=old_lm,
        score_terms=_scorer(terms, settings.batch_tokens),
        ops=ops,
        reading=reading,
        lattice_beam=settings.lattice_beam,
        keep_ali=settings.keep_ali,
        keep_scores=settings.keep_scores,
    )
    return rescorer, terms


def _scorer(terms: Sequence[OpenTerm], batch_tokens: int) -> TermsScorer:
    def score(found: Hypotheses) -> list[SentenceCosts]:
        return [term.score(*found.arrays, batch_tokens) for term in terms]

    return score


def _summary(tally: Tally, seconds: float) -> str:
    shared = tally.words / max(tally.evaluations, 1)
    held = 100.0 * tally.coverage / max(tally.utterances - tally.passed_through, 1)
    return (
        f"{tally.utterances} utterances in, {tally.utterances} out, {tally.passed_through} passed through unchanged; "
        f"{tally.hypotheses} hypotheses with {held:.1f}% of the probability, {tally.words} words, "
        f"{tally.evaluations} LM evaluations ({shared:.1f} words each), "
        f"{tally.words / max(seconds, 1e-9):.0f} words/s, {seconds:.1f} s for {tally.frames} frames"
    )
