# SPDX-License-Identifier: Apache-2.0
"""Errors and words of a text: counts, which add; a rate is only made when it is printed.

Not here: how words are aligned (`align`, `sclite`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kaldi_mpq.errors import ScoringError

__all__ = ["ErrorCounts"]


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of some utterances; they add, and `total` adds many.

    Args:
      utterances: how many utterances.
      wrong: how many of them have an error.
      ref_words: words of their references.
      substitutions, deletions, insertions: errors.
    Raises:
      ScoringError: counts that no text can have.
    """

    utterances: int = 0
    wrong: int = 0
    ref_words: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __post_init__(self) -> None:
        if not all(isinstance(value, int) and value >= 0 for value in self._values()):
            raise ScoringError("impossible error counts", expected="whole numbers from 0", found=self)
        if self.substitutions + self.deletions > self.ref_words:
            raise ScoringError("more words substituted or deleted than there are", found=self)
        if not (self.wrong <= self.utterances and self.wrong <= self.errors) or (self.errors and not self.wrong):
            raise ScoringError("number of wrong utterances does not fit", found=self)

    @classmethod
    def of(cls, ops: str) -> ErrorCounts:
        """Return the counts of one utterance from its alignment: a letter C, S, D or I for each pair of words."""
        correct, substitutions, deletions, insertions = (ops.count(letter) for letter in "CSDI")
        errors = substitutions + deletions + insertions
        if correct + errors != len(ops):
            raise ScoringError("bad alignment", expected="the letters C, S, D and I", found=repr(ops))
        return cls(1, int(errors > 0), correct + substitutions + deletions, substitutions, deletions, insertions)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: object = None) -> ErrorCounts:
        """Return what `to_dict` gave; keys that are derived from others are not read.

        Raises:
          ScoringError: a count is missing or impossible.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        missing = [name for name in names if name not in values]
        if missing:
            raise ScoringError(f"no {', '.join(missing)} among the error counts", where=where, found=sorted(values))
        return cls(**{name: values[name] for name in names})

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        if not isinstance(other, ErrorCounts):
            return NotImplemented
        return ErrorCounts(*(a + b for a, b in zip(self._values(), other._values())))

    @classmethod
    def total(cls, counts: Iterable[ErrorCounts]) -> ErrorCounts:
        """Return the sum of any number of counts."""
        return cls(*map(sum, zip(cls()._values(), *(one._values() for one in counts))))

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def correct(self) -> int:
        """Reference words that were recognized."""
        return self.ref_words - self.substitutions - self.deletions

    @property
    def wer(self) -> float:
        """Word error rate in percent; where there are no words, 0 without errors and infinite with them."""
        if self.ref_words == 0:
            return math.inf if self.errors else 0.0
        return 100.0 * self.errors / self.ref_words

    @property
    def ser(self) -> float:
        """Utterances with an error, in percent."""
        return 100.0 * self.wrong / self.utterances if self.utterances else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and, for readers, the rate."""
        return {**dataclasses.asdict(self), "errors": self.errors, "wer": self.wer if math.isfinite(self.wer) else None}

    def _values(self) -> tuple[int, ...]:
        # dataclasses.astuple copies deeply: with it, adding counts would take most of the time of scoring.
        return self.utterances, self.wrong, self.ref_words, self.substitutions, self.deletions, self.insertions

    def __str__(self) -> str:
        """Return Kaldi's line: ``%WER 22.18 [ 3768 / 16985, 359 ins, 347 del, 3062 sub ]``."""
        parts = f"{self.insertions} ins, {self.deletions} del, {self.substitutions} sub"
        return f"%WER {self.wer:.2f} [ {self.errors} / {self.ref_words}, {parts} ]"
