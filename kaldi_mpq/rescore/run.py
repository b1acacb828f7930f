# SPDX-License-Identifier: Apache-2.0
"""``mpq rescore nbest``: a decode directory in, a decode directory out."""

from __future__ import annotations

import logging
import time

import numpy as np
import torch

from kaldi_mpq import native
from kaldi_mpq.artefact import require
from kaldi_mpq.errors import ConfigError, LatticeError
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.train import choose_device
from kaldi_mpq.native.decode_dir import DecodeDir
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.rescore.lattice import lattice_ops
from kaldi_mpq.rescore.nbest import HypothesisScorer, NbestRescorer, Tally
from kaldi_mpq.rescore.settings import NbestSettings
from kaldi_mpq.rescore.tree_scores import SentenceCosts, score_hypotheses
from kaldi_mpq.rescore.vocabulary import lattice_vocabulary

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
    if settings.job is not None and settings.job not in source.jobs:
        raise ConfigError("no such job", expected=f"1 to {source.num_jobs}", found=settings.job)
    rescorer = _make_rescorer(settings)
    target = DecodeDir.create(settings.out_dir, source.num_jobs)
    started = time.monotonic()
    total = Tally()
    for job in source.jobs if settings.job is None else [settings.job]:
        tally = rescorer.rescore_archive(source.archive(job), target.archive(job))
        log.info("job %d: %d utterances, %d passed through unchanged", job, tally.utterances, tally.passed_through)
        total += tally
    summary = _summary(total, time.monotonic() - started)
    if settings.strict and total.passed_through:
        raise LatticeError(f"{total.passed_through} utterance(s) went through unchanged", where=settings.in_dir,
                           hint="the log names them and says why; everything is written")  # fmt: skip
    return summary


def _make_rescorer(settings: NbestSettings) -> NbestRescorer:
    scale = 1.0 / settings.inv_acwt
    ops = lattice_ops(settings.backend)
    if settings.test:
        return NbestRescorer(settings.n, scale, 2**31 - 1, 0.0, None, None, ops, keep_ali=settings.keep_ali)
    assert settings.old_lang is not None and settings.lm is not None, settings
    require([settings.old_lang / "words.txt", settings.lm])
    model = open_lm(settings.lm).to(choose_device(settings.device))
    vocabulary = lattice_vocabulary(settings.old_lang / "words.txt", settings.lm, model.config)
    old_lm = native.open_old_lm(native.find_old_lm(settings.old_lang, settings.old_lm, prefer="carpa"), vocabulary.ids)
    return NbestRescorer(
        n=settings.n,
        acoustic_scale=scale,
        vocab_size=len(vocabulary),
        weight=settings.weight,
        old_lm=old_lm,
        new_lm=_scorer(model, settings.batch_tokens),
        ops=ops,
        reading="backoff" if settings.use_phi else "best",
        lattice_beam=settings.lattice_beam,
        keep_ali=settings.keep_ali,
    )


def _scorer(model: LanguageModel, batch_tokens: int) -> HypothesisScorer:
    def score(lattice_offsets: np.ndarray, word_offsets: np.ndarray, words: np.ndarray) -> SentenceCosts:
        return score_hypotheses(model, lattice_offsets, word_offsets, words, batch_tokens)

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
