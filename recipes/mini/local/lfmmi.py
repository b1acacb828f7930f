# SPDX-License-Identifier: Apache-2.0
"""Lattice-free MMI with k2: phone bigram, denominator graph, numerator graph of an utterance, objective.

Paper: Povey et al., "Purely sequence-trained neural networks for ASR based on lattice-free MMI", 2016; Hadian et al.,
"End-to-end speech recognition using lattice-free MMI", 2018, for training without alignments: the numerator has all
alignments, pronunciations and optional silences of the whole utterance.

Labels are pdfs plus 1 (0 is no label to k2's epsilon-aware operations). Not here: the network (`tdnnf`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import k2
import numpy as np
import torch
from numpy.typing import NDArray
from phones import BASES, SILENCE, first_pdf, loop_pdf
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Bigram", "denominator", "numerator", "objective", "phone_bigram"]

SILENCE_PROBABILITY = 0.5  # at the ends of an utterance
PAUSE_PROBABILITY = 0.1  # between two words
BEAM = 12.0
_NUMBER = {base: number for number, base in enumerate(BASES)}

Pronunciations = Sequence[Sequence[tuple[str, ...]]]  # [word][alternative][phone]


@dataclass(frozen=True)
class Bigram:
    """Log-probabilities of a phone after a phone; row and column B (after all phones) are start and end.

    Args:
      logp: (B + 1, B + 1), -inf: never.
    """

    logp: NDArray[np.float64]


def phone_bigram(utterances: Iterable[Pronunciations]) -> Bigram:
    """Return the bigram of the first pronunciations, with pauses by their probability; 0.1 is added to each count."""
    B = len(BASES)
    counts = np.full((B + 1, B + 1), 0.1)
    counts[B, B] = 0.0
    silence = _NUMBER[SILENCE]
    counts[silence, silence] = 0.0
    for words in utterances:
        last = [(B, 1.0)]
        for number, alternatives in enumerate(words):
            phones = [_NUMBER[phone] for phone in alternatives[0]]
            pause = SILENCE_PROBABILITY if number == 0 else PAUSE_PROBABILITY
            _count(counts, last, silence, pause, phones[0])
            np.add.at(counts, (phones[:-1], phones[1:]), 1.0)
            last = [(phones[-1], 1.0)]
        _count(counts, last, silence, SILENCE_PROBABILITY, B)
    with np.errstate(divide="ignore"):
        return Bigram(np.log(counts / counts.sum(axis=1, keepdims=True)))


def _count(counts: NDArray[np.float64], last: list[tuple[int, float]], silence: int, pause: float, then: int) -> None:
    for phone, share in last:
        counts[phone, silence] += share * pause
        counts[phone, then] += share * (1 - pause)
        counts[silence, then] += share * pause


def _fsa(arcs: list[tuple[int, int, int, float]], final: int) -> k2.Fsa:
    lines = [f"{source} {dest} {label} {score:.6f}" for source, dest, label, score in sorted(arcs)]
    return k2.arc_sort(k2.Fsa.from_str("\n".join([*lines, str(final)])))


def denominator(bigram: Bigram) -> k2.Fsa:
    """Return the graph of all phone strings: a state for each phone, one for the start, one for the end."""
    B = len(BASES)
    arcs = []
    for phone, base in enumerate(BASES):
        arcs.append((phone + 1, phone + 1, loop_pdf(base) + 1, 0.0))
        if np.isfinite(bigram.logp[phone, B]):
            arcs.append((phone + 1, B + 1, -1, bigram.logp[phone, B]))
        for before in range(B + 1):
            if np.isfinite(bigram.logp[before, phone]):
                source = 0 if before == B else before + 1
                arcs.append((source, phone + 1, first_pdf(base) + 1, bigram.logp[before, phone]))
    return _fsa(arcs, B + 1)


def numerator(words: Pronunciations, bigram: Bigram) -> k2.Fsa:
    """Return the graph of an utterance, a part of the denominator: each state is one phone of one pronunciation."""
    arcs: list[tuple[int, int, int, float]] = []
    phone_of = [len(BASES)]  # of each state; the start has that of the boundary

    def add(phone: int, sources: list[int]) -> int:
        state = len(phone_of)
        phone_of.append(phone)
        arcs.append((state, state, loop_pdf(BASES[phone]) + 1, 0.0))
        for source in sources:
            logp = bigram.logp[phone_of[source], phone]
            arcs.append((source, state, first_pdf(BASES[phone]) + 1, logp))
        return state

    ends = [0]
    for alternatives in words:
        ends = [*ends, add(_NUMBER[SILENCE], ends)]
        found = []
        for phones in alternatives:
            last = ends
            for phone in phones:
                last = [add(_NUMBER[phone], last)]
            found += last
        ends = found
    ends = [*ends, add(_NUMBER[SILENCE], ends)]
    final = len(phone_of)
    arcs += [(end, final, -1, bigram.logp[phone_of[end], len(BASES)]) for end in ends]
    return _fsa(arcs, final)


def objective(logp: Tensor, frames: Tensor, numerators: Sequence[k2.Fsa], whole: k2.Fsa) -> tuple[Tensor, int]:
    """Return the summed log-ratio of numerator and denominator, in nats, and the frames of the utterances in it.

    An utterance with fewer frames than phones has no path; it is left out.

    Args:
      logp: (N, T, pdfs), utterances from the longest to the shortest.
      frames: (N) int32, of each utterance.
      numerators: N graphs.
      whole: the denominator.
    """
    N = len(frames)
    segments = torch.stack((torch.arange(N, dtype=torch.int32), torch.zeros(N, dtype=torch.int32), frames), dim=1)
    dense = k2.DenseFsaVec(F.pad(logp, (1, 0), value=-1e4), segments)
    graphs = k2.create_fsa_vec(list(numerators))
    found = k2.intersect_dense(graphs, dense, BEAM).get_tot_scores(log_semiring=True, use_double_scores=True)
    copies = k2.index_fsa(k2.create_fsa_vec([whole]), torch.zeros(N, dtype=torch.int32))
    total = k2.intersect_dense(copies, dense, BEAM).get_tot_scores(log_semiring=True, use_double_scores=True)
    ratio = found - total
    usable = torch.isfinite(ratio)
    return ratio[usable].sum(), int(frames[usable].sum())
