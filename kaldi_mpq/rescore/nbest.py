# SPDX-License-Identifier: Apache-2.0
"""N-best rescoring of one lattice archive into another, batch by batch.

Not here: which archives (`run`), the LM (`tree_scores`), the lattice algorithms (`native`, `lattice`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaldi_mpq import native
from kaldi_mpq.rescore.combine import combine
from kaldi_mpq.rescore.lattice import LatticeOps
from kaldi_mpq.rescore.tree_scores import SentenceCosts

__all__ = ["NbestRescorer", "Tally"]

log = logging.getLogger(__name__)

# (lattice_offsets, word_offsets, words) -> costs
HypothesisScorer = Callable[[np.ndarray, np.ndarray, np.ndarray], SentenceCosts]


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
class NbestRescorer:
    """How lattices are rescored.

    Args:
      n: paths per lattice.
      acoustic_scale: scale of acoustic costs for choosing them; what is written has the original scale.
      vocab_size: word ids at or above it make a lattice unusable.
      weight: of the new language model.
      old_lm: scores sentences with the old language model; None leaves graph costs as they are.
      new_lm: scores sentences with the new one; None leaves graph costs as they are.
      reading: how the old LM backs off, ``best`` or ``backoff``.
      ops: lattice operations, by k2 or native.
      keep_ali: False drops transition-ids.
      lattice_beam: lattices are pruned to it before the search; None: not at all.
    """

    n: int
    acoustic_scale: float
    vocab_size: int
    weight: float
    old_lm: native.OldLm | None
    new_lm: HypothesisScorer | None
    ops: LatticeOps
    reading: str = "best"
    keep_ali: bool = True
    lattice_beam: float | None = None

    def rescore_archive(self, source: Path, target: Path, max_arcs: int = 500_000) -> Tally:
        """Rescore every lattice of ``source`` into ``target``, same keys in the same order.

        Raises:
          LatticeError: the archive is damaged; ``target`` is then not written.
        """
        total = Tally()
        with native.LatticeReader(str(source)) as reader, native.LatticeWriter(str(target)) as writer:
            for lattices in reader.batches(max_arcs=max_arcs):
                rescored, tally = self.rescore(lattices)
                if rescored.keys != lattices.keys:
                    raise AssertionError(("keys changed", len(lattices), len(rescored)))
                writer.write(rescored)
                total += tally
        return total

    def rescore(self, lattices: native.Lattices) -> tuple[native.Lattices, Tally]:
        """Return the rescored lattices, the unusable ones unchanged, in the order given."""
        reasons = native.check(lattices, self.vocab_size)
        usable = np.flatnonzero([reason is None for reason in reasons])
        done, faults = self._rescore_usable(lattices.select(usable))
        for position, fault in faults.items():
            reasons[usable[position]] = fault
        for key, reason in zip(lattices.keys, reasons, strict=True):
            if reason is not None:
                log.warning("WARNING utterance %s goes through unchanged: %s", key, reason)
        unchanged = np.flatnonzero([reason is not None for reason in reasons])
        rescored = np.flatnonzero([reason is None for reason in reasons])
        order = np.argsort(np.concatenate([rescored, unchanged]), kind="stable")
        merged = native.Lattices.concat([done.lattices, lattices.select(unchanged)]).select(order)
        return merged, done.tally + Tally(utterances=len(lattices), passed_through=len(unchanged))

    def _rescore_usable(self, lattices: native.Lattices) -> tuple[_Done, dict[int, str]]:
        """Return the rescored lattices and, for those left out, position -> reason."""
        if self.lattice_beam is not None:
            lattices = self.ops.prune(lattices, self.lattice_beam, self.acoustic_scale)
        paths = self.ops.nbest(lattices, self.n, self.acoustic_scale)
        word_offsets, words = paths.words(lattices)
        old = self._old_costs(word_offsets, words)
        impossible = ~np.isfinite(_sentence_sums(old.word, word_offsets) + old.final)
        if impossible.any():
            return self._without(
                lattices, np.searchsorted(paths.lattice_offsets, np.flatnonzero(impossible), side="right") - 1
            )
        new = self.new_lm(paths.lattice_offsets, word_offsets, words) if self.new_lm else old
        arcs = paths.arcs
        arc_graph, final_graph = combine(
            lattices.arc_graph[arcs], lattices.final_graph[paths.final_state], lattices.arc_word[arcs] > 0,
            (old.word, old.final), (new.word, new.final), self.weight if self.new_lm else 0.0,
        )  # fmt: skip
        result = native.path_lattices(lattices, paths, arc_graph, final_graph)
        tally = Tally(
            hypotheses=len(paths),
            words=len(words),
            evaluations=new.evaluations,
            frames=int(np.diff(lattices.arc_tid_offsets)[arcs[_first_paths(paths)]].sum()),
            coverage=self._coverage(lattices, paths),
        )
        return _Done(result if self.keep_ali else _without_tids(result), tally), {}

    def _coverage(self, lattices: native.Lattices, paths: native.Paths) -> float:
        """Return the sum over lattices of the share of their probability that their paths hold."""
        total_logp = self.ops.forward_backward(lattices, self.acoustic_scale)[2]
        has_paths = np.diff(paths.lattice_offsets) > 0
        if not has_paths.any():
            return 0.0
        path_logp = -(paths.graph + self.acoustic_scale * paths.acoustic)
        held = np.logaddexp.reduceat(path_logp, paths.lattice_offsets[:-1][has_paths])
        return float(np.exp(np.minimum(held - total_logp[has_paths], 0.0)).sum())

    def _without(self, lattices: native.Lattices, positions: np.ndarray) -> tuple[_Done, dict[int, str]]:
        """Rescore all lattices but those at ``positions``, which hold a word that the old LM does not know."""
        bad = np.unique(positions)
        kept = np.setdiff1d(np.arange(len(lattices)), bad)
        done, faults = self._rescore_usable(lattices.select(kept))
        return done, {int(b): "the old LM gives a path no probability" for b in bad} | {
            int(kept[i]): why for i, why in faults.items()
        }

    def _old_costs(self, word_offsets: np.ndarray, words: np.ndarray) -> SentenceCosts:
        """Return the old LM's costs per word; what the cheapest path saves over backing off is put at the sentence end.

        Two hypotheses that begin alike must cost alike until they part, because they share arcs in the output.
        """
        if self.old_lm is None:
            return SentenceCosts(np.zeros(len(words)), np.zeros(len(word_offsets) - 1))
        word, final = self.old_lm.score(word_offsets, words, reading="backoff")
        if self.reading == "best":
            best_word, best_final = self.old_lm.score(word_offsets, words, reading="best")
            backed_off = _sentence_sums(word, word_offsets)
            possible = np.isfinite(backed_off)
            best = _sentence_sums(best_word, word_offsets) + best_final
            final = np.where(possible, best - np.where(possible, backed_off, 0.0), np.inf)
        return SentenceCosts(word, final)


@dataclass(frozen=True)
class _Done:
    lattices: native.Lattices
    tally: Tally


def _sentence_sums(word: np.ndarray, word_offsets: np.ndarray) -> np.ndarray:
    """Return (P,) sums of each sentence's word costs; infinite where a word is impossible."""
    return np.where(np.diff(word_offsets) > 0, np.add.reduceat(np.r_[word, 0.0], word_offsets[:-1]), 0.0)


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
