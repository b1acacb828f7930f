# SPDX-License-Identifier: Apache-2.0
"""Utterances with their alignments, and Kaldi's files of them: ``per_utt`` and ``per_spk``.

    utt-1 ref   we  ***  saw  it
    utt-1 hyp   we  all  was  ***
    utt-1 op     C   I    S    D
    utt-1 #csid 1 1 1 1

Not here: how an alignment is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import ScoringError
from kaldi_mpq.score.error_counts import ErrorCounts

__all__ = ["Aligned", "Utterance", "by_speaker", "read_per_utt", "total", "write_per_spk", "write_per_utt"]

_NOTHING = "***"
_LINES = ("ref", "hyp", "op", "#csid")


@dataclass(frozen=True)
class Utterance:
    """What was said and what was recognized, ready to be aligned."""

    name: str
    speaker: str
    ref: tuple[str, ...]
    hyp: tuple[str, ...]

    def aligned(self, ops: str) -> Aligned:
        """Return the utterance with its alignment."""
        return Aligned(self.name, self.speaker, self.ref, self.hyp, ops)


@dataclass(frozen=True)
class Aligned:
    """An utterance and its alignment, a letter C, S, D or I for each pair of words.

    Raises:
      ScoringError: the letters do not use up the words.
    """

    name: str
    speaker: str
    ref: tuple[str, ...]
    hyp: tuple[str, ...]
    ops: str

    def __post_init__(self) -> None:
        counts = ErrorCounts.of(self.ops)
        if counts.ref_words != len(self.ref) or counts.correct + counts.substitutions + counts.insertions != len(
            self.hyp
        ):
            raise ScoringError(
                "alignment does not fit its words", where=self.name, expected=f"{self.ref} {self.hyp}", found=self.ops
            )

    @property
    def counts(self) -> ErrorCounts:
        """Errors of this utterance."""
        return ErrorCounts.of(self.ops)

    def pairs(self) -> list[tuple[str | None, str | None]]:
        """Return (reference word, hypothesis word) for each letter; None where there is no word."""
        ref, hyp = iter(self.ref), iter(self.hyp)
        return [(None if op == "I" else next(ref), None if op == "D" else next(hyp)) for op in self.ops]


def total(utterances: Iterable[Aligned]) -> ErrorCounts:
    """Return the errors of all utterances."""
    return ErrorCounts.total(utterance.counts for utterance in utterances)


def by_speaker(utterances: Iterable[Aligned]) -> dict[str, ErrorCounts]:
    """Return the errors of each speaker, speakers in alphabetical order."""
    counts: dict[str, ErrorCounts] = {}
    for utterance in utterances:
        counts[utterance.speaker] = counts.get(utterance.speaker, ErrorCounts()) + utterance.counts
    return dict(sorted(counts.items()))


def write_per_utt(path: str | Path, utterances: Sequence[Aligned]) -> None:
    """Write Kaldi's file of alignments, four lines for each utterance."""
    with writing(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        for utterance in utterances:
            columns = [
                (ref or _NOTHING, hyp or _NOTHING, op) for (ref, hyp), op in zip(utterance.pairs(), utterance.ops)
            ]
            widths = [max(map(len, column)) for column in columns]
            for row, label in enumerate(_LINES[:3]):
                words = "".join(f"  {column[row]:^{width}}" for column, width in zip(columns, widths))
                stream.write(f"{utterance.name} {label:<5}{words}".rstrip(" ") + "\n")
            numbers = " ".join(str(utterance.ops.count(letter)) for letter in "CSID")
            stream.write(f"{utterance.name} #csid {numbers}\n")


def read_per_utt(path: str | Path) -> dict[str, Aligned]:
    """Return the utterances of a ``per_utt`` file, speakers left empty.

    Raises:
      MissingInputError, ScoringError: no such file; a line that does not belong there, with its number.
    """
    require([path])
    found: dict[str, Aligned] = {}
    lines = Path(path).read_bytes().decode("utf-8").split("\n")
    for start in range(0, len(lines) - 1, len(_LINES)):
        rows = [line.encode().split() for line in lines[start : start + len(_LINES)]]
        name = rows[0][0].decode() if rows[0] else ""
        if [row[:2] for row in rows] != [[name.encode(), label.encode()] for label in _LINES] or name in found:
            expected = "four lines of an utterance: ref, hyp, op, #csid"
            raise ScoringError(
                "not a per_utt file", where=f"{path}:{start + 1}", expected=expected, found=repr(lines[start])
            )
        ref, hyp, ops = ([word.decode() for word in row[2:]] for row in rows[:3])
        spoken = tuple(word for word, op in zip(ref, ops) if op != "I")
        recognized = tuple(word for word, op in zip(hyp, ops) if op != "D")
        found[name] = Aligned(name, "", spoken, recognized, "".join(ops))
    return found


def write_per_spk(path: str | Path, speakers: Mapping[str, ErrorCounts]) -> None:
    """Write Kaldi's table of speakers: counts (raw) and percentages (sys) of each, and of all (SUM)."""
    rows = [("SPEAKER", "id", "#SENT", "#WORD", "Corr", "Sub", "Ins", "Del", "Err", "S.Err")]
    for name, counts in [*speakers.items(), ("SUM", ErrorCounts.total(speakers.values()))]:
        numbers = (counts.correct, counts.substitutions, counts.insertions, counts.deletions, counts.errors)
        sizes = (str(counts.utterances), str(counts.ref_words))
        percent = [f"{100.0 * number / max(counts.ref_words, 1):.2f}" for number in numbers]
        rows.append((name, "raw", *sizes, *map(str, numbers), str(counts.wrong)))
        rows.append((name, "sys", *sizes, *percent, f"{counts.ser:.2f}"))
    width = max(len(row[0]) for row in rows)
    text = "".join(f"{row[0]:<{width}} {row[1]:<3}" + "".join(f" {cell:>8}" for cell in row[2:]) + "\n" for row in rows)
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
