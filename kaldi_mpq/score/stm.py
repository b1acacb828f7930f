# SPDX-License-Identifier: Apache-2.0
"""Words with times against a reference with times (STM), as hubscr.pl scores English hub5.

    STM :== file channel speaker begin end [<labels>] words

Both sides go through csrfilt with the glm, where there is one: capitals, hyphens split, the glm's rules (contractions,
hesitations in parentheses). sclite then counts optional words that are missing as correct (-D) and word fragments that
match as correct (-F).

What hubscr.pl of Debian's SCTK stumbles over is not needed here or avoided: its report ``lur`` fails on an stm without
``;; LABEL`` lines, and rfilter1 crashes, unnoticed by csrfilt, on a glm without a rule.

Not here: how words get their times (`ctm`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from kaldi_mpq.errors import ScoringError, TextError
from kaldi_mpq.score.aligned import Aligned, total
from kaldi_mpq.score.sctk import Sctk, SgmlPath, read_raw_sum, read_sgml

__all__ = ["StmScorer"]

log = logging.getLogger(__name__)

_NULL = "@"  # sclite's word for none: an optional word that is missing
_HARMLESS_RULE = "[MPQ-NO-SUCH-WORD] => MPQ-NO-SUCH-WORD\n"
_IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"


class StmScorer:
    """Scores lists of CTM lines against one stm.

    Args:
      stm: the reference.
      glm: mapping rules, or None.
      directory: for ref.stm, made once.
    Raises:
      TextError: a line of the stm has too few fields.
      ScoringError: the filter loses lines.
    """

    def __init__(self, sctk: Sctk, stm: Path, glm: Path | None, directory: Path) -> None:
        self._sctk = sctk
        self._glm = None if glm is None else _usable_glm(glm, directory)
        lines = _sorted_stm(stm)
        self._segments = sum(not line.startswith(";;") and _IGNORED not in line.upper() for line in lines)
        self._reference = directory.resolve() / "ref.stm"
        filtered = self._filter("stm", "ref", lines)
        if sum(not line.startswith(";;") for line in filtered) != sum(not line.startswith(";;") for line in lines):
            raise ScoringError("csrfilt lost lines of the stm", where=stm, hint=f"is the glm well-formed? {glm}")
        self._reference.write_text("\n".join(filtered) + "\n", encoding="utf-8")
        self.name = f"sclite {sctk.version} stm, {'glm' if glm else 'no glm'}"

    def score(self, ctm: Sequence[str], directory: Path, reports: Sequence[str] = ("rsum", "sgml")) -> list[Aligned]:
        """Return the alignment of every segment of the stm that is not marked as ignored.

        Args:
          ctm: lines, sorted.
          directory: where hyp.ctm (filtered) and sclite's reports hyp.ctm.* are left.
          reports: sclite's names; rsum and sgml among them.
        Raises:
          ScoringError: a program fails, or alignments and sums differ.
        """
        filtered = self._filter("ctm", "hyp", ctm)
        if ctm and not filtered:
            raise ScoringError(
                "csrfilt lost all hypotheses", where=directory, hint=f"is the glm well-formed? {self._glm}"
            )
        (directory / "hyp.ctm").write_text("".join(f"{line}\n" for line in filtered), encoding="utf-8")
        arguments = ["-F", "-D", "-f", "0", "-r", self._reference, "stm", "-h", "hyp.ctm", "ctm"]
        self._sctk.run("sclite", *arguments, "-o", *reports, "-O", ".", "-n", "hyp.ctm", cwd=directory)
        aligned = [_aligned(path) for path in read_sgml(directory / "hyp.ctm.sgml")]
        counts = total(aligned)
        found = (counts.utterances, counts.correct, counts.substitutions, counts.deletions, counts.insertions)
        expected = read_raw_sum(directory / "hyp.ctm.raw")
        if found != expected or found[0] != self._segments:
            raise ScoringError(
                "sclite's alignments, its sums and the stm differ",
                where=directory / "hyp.ctm.raw",
                expected=f"{expected} in {self._segments} segments",
                found=found,
            )
        return aligned

    def _filter(self, kind: str, purpose: str, lines: Sequence[str]) -> list[str]:
        if self._glm is None:
            return list(lines)
        text = "".join(f"{line}\n" for line in lines).encode("utf-8")
        done = self._sctk.run("csrfilt.sh", "-i", kind, "-t", purpose, "-dh", self._glm, stdin=text)
        return done.decode("utf-8").splitlines()


def _aligned(path: SgmlPath) -> Aligned:
    ref = tuple(word or _NULL for op, word, _ in path.entries if op != "I")
    hyp = tuple(word or _NULL for op, _, word in path.entries if op != "D")
    return Aligned(path.name, path.speaker, ref, hyp, path.ops)


def _sorted_stm(path: Path) -> list[str]:
    """Return the lines of an stm: comments first, then by file, channel and time, the order that sclite needs."""
    comments, rows = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith(";;"):
            comments.append(line)
            continue
        fields = line.split()
        if not fields:
            continue
        try:
            rows.append((fields[0], fields[1], float(fields[3]), line))
            float(fields[4])
        except (IndexError, ValueError) as error:
            expected = "file channel speaker begin end words"
            raise TextError(
                "bad line of an stm", where=f"{path}:{number}", expected=expected, found=repr(line[:80])
            ) from error
    if not rows:
        raise ScoringError("nothing to score against", where=path, found="an stm without segments")
    return comments + [row[3] for row in sorted(rows, key=lambda row: row[:3])]


def _usable_glm(glm: Path, directory: Path) -> Path:
    """Return the glm, or a copy with a rule that never applies if it has none."""
    text = glm.read_text(encoding="utf-8", errors="surrogateescape")
    if any("=>" in line and not line.startswith((";;", "*")) for line in text.splitlines()):
        return glm.resolve()
    log.warning("%s has no rule, which crashes SCTK's rfilter1: a rule that never applies is added to a copy", glm)
    copy = directory.resolve() / "used.glm"
    copy.write_text(text.rstrip("\n") + "\n" + _HARMLESS_RULE, encoding="utf-8", errors="surrogateescape")
    return copy
