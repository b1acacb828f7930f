# SPDX-License-Identifier: Apache-2.0
"""Is one system better than another on the same utterances, and how sure is an error rate.

`matched_pairs` is the matched pair sentence segment word error test (MAPSSWE) as SCTK's sc_stats makes it: utterances
are cut where both systems have two reference words in a row right, which makes errors of different segments
independent; then, over the N segments, d_i = errors of the first system - errors of the second,

    Z = mean(d) / (std(d) / sqrt(N)),   p = P(|Z'| >= |Z|) for a standard normal Z'   (two-tailed).

`bootstrap` draws utterances with replacement.

Paper: L. Gillick and S. Cox, Some statistical issues in the comparison of speech recognition algorithms, ICASSP 1989.
Paper: M. Bisani and H. Ney, Bootstrap estimates for confidence intervals in ASR performance evaluation, ICASSP 2004.

Not here: alignments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kaldi_mpq.errors import ScoringError
from kaldi_mpq.score.aligned import Aligned

__all__ = ["Interval", "MatchedPairs", "bootstrap", "matched_pairs", "segment_errors"]

_BUFFER = 2  # words in a row that both systems must have right between two segments, as in sc_stats


@dataclass(frozen=True)
class MatchedPairs:
    """Outcome of the test: number of segments, mean of the differences, Z and p."""

    segments: int
    mean: float
    z: float
    p: float


@dataclass(frozen=True)
class Interval:
    """Mean of the bootstrap's word error rates and the interval of 95% of a normal distribution, in percent."""

    mean: float
    low: float
    high: float


def matched_pairs(ours: Mapping[str, Aligned], theirs: Mapping[str, Aligned]) -> MatchedPairs:
    """Return the test of two systems on the same utterances; p is 1 where they err alike everywhere.

    Raises:
      ScoringError: they are not the same utterances.
    """
    if ours.keys() != theirs.keys():
        different = sorted(ours.keys() ^ theirs.keys())
        raise ScoringError(
            "systems scored on different utterances", found=", ".join(different[:5]), hint="score both on the same set"
        )
    segments = [errors for name, one in ours.items() for errors in segment_errors(one.ops, theirs[name].ops)]
    differences = np.array([first - second for first, second in segments], dtype=np.float64)
    if not differences.any():
        return MatchedPairs(len(segments), 0.0, 0.0, 1.0)
    mean = float(differences.mean())
    deviation = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    # One segment, or the same difference in all: there is no variance to measure the mean against.
    z = mean / (deviation / math.sqrt(len(differences))) if deviation > 0 else 0.0
    return MatchedPairs(len(segments), mean, z, math.erfc(abs(z) / math.sqrt(2.0)))


def segment_errors(first: str, second: str) -> list[tuple[int, int]]:
    """Return (errors of the first system, of the second) in each segment of one utterance that has errors.

    Args:
      first, second: alignments of both systems, as letters C, S, D, I. Where their references differ in length (a glm
        may map words one way or another), the whole utterance is one segment.
    """
    ours, theirs = _by_reference_word(first), _by_reference_word(second)
    if len(ours) != len(theirs):
        ours, theirs = [len(first) - first.count("C")], [len(second) - second.count("C")]
    segments: list[tuple[int, int]] = []
    right, open_errors = _BUFFER, (0, 0)
    for place, pair in enumerate(zip(ours, theirs)):
        if pair == (0, 0):
            right += place % 2  # a word; places of even number are the gaps between words
            continue
        if right >= _BUFFER and any(open_errors):
            segments.append(open_errors)
            open_errors = (0, 0)
        right, open_errors = 0, (open_errors[0] + pair[0], open_errors[1] + pair[1])
    return [*segments, open_errors] if any(open_errors) else segments


def bootstrap(utterances: Sequence[Aligned], replications: int = 2000, seed: int = 0) -> Interval:
    """Return the confidence interval of a word error rate: mean of the replications -+ 1.96 standard deviations."""
    errors = np.array([len(utterance.ops) - utterance.ops.count("C") for utterance in utterances], dtype=np.int64)
    words = np.array([len(utterance.ref) for utterance in utterances], dtype=np.int64)
    if not words.any():
        raise ScoringError("no reference words to draw from")
    random = np.random.default_rng(seed)
    rates = np.empty(replications)
    for replication in range(replications):
        drawn = random.integers(0, len(words), len(words))
        rates[replication] = 100.0 * errors[drawn].sum() / max(words[drawn].sum(), 1)
    mean, deviation = float(rates.mean()), float(rates.std())
    return Interval(mean, mean - 1.96 * deviation, mean + 1.96 * deviation)


def _by_reference_word(ops: str) -> list[int]:
    """Return errors in the gaps between reference words and at the words: gap, word, gap, ..., word, gap."""
    places = [0]
    for letter in ops:
        if letter == "I":
            places[-1] += 1
        else:
            places += [int(letter != "C"), 0]
    return places
