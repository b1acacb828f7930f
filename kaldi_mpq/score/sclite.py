# SPDX-License-Identifier: Apache-2.0
"""Texts aligned by sclite in its trn format: ``word word ... (speaker-utterance)``.

Some characters mean something to sclite there: * ; @ \\ { } ( ) " are lost, or make alternatives, optional words and
comments. They are written as ~ and two hexadecimal digits, so that a word is a word. Case was settled before (sclite is
run with -s). Words of more than 1,000 bytes and very long utterance names make sclite 2.10 crash; they are shortened.

Not here: words with times (`stm`); alignments without sclite (`align`).
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kaldi_mpq.errors import ScoringError
from kaldi_mpq.score.aligned import Aligned, Utterance, total
from kaldi_mpq.score.error_counts import ErrorCounts
from kaldi_mpq.score.sctk import Sctk, matching, read_raw_sum, read_sgml

__all__ = ["ScliteScorer", "trn_word"]

_SPECIAL = re.compile(r'[*;@\\{}()"~]')
_MAX_BYTES = 120  # of a word or name; sclite's own limit lies above 255


class ScliteScorer:
    """Scores utterances with sclite; the same two methods as `align.KaldialignScorer`."""

    def __init__(self, sctk: Sctk) -> None:
        self._sctk = sctk
        self.name = f"sclite {sctk.version}"

    def count(self, pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[ErrorCounts]:
        """Return the errors of each (reference, hypothesis)."""
        utterances = [Utterance(str(number), "all", tuple(ref), tuple(hyp)) for number, (ref, hyp) in enumerate(pairs)]
        with tempfile.TemporaryDirectory(prefix="mpq_sclite_") as directory:
            return [found.counts for found in self._align(utterances, Path(directory), ["sgml"])]

    def report(self, utterances: Sequence[Utterance], directory: Path) -> list[Aligned]:
        """Return the alignment of each utterance; sclite's reports hyp.trn.* are left in ``directory`` with both texts.

        Raises:
          ScoringError: sclite fails, or its alignments are not those of its own sums.
        """
        directory.mkdir(parents=True, exist_ok=True)
        aligned = self._align(utterances, directory, ["sum", "rsum", "pralign", "sgml"])
        expected = read_raw_sum(directory / "hyp.trn.raw")
        counts = total(aligned)
        found = (counts.utterances, counts.correct, counts.substitutions, counts.deletions, counts.insertions)
        if found != expected:
            raise ScoringError(
                "sclite's alignments and sums differ", where=directory / "hyp.trn.raw", expected=expected, found=found
            )
        return aligned

    def _align(self, utterances: Sequence[Utterance], directory: Path, reports: Sequence[str]) -> list[Aligned]:
        if not utterances:
            return []
        names = _trn_names(utterances)
        _write_trn(directory / "ref.trn", [utterance.ref for utterance in utterances], names)
        _write_trn(directory / "hyp.trn", [utterance.hyp for utterance in utterances], names)
        arguments = ["-s", "-f", "0", "-i", "spu_id", "-r", "ref.trn", "trn", "-h", "hyp.trn", "trn"]
        self._sctk.run("sclite", *arguments, "-o", *reports, "-O", ".", "-n", "hyp.trn", cwd=directory)
        sgml = directory / "hyp.trn.sgml"
        paths = matching(read_sgml(sgml), len(utterances), sgml)
        return [utterance.aligned(path.ops) for utterance, path in zip(utterances, paths)]


def trn_word(word: str) -> str:
    """Return a word as it is written for sclite: different words stay different."""
    escaped = _SPECIAL.sub(lambda match: f"~{ord(match.group()):02x}", word)
    if len(escaped.encode()) <= _MAX_BYTES:
        return escaped
    return f"{escaped.encode()[:60].decode(errors='ignore')}~~{hashlib.sha256(word.encode()).hexdigest()[:24]}"


def _trn_names(utterances: Sequence[Utterance]) -> list[str]:
    """Return a name ``speaker-utterance`` for each; sclite takes what is before the first - or _ for the speaker."""
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for speaker in dict.fromkeys(utterance.speaker for utterance in utterances):
        label = trn_word(re.sub(r"[-_]", ".", speaker))
        while label.lower() in taken:
            label += "+"
        taken.add(label.lower())
        labels[speaker] = label
    return [f"{labels[utterance.speaker]}-{trn_word(utterance.name)}" for utterance in utterances]


def _write_trn(path: Path, texts: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as stream:
        for text, name in zip(texts, names):
            stream.write(" ".join([*map(trn_word, text), f"({name})"]) + "\n")
