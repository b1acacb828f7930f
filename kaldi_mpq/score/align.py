# SPDX-License-Identifier: Apache-2.0
"""Word alignments as sclite makes them, without sclite: kaldialign's sclite mode, with sclite's choice among equals.

Weights are 4 for a substitution and 3 for a deletion or an insertion. Three substitutions then weigh as much as two
deletions and two insertions, so the cheapest alignment need not be unique in its counts. kaldialign and sclite choose
differently there (in one of fifty random pairs of up to nine words), so kaldialign's counts are taken where no other
alignment can weigh the same, and otherwise those of sclite's own rule, found by experiment: going back from the end,
a pair of words before an insertion before a deletion.

Not here: sclite itself (`sclite`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from kaldi_mpq.score.aligned import Aligned, Utterance
from kaldi_mpq.score.error_counts import ErrorCounts

__all__ = ["KaldialignScorer", "align_words", "count_errors"]

_SUBSTITUTION, _GAP = 4, 3  # sclite's weights of a substitution, and of a deletion or insertion


class KaldialignScorer:
    """Scores utterances with kaldialign; the same two methods as `sclite.ScliteScorer`."""

    def __init__(self) -> None:
        self.name = f"kaldialign {metadata.version('kaldialign')} (sclite mode)"

    def count(self, pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[ErrorCounts]:
        """Return the errors of each (reference, hypothesis)."""
        return [count_errors(ref, hyp) for ref, hyp in pairs]

    def report(self, utterances: Sequence[Utterance], directory: Path) -> list[Aligned]:
        """Return the alignment of each utterance; nothing is written to ``directory``, only sclite has reports."""
        return [utterance.aligned(align_words(utterance.ref, utterance.hyp)) for utterance in utterances]


def count_errors(ref: Sequence[str], hyp: Sequence[str]) -> ErrorCounts:
    """Return the errors of one utterance, as sclite counts them."""
    from kaldialign import edit_distance

    counts = edit_distance(list(ref), list(hyp), sclite_mode=True)
    substitutions, deletions, insertions = counts["sub"], counts["del"], counts["ins"]
    # Another alignment of this weight has 3 substitutions fewer and 2 of both others more, or the reverse.
    if substitutions >= 3 or min(deletions, insertions) >= 2:
        return ErrorCounts.of(align_words(ref, hyp))
    errors = substitutions + deletions + insertions
    return ErrorCounts(1, int(errors > 0), len(ref), substitutions, deletions, insertions)


def align_words(ref: Sequence[str], hyp: Sequence[str]) -> str:
    """Return sclite's alignment as letters: C correct, S substituted, D deleted, I inserted, in the order of the words.

    weight(i, j) is that of the cheapest alignment of the first i words of ref with the first j of hyp.
    """
    weight = _weights(ref, hyp)
    i, j = len(ref), len(hyp)
    letters: list[str] = []
    while i or j:
        if i and j and weight[i][j] == weight[i - 1][j - 1] + (0 if ref[i - 1] == hyp[j - 1] else _SUBSTITUTION):
            i, j = i - 1, j - 1
            letters.append("C" if ref[i] == hyp[j] else "S")
        elif j and weight[i][j] == weight[i][j - 1] + _GAP:
            j -= 1
            letters.append("I")
        else:
            i -= 1
            letters.append("D")
    return "".join(reversed(letters))


def _weights(ref: Sequence[str], hyp: Sequence[str]) -> list[list[int]]:
    rows = [[_GAP * j for j in range(len(hyp) + 1)]]
    for i, word in enumerate(ref, start=1):
        above = rows[-1]
        left = _GAP * i
        row = [left]
        for j, other in enumerate(hyp, start=1):
            pair = above[j - 1] if word == other else above[j - 1] + _SUBSTITUTION
            gap = (left if left < above[j] else above[j]) + _GAP
            left = pair if pair < gap else gap
            row.append(left)
        rows.append(row)
    return rows
