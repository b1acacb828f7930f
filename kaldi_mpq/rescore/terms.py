# SPDX-License-Identifier: Apache-2.0
"""The language models of a fusion, opened, and their costs of whole hypotheses.

A backward model reads a sentence from its end, so what a word costs depends on the words behind it. Hypotheses that
begin alike share arcs, so its whole cost of a sentence is put at the sentence end.

Not here: weights (`fusion`) and the arithmetic (`combine`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kaldi_mpq import native
from kaldi_mpq.artefact import require
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.normalizer import Normalizer, make_normalizer
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.pack.packed_model import PackedModel
from kaldi_mpq.rescore.fusion import Fusion, Term
from kaldi_mpq.rescore.tree_scores import SentenceCosts, score_hypotheses
from kaldi_mpq.rescore.vocabulary import lattice_vocabulary
from kaldi_mpq.text.vocab import read_words

__all__ = ["OpenTerm", "is_ngram", "open_terms", "reversed_positions", "sentence_sums"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenTerm:
    """A language model of a fusion.

    Args:
      term: what the fusion says of it.
      model: the neural model, or the n-gram.
      backward: it reads sentences from their end.
      normalizer: of a neural model, made once; it may say that there is nothing to normalise.
    """

    term: Term
    model: LanguageModel | native.OldLm
    backward: bool = False
    normalizer: Normalizer | None = None

    def score(
        self,
        lattice_offsets: np.ndarray,
        word_offsets: np.ndarray,
        words: np.ndarray,
        batch_tokens: int,
        *,
        start: Any = None,
    ) -> SentenceCosts:
        """Return the costs of the hypotheses of B lattices; infinite where an n-gram lacks a word.

        Args:
          lattice_offsets: (B + 1,) int64, which hypotheses are of which lattice.
          word_offsets: (P + 1,) int64, which words are of which hypothesis.
          words: (W,) word ids.
          batch_tokens: distinct histories in memory at a time.
          start: states of B histories that the lattices start from, of a neural model; None: from nothing.
        """

        def score(words: np.ndarray) -> SentenceCosts:
            if isinstance(self.model, LanguageModel):
                return score_hypotheses(
                    self.model, lattice_offsets, word_offsets, words, batch_tokens, start, self.normalizer
                )
            return SentenceCosts(*self.model.score(word_offsets, words.astype(np.int32), reading="backoff"))

        if not self.backward:
            return score(words)
        costs = score(words[reversed_positions(word_offsets)])
        return SentenceCosts(
            np.zeros(len(words)), sentence_sums(costs.word, word_offsets) + costs.final, costs.evaluations
        )


def open_terms(
    fusion: Fusion,
    words: Path,
    device: torch.device,
    normalize: bool = True,
    kernel: str = "auto",
    denominator: str = "exact",
) -> list[OpenTerm]:
    """Return the language models of a fusion, in its order.

    Args:
      words: the words.txt of the lattices, whose ids every model must have.
      normalize: of neural models, see `make_normalizer`.
      kernel, denominator: see `open_lm`; elsewhere than on the CPU ``auto`` is ``torch``.
    Raises:
      MissingInputError: naming every model that is not there.
      VocabularyError, ModelFileError, OldLmError: a model of other words, or damaged.
      ConfigError: a backward model that the fusion calls forward, or the reverse.
    """
    require([words, *(term.lm for term in fusion.terms)])
    opened = []
    for term in fusion.terms:
        if is_ngram(term.lm):
            ids = {word: number for number, word in enumerate(read_words(words))}
            opened.append(OpenTerm(term, native.open_old_lm(term.lm, ids), bool(term.backward)))
        else:
            model = _open_model(term, device, kernel, denominator)
            opened.append(_open_neural(term, words, model, normalize))
    return opened


def is_ngram(path: Path) -> bool:
    """Return whether a file is an ARPA file, G.fst or G.carpa rather than a neural model."""
    if path.is_dir() or path.suffix == ".mpq":
        return False
    with open(path, "rb") as stream:
        return stream.read(9)[8:] != b"{"  # a packed model's header begins there


def _open_model(term: Term, device: torch.device, kernel: str, denominator: str) -> LanguageModel:
    if device.type != "cpu" and kernel.startswith("packed"):
        raise ConfigError("packed weights are computed with on the CPU only", found=f"--device {device.type}",
                          hint="--kernel auto unpacks them")  # fmt: skip
    model = open_lm(term.lm, kernel if device.type == "cpu" else "torch", denominator).to(device)
    if denominator == "cheap" and not isinstance(model, PackedModel):
        log.warning("%s is not computed with packed: its denominator is exact", term.lm)
    return model


def _open_neural(term: Term, words: Path, model: LanguageModel, normalize: bool) -> OpenTerm:
    lattice_vocabulary(words, term.lm, model.config)
    backward = model.config.backward
    if term.backward is not None and term.backward != backward:
        kinds = {True: "a backward model", False: "a forward model"}
        raise ConfigError("the model reads the other way", where=term.lm, expected=kinds[term.backward],
                          found=kinds[backward], hint="what does the fusion's backward: say?")  # fmt: skip
    if backward:
        log.info("%s is a backward model: it reads sentences from their end", term.lm)
    return OpenTerm(term, model, backward, make_normalizer(model, normalize))


def reversed_positions(word_offsets: np.ndarray) -> np.ndarray:
    """Return (W,) int64: taking words from these positions reverses each sentence on its own."""
    lengths = np.diff(word_offsets)
    first_and_last = np.repeat(word_offsets[:-1] + word_offsets[1:] - 1, lengths)
    return first_and_last - np.arange(word_offsets[0], word_offsets[-1])


def sentence_sums(word: np.ndarray, word_offsets: np.ndarray) -> np.ndarray:
    """Return (P,) sums of each sentence's word costs; infinite where a word is impossible."""
    return np.where(np.diff(word_offsets) > 0, np.add.reduceat(np.r_[word, 0.0], word_offsets[:-1]), 0.0)
