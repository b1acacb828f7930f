# SPDX-License-Identifier: Apache-2.0
"""N-best scores in context: each utterance starts from where its conversation's best hypotheses have left the models.

Conversations go side by side: the t-th utterances of all of them are scored together, the hypothesis of least cost
(with all models, rescored) is chosen in each, and the models go on from there. An utterance's predecessors may lie in
any archive of the decode directory, so the hypotheses of whole conversations are gathered first; they, and not the
lattices, are in memory together. Nothing depends on which utterances share an archive.

Not here: who is in which conversation (`text.conversations`), states (`lm.carried`), writing lattices (`nbest`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kaldi_mpq import native
from kaldi_mpq.lm.carried import Carried, carried
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.rescore.combine import cost_changes
from kaldi_mpq.rescore.gathering import read_conversations
from kaldi_mpq.rescore.nbest import Hypotheses, NbestRescorer
from kaldi_mpq.rescore.terms import OpenTerm, sentence_sums
from kaldi_mpq.rescore.tree_scores import SentenceCosts

__all__ = ["ScoresInContext", "gather", "score_conversations"]


class ScoresInContext:
    """Scores of hypotheses that were computed before, by utterance: what `NbestRescorer` asks for while it writes."""

    def __init__(self, num_terms: int) -> None:
        self._num_terms = num_terms
        self._costs: dict[str, list[SentenceCosts]] = {}
        self.evaluations = 0

    def add(self, batch: Hypotheses, costs: Sequence[SentenceCosts]) -> None:
        """Keep the costs of the hypotheses of some utterances."""
        for i, key in enumerate(batch.keys):
            first, last = batch.lattice_offsets[i], batch.lattice_offsets[i + 1]
            words = slice(batch.word_offsets[first], batch.word_offsets[last])
            self._costs[key] = [SentenceCosts(one.word[words], one.final[first:last]) for one in costs]
        self.evaluations += sum(one.evaluations for one in costs)

    def __call__(self, found: Hypotheses) -> list[SentenceCosts]:
        """Return the costs of each term."""
        result = []
        nothing = [SentenceCosts(np.empty(0), np.empty(0))] * self._num_terms  # of an utterance without paths
        for k in range(self._num_terms):
            mine = [self._costs.get(key, nothing)[k] for key in found.keys]
            word = np.concatenate([np.empty(0), *(one.word for one in mine)])
            final = np.concatenate([np.empty(0), *(one.final for one in mine)])
            if (len(word), len(final)) != (len(found.words), len(found.graph)):
                raise AssertionError(("other hypotheses the second time", len(word), len(found.words)))
            result.append(SentenceCosts(word, final))
        return result


def gather(
    rescorer: NbestRescorer, own: Sequence[Path], others: Iterable[Path], conversations: Sequence[Sequence[str]]
) -> dict[str, Hypotheses]:
    """Return the hypotheses of every utterance of ``own`` archives, and of those before it in its conversation.

    An utterance that cannot be used has none. Arguments and errors are those of `read_conversations`.
    """
    found: dict[str, Hypotheses] = {}

    def take(_: Path, lattices: native.Lattices) -> None:
        hypotheses = rescorer.find(lattices, native.check(lattices, rescorer.vocab_size)).hypotheses
        some = np.flatnonzero(np.diff(hypotheses.lattice_offsets))
        found.update({hypotheses.keys[i]: hypotheses.one(i) for i in some.tolist()})

    read_conversations(own, others, conversations, take)
    return found


def score_conversations(
    rescorer: NbestRescorer,
    terms: Sequence[OpenTerm],
    found: Mapping[str, Hypotheses],
    conversations: Sequence[Sequence[str]],
    *,
    window: int,
    batch_tokens: int,
) -> ScoresInContext:
    """Return the costs of all hypotheses found, each utterance in the context of those before it.

    An utterance that is not among ``found``, or that an n-gram among the models gives no probability, leaves its
    conversation as it was.

    Args:
      window: positions that a transformer sees.
      batch_tokens: distinct histories in memory at a time.
    """
    turns = [[key for key in conversation if key in found] for conversation in conversations]
    turns = [keys for keys in turns if keys]
    contexts = [carried(term.model, len(turns), window) if _is_neural(term) else None for term in terms]
    scores = ScoresInContext(len(terms))
    for turn in range(max(map(len, turns), default=0)):
        rows = np.flatnonzero([len(keys) > turn for keys in turns])
        batch = Hypotheses.concat([found[turns[row][turn]] for row in rows])
        costs = [
            term.score(*batch.arrays, batch_tokens, start=_start(batch, rows, context))
            for term, context in zip(terms, contexts, strict=True)
        ]
        scores.add(batch, costs)
        _go_on(rescorer, batch, costs, rows, terms, contexts)
    return scores


def _is_neural(term: OpenTerm) -> bool:
    return isinstance(term.model, LanguageModel)


def _start(batch: Hypotheses, rows: np.ndarray, context: Carried | None) -> object:
    """Return what a model starts the utterances of a batch from."""
    if context is None:
        return None
    lengths = np.diff(batch.word_offsets)
    return context.states(rows, np.maximum.reduceat(lengths, batch.lattice_offsets[:-1]) + 1)


def _go_on(
    rescorer: NbestRescorer,
    batch: Hypotheses,
    costs: Sequence[SentenceCosts],
    rows: np.ndarray,
    terms: Sequence[OpenTerm],
    contexts: Sequence[Carried | None],
) -> None:
    """Add each utterance's best hypothesis to its conversation."""
    word, final = cost_changes(rescorer.fusion, batch.old, costs)
    total = batch.graph + sentence_sums(word, batch.word_offsets) + final + rescorer.acoustic_scale * batch.acoustic
    possible = ~np.any([batch.impossible(one) for one in costs], axis=0)
    spoken, sentences = [], []
    for i, row in enumerate(rows.tolist()):
        paths = slice(batch.lattice_offsets[i], batch.lattice_offsets[i + 1])
        if possible[paths].all():
            best = paths.start + int(np.argmin(total[paths]))
            spoken.append(row)
            sentences.append(batch.words[batch.word_offsets[best] : batch.word_offsets[best + 1]])
    for term, context in zip(terms, contexts, strict=True):
        if context is not None and spoken:
            context.feed(np.array(spoken), [words[::-1] for words in sentences] if term.backward else sentences)
