# SPDX-License-Identifier: Apache-2.0
"""A Kaldi decode directory: ``lat.1.gz .. lat.nj.gz`` and ``num_jobs``. Not here: what is in the archives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import LatticeError

__all__ = ["DecodeDir"]


@dataclass(frozen=True)
class DecodeDir:
    """A directory of ``num_jobs`` lattice archives."""

    path: Path
    num_jobs: int

    @classmethod
    def open(cls, path: str | Path) -> DecodeDir:
        """Return a decode directory whose archives are all there.

        Raises:
          MissingInputError: the directory, num_jobs or an archive does not exist; all that are missing are named.
          LatticeError: num_jobs is not a positive number, or there are archives beyond it.
        """
        path = Path(path)
        require([path / "num_jobs"], hint="a decode directory has lat.1.gz .. lat.nj.gz and num_jobs")
        word = (path / "num_jobs").read_text(encoding="ascii", errors="replace").strip()
        if not word.isdecimal() or int(word) == 0:
            raise LatticeError(
                "bad number of jobs", where=path / "num_jobs", expected="a positive number", found=repr(word)
            )
        directory = cls(path, int(word))
        require([directory.archive(job) for job in directory.jobs], hint=f"num_jobs says {directory.num_jobs}")
        strays = directory.strays()
        if strays:
            raise LatticeError(
                "archives beyond num_jobs", where=path, expected=f"lat.1.gz to lat.{directory.num_jobs}.gz",
                found=", ".join(stray.name for stray in strays), hint="remove them: an earlier decoding left them",
            )  # fmt: skip
        return directory

    @property
    def jobs(self) -> range:
        """Numbers of the jobs, from 1."""
        return range(1, self.num_jobs + 1)

    def archive(self, job: int) -> Path:
        """Return the path of a job's lattices."""
        return self.path / f"lat.{job}.gz"

    def strays(self) -> list[Path]:
        """Return archives whose number is beyond the last job's."""
        known = {self.archive(job).name for job in self.jobs}
        return sorted(path for path in self.path.glob("lat.*.gz") if path.name not in known)

    @classmethod
    def create(cls, path: str | Path, num_jobs: int) -> DecodeDir:
        """Return an output directory with ``num_jobs`` written; archives of an earlier run beyond it are removed."""
        directory = cls(Path(path), num_jobs)
        directory.path.mkdir(parents=True, exist_ok=True)
        for stray in directory.strays():
            stray.unlink()
        with writing(directory.path / "num_jobs") as temporary:
            temporary.write_text(f"{num_jobs}\n", encoding="ascii")
        return directory
