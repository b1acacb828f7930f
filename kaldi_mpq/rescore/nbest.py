# SPDX-License-Identifier: Apache-2.0
"""N-best rescoring of one lattice archive into another, batch by batch.

Not here: which archives (`run`), the LMs (`terms`), the lattice algorithms (`native`, `lattice`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaldi_mpq import native
from kaldi_mpq.native.kept_scores import KeptScores
from kaldi_mpq.rescore.combine import combine, cost_changes
from kaldi_mpq.rescore.fusion import Fusion
from kaldi_mpq.rescore.lattice import LatticeOps
from kaldi_mpq.rescore.progress import RescoringProgress
from kaldi_mpq.rescore.terms import sentence_sums
from kaldi_mpq.rescore.tree_scores import SentenceCosts

__all__ = ["Hypotheses", "NbestRescorer", "Tally"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tally:
    """What was read, written and done; tallies add."""

    utterances: int = 0
    passed_through: int = 0
    hypotheses: int = 0
    words: int = 0
    evaluations: int = 0
    frames: int = 0
    coverage: float = 0.0  # sum over utterances of the share of a lattice's probability that its N best hold

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Hypotheses:
    """The N best paths of B utterances, P paths of W words in all.

    Args:
      keys: (B), names of the utterances.
      lattice_offsets: (B + 1,) int64, which paths are of which utterance.
      word_offsets: (P + 1,) int64, which words are of which path.
      words: (W,) int32.
      graph, acoustic: (P,) total costs, unscaled.
      old: costs of the language model inside the lattices.
    """

    keys: list[str]
    lattice_offsets: np.ndarray
    word_offsets: np.ndarray
    words: np.ndarray
    graph: np.ndarray
    acoustic: np.ndarray
    old: SentenceCosts

    @classmethod
    def concat(cls, parts: Sequence[Hypotheses]) -> Hypotheses:
        """Return the utterances of one or more parts, one after the other."""

        def joined(name: str) -> np.ndarray:
            return np.r_[0, np.cumsum(np.concatenate([np.diff(getattr(part, name)) for part in parts]))]

        def flat(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        word, final = (np.concatenate([getattr(part.old, name) for part in parts]) for name in ("word", "final"))
        keys = [key for part in parts for key in part.keys]
        return cls(keys, joined("lattice_offsets"), joined("word_offsets"), flat("words"), flat("graph"),
                   flat("acoustic"), SentenceCosts(word, final))  # fmt: skip

    def one(self, index: int) -> Hypotheses:
        """Return one of the utterances."""
        paths = slice(self.lattice_offsets[index], self.lattice_offsets[index + 1])
        word_offsets = self.word_offsets[paths.start : paths.stop + 1]
        words = slice(word_offsets[0], word_offsets[-1])
        return Hypotheses(
            keys=[self.keys[index]],
            lattice_offsets=np.array([0, paths.stop - paths.start]),
            word_offsets=word_offsets - word_offsets[0],
            words=self.words[words].copy(),  # copies, so that the rest can be forgotten
            graph=self.graph[paths].copy(),
            acoustic=self.acoustic[paths].copy(),
            old=SentenceCosts(self.old.word[words].copy(), self.old.final[paths].copy()),
        )

    def impossible(self, costs: SentenceCosts) -> np.ndarray:
        """Return (P,) bool, whether a path has no probability."""
        return ~np.isfinite(sentence_sums(costs.word, self.word_offsets) + costs.final)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which paths are of which utterance, which words of which path, and the words."""
        return self.lattice_offsets, self.word_offsets, self.words

    def owners(self, paths: np.ndarray) -> np.ndarray:
        """Return the utterances, in 0..B-1, of which some of the paths, (P,) bool, are."""
        return np.unique(np.searchsorted(self.lattice_offsets, np.flatnonzero(paths), side="right") - 1)


# the costs of each term of the fusion
TermsScorer = Callable[[Hypotheses], Sequence[SentenceCosts]]


@dataclass(frozen=True)
class Found:
    """What the N-best search found in a batch of lattices.

    Args:
      positions: (B,) int64, places in the batch of the lattices that can be rescored.
      lattices: these lattices, pruned.
      paths, hypotheses: their best paths, as arcs and as words.
    """

    positions: np.ndarray
    lattices: native.Lattices
    paths: native.Paths
    hypotheses: Hypotheses


