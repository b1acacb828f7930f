# SPDX-License-Identifier: Apache-2.0
"""NIST's scoring toolkit: where its programs are, how they are run, and sclite's alignments read back.

Not here: what is given to sclite (`sclite` for texts, `stm` for words with times).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.errors import ScoringError

__all__ = ["Sctk", "SgmlPath", "matching", "read_raw_sum", "read_sgml"]

_PATH = re.compile(r"<PATH id=\"\((.*?)\)\" word_cnt=\"\d+\"(.*?) sequence=\"(\d+)\".*?>\n(.*?)\n</PATH>", re.DOTALL)
_SPEAKER = re.compile(r"<SPEAKER id=\"(.*?)\">\n(.*?)</SPEAKER>", re.DOTALL)
_ENTRY = re.compile(r'([CSDI]),(?:"(.*?)")?,(?:"(.*?)")?(?:,[0-9.+-]*)?(?::(?=[CSDI],)|$)', re.DOTALL)


@dataclass(frozen=True)
class SgmlPath:
    """Alignment of one utterance in sclite's SGML: its words as sclite writes them, empty where there is none."""

    name: str
    speaker: str
    sequence: int
    entries: tuple[tuple[str, str, str], ...]

    @property
    def ops(self) -> str:
        """A letter C, S, D or I for each entry."""
        return "".join(entry[0] for entry in self.entries)


@dataclass(frozen=True)
class Sctk:
    """An installation of SCTK: the folder of its programs and sclite's version."""

    folder: Path
    version: str

    @classmethod
    def find(cls) -> Sctk | None:
        """Return the SCTK on PATH, in Debian's folder, or under KALDI_ROOT; None where there is none."""
        folders = [os.environ.get("PATH", os.defpath), "/usr/lib/sctk/bin"]
        if os.environ.get("KALDI_ROOT"):
            folders.append(os.path.join(os.environ["KALDI_ROOT"], "tools", "sctk", "bin"))
        program = shutil.which("sclite", path=os.pathsep.join(folders))
        if program is None:
            return None
        usage = subprocess.run([program], capture_output=True, check=False)
        version = re.search(rb"sclite Version: ([\w.]+)", usage.stdout + usage.stderr)
        return cls(Path(program).parent, version.group(1).decode() if version else "of unknown version")

    def run(self, program: str, *arguments: str | Path, cwd: Path | None = None, stdin: bytes = b"") -> bytes:
        """Return what a program of SCTK writes to stdout.

        Raises:
          ScoringError: it cannot be started, or ends with another status than 0; with its last lines.
        """
        path = f"{self.folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        command = [str(self.folder / program), *map(str, arguments)]
        try:
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                cwd=cwd,
                env={**os.environ, "PATH": path, "LC_ALL": "C"},
                check=False,
            )
        except OSError as error:
            raise ScoringError(f"cannot run {program}", where=command[0], found=error.strerror) from error
        if done.returncode != 0:
            raise ScoringError(
                f"{program} failed", expected="status 0", found=f"status {done.returncode}", hint=_last_lines(done)
            )
        return done.stdout


def read_sgml(path: Path) -> list[SgmlPath]:
    """Return the alignments of an SGML report, in the order of the reference.

    Raises:
      ScoringError: an alignment cannot be understood.
    """
    text = path.read_bytes().decode("utf-8", errors="replace")
    return sorted(_paths(text, path), key=lambda found: found.sequence)


def read_raw_sum(path: Path) -> tuple[int, int, int, int, int]:
    """Return (utterances, correct, substitutions, deletions, insertions) from the Sum line of a ``.raw`` report."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.strip().startswith("| Sum"):
            numbers = [int(word) for word in re.findall(r"-?\d+", line)]
            if len(numbers) == 8:
                return numbers[0], numbers[2], numbers[3], numbers[4], numbers[5]
    raise ScoringError("no line of sums in sclite's report", where=path)


def matching(paths: Sequence[SgmlPath], count: int, where: Path) -> Sequence[SgmlPath]:
    """Return ``paths`` if they are numbered 0 to count - 1; raises ScoringError otherwise."""
    if [found.sequence for found in paths] != list(range(count)):
        raise ScoringError("sclite did not align every utterance", where=where, expected=count, found=len(paths))
    return paths


def _paths(text: str, where: Path) -> Iterator[SgmlPath]:
    for speaker, inside in _SPEAKER.findall(text):
        for name, _, sequence, body in _PATH.findall(inside):
            entries, end = [], 0
            for entry in _ENTRY.finditer(body):
                if entry.start() != end:
                    break
                entries.append((entry.group(1), entry.group(2) or "", entry.group(3) or ""))
                end = entry.end()
            if end != len(body):
                raise ScoringError(
                    f"cannot read the alignment of {name}", where=where, found=repr(body[end : end + 60])
                )
            yield SgmlPath(name, speaker, int(sequence), tuple(entries))


def _last_lines(done: subprocess.CompletedProcess[bytes], count: int = 5) -> str:
    lines = (done.stdout + b"\n" + done.stderr).decode("utf-8", errors="replace").splitlines()
    return "its last lines: " + " | ".join([line.strip() for line in lines if line.strip()][-count:])