@dataclass(frozen=True)
class NbestRescorer:
    """How lattices are rescored.

    Args:
      n: paths per lattice.
      acoustic_scale: scale of acoustic costs for choosing them; what is written has the original scale.
      vocab_size: word ids at or above it make a lattice unusable.
      fusion: weights of the old language model and of the new ones; None leaves graph costs as they are.
      old_lm: scores sentences with the old language model; None: it costs nothing.
      score_terms: scores hypotheses with the new ones.
      ops: lattice operations, by k2 or native.
      reading: how the old LM backs off, ``best`` or ``backoff``.
      keep_ali: False drops transition-ids.
      lattice_beam: lattices are pruned to it before the search; None: not at all.
      keep_scores: return the costs of all hypotheses too.
    """

    n: int
    acoustic_scale: float
    vocab_size: int
    fusion: Fusion | None
    old_lm: native.OldLm | None
    score_terms: TermsScorer | None
    ops: LatticeOps
    reading: str = "best"
    keep_ali: bool = True
    lattice_beam: float | None = None
    keep_scores: bool = False

    def rescore_archive(self, source: Path, target: Path, max_arcs: int = 200_000) -> tuple[Tally, list[KeptScores]]:
        """Rescore every lattice of ``source`` into ``target``, same keys in the same order.

        Returns:
          What was done; the kept scores of each batch, if they are kept.
        Raises:
          LatticeError: the archive is damaged; ``target`` is then not written.
        """
        total = Tally()
        kept: list[KeptScores] = []
        with (
            native.LatticeReader(str(source)) as reader,
            native.LatticeWriter(str(target)) as writer,
            RescoringProgress(source.name) as progress,
        ):
            for lattices in reader.batches(max_arcs=max_arcs):
                progress.read(len(lattices))
                rescored, tally, scores = self.rescore(lattices)
                if rescored.keys != lattices.keys:
                    raise AssertionError(("keys changed", len(lattices), len(rescored)))
                writer.write(rescored)
                progress.done(len(rescored))
                total += tally
                kept += [] if scores is None else [scores]
        return total, kept

    def rescore(self, lattices: native.Lattices) -> tuple[native.Lattices, Tally, KeptScores | None]:
        """Return the rescored lattices, the unusable ones unchanged, in the order given; what was done; the scores."""
        reasons = native.check(lattices, self.vocab_size)
        found = self.find(lattices, reasons)
        new = self._new_costs(found.hypotheses)
        bad = np.zeros(len(found.paths), bool)
        for costs in new:
            bad |= found.hypotheses.impossible(costs)
        if bad.any():
            for position in found.positions[found.hypotheses.owners(bad)]:
                reasons[position] = "a new LM gives a path no probability"
            found = self.find(lattices, reasons)
            new = self._new_costs(found.hypotheses)
        unchanged = np.flatnonzero([reason is not None for reason in reasons])
        for position in unchanged:
            log.warning("WARNING utterance %s goes through unchanged: %s", lattices.keys[position], reasons[position])
        order = np.argsort(np.concatenate([found.positions, unchanged]), kind="stable")
        left = lattices.select(unchanged)
        merged = native.Lattices.concat([self._write(found, new), left]).select(order)
        tally = self._tally(found, new) + Tally(utterances=len(lattices), passed_through=len(unchanged))
        return merged, tally, self._kept(found.hypotheses, new, left).select(order) if self.keep_scores else None

    def find(self, lattices: native.Lattices, reasons: list[str | None]) -> Found:
        """Return the N best paths of the lattices that have no reason against them, with the old LM's costs.

        Args:
          reasons: why a lattice cannot be used, None where it can; those with a word that the old LM lacks get theirs.
        """
        positions = np.flatnonzero([reason is None for reason in reasons])
        usable = lattices.select(positions)
        if self.lattice_beam is not None:
            usable = self.ops.prune(usable, self.lattice_beam, self.acoustic_scale)
        paths = self.ops.nbest(usable, self.n, self.acoustic_scale)
        hypotheses = self._hypotheses(usable, paths)
        impossible = hypotheses.impossible(hypotheses.old)
        if not impossible.any():
            return Found(positions, usable, paths, hypotheses)
        for position in positions[hypotheses.owners(impossible)]:
            reasons[position] = "the old LM gives a path no probability"
        return self.find(lattices, reasons)

    def _hypotheses(self, lattices: native.Lattices, paths: native.Paths, scored: bool = True) -> Hypotheses:
        word_offsets, words = paths.words(lattices)
        nothing = SentenceCosts(np.zeros(len(words)), np.zeros(len(word_offsets) - 1))
        old = self._old_costs(word_offsets, words) if self.old_lm is not None and scored else nothing
        return Hypotheses(
            list(lattices.keys), paths.lattice_offsets, word_offsets, words, paths.graph, paths.acoustic, old
        )

    def _new_costs(self, hypotheses: Hypotheses) -> Sequence[SentenceCosts]:
        return self.score_terms(hypotheses) if self.score_terms is not None else []

    def _write(self, found: Found, new: Sequence[SentenceCosts]) -> native.Lattices:
        """Return the paths as lattices with their new graph costs."""
        lattices, paths = found.lattices, found.paths
        arc_graph, final_graph = lattices.arc_graph[paths.arcs], lattices.final_graph[paths.final_state]
        if self.fusion is not None and not self.fusion.changes_nothing:
            changes = cost_changes(self.fusion, found.hypotheses.old, new)
            arc_graph, final_graph = combine(arc_graph, final_graph, lattices.arc_word[paths.arcs] > 0, changes)
        result = native.path_lattices(lattices, paths, arc_graph, final_graph)
        return result if self.keep_ali else _without_tids(result)

    def _tally(self, found: Found, new: Sequence[SentenceCosts]) -> Tally:
        return Tally(
            hypotheses=len(found.paths),
            words=len(found.hypotheses.words),
            evaluations=sum(costs.evaluations for costs in new),
            frames=int(np.diff(found.lattices.arc_tid_offsets)[found.paths.arcs[_first_paths(found.paths)]].sum()),
            coverage=self._coverage(found.lattices, found.paths),
        )

    def _kept(self, scored: Hypotheses, new: Sequence[SentenceCosts], left: native.Lattices) -> KeptScores:
        """Return the scores of the rescored utterances, and of those that were ``left`` the costs that they keep."""
        rest = self._hypotheses(left, self.ops.nbest(left, self.n, self.acoustic_scale), scored=False)
        terms = np.array([sentence_sums(costs.word, scored.word_offsets) + costs.final for costs in new])
        parts = []
        for one, costs in ((scored, terms), (rest, np.zeros((len(new), len(rest.graph))))):
            old = sentence_sums(one.old.word, one.word_offsets) + one.old.final
            parts.append(
                KeptScores(
                    keys=np.array(one.keys, str),
                    unchanged=np.full(len(one.keys), one is rest),
                    lattice_offsets=one.lattice_offsets,
                    word_offsets=one.word_offsets,
                    words=one.words,
                    graph=one.graph,
                    acoustic=one.acoustic,
                    old=old,
                    terms=costs.reshape(len(new), len(one.graph)),
                )
            )
        return KeptScores.concat(parts)

    def _coverage(self, lattices: native.Lattices, paths: native.Paths) -> float:
        """Return the sum over lattices of the share of their probability that their paths hold."""
        total_logp = self.ops.forward_backward(lattices, self.acoustic_scale)[2]
        has_paths = np.diff(paths.lattice_offsets) > 0
        if not has_paths.any():
            return 0.0
        path_logp = -(paths.graph + self.acoustic_scale * paths.acoustic)
        held = np.logaddexp.reduceat(path_logp, paths.lattice_offsets[:-1][has_paths])
        return float(np.exp(np.minimum(held - total_logp[has_paths], 0.0)).sum())

    def _old_costs(self, word_offsets: np.ndarray, words: np.ndarray) -> SentenceCosts:
        """Return the old LM's costs per word; what the cheapest path saves over backing off is put at the sentence end.

        Two hypotheses that begin alike must cost alike until they part, because they share arcs in the output.
        """
        word, final = self.old_lm.score(word_offsets, words, reading="backoff")
        if self.reading == "best":
            best_word, best_final = self.old_lm.score(word_offsets, words, reading="best")
            backed_off = sentence_sums(word, word_offsets)
            possible = np.isfinite(backed_off)
            best = sentence_sums(best_word, word_offsets) + best_final
            final = np.where(possible, best - np.where(possible, backed_off, 0.0), np.inf)
        return SentenceCosts(word, final)


def _first_paths(paths: native.Paths) -> np.ndarray:
    """Return the positions in ``paths.arcs`` of every lattice's best path."""
    first = paths.lattice_offsets[:-1][np.diff(paths.lattice_offsets) > 0]
    begin, end = paths.arc_offsets[first], paths.arc_offsets[first + 1]
    return np.repeat(begin - np.r_[0, np.cumsum(end - begin)[:-1]], end - begin) + np.arange(int((end - begin).sum()))


def _without_tids(lattices: native.Lattices) -> native.Lattices:
    kept = ("keys", "compact", "start", "state_offsets", "arc_offsets", "final_graph", "final_acoustic")
    kept += ("arc_word", "arc_dest", "arc_graph", "arc_acoustic")
    arrays = {name: getattr(lattices, name) for name in kept}
    for name in ("final", "arc"):
        arrays[f"{name}_tids"] = np.empty(0, np.int32)
        arrays[f"{name}_tid_offsets"] = np.zeros_like(getattr(lattices, f"{name}_tid_offsets"))
    return native.Lattices.from_arrays(**arrays)
