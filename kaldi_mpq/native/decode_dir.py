# SPDX-License-Identifier: Apache-2.0
"""A Kaldi decode directory: ``lat.1.gz .. lat.nj.gz`` and ``num_jobs``. Not here: what is in the archives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import ConfigError, LatticeError

__all__ = ["DecodeDir", "check_strays", "expected_archives"]


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
        archives = expected_archives(path)
        require([path / "num_jobs", *archives], hint="a decode directory has lat.1.gz .. lat.nj.gz and num_jobs")
        check_strays(path, archives)
        return cls(path, len(archives))

    @classmethod
    def create(cls, path: str | Path, num_jobs: int) -> DecodeDir:
        """Return an output directory with ``num_jobs`` written; archives of an earlier run beyond it are removed."""
        directory = cls(Path(path), num_jobs)
        directory.path.mkdir(parents=True, exist_ok=True)
        for stray in _strays(directory.path, [directory.archive(job) for job in directory.jobs]):
            stray.unlink()
        with writing(directory.path / "num_jobs") as temporary:
            temporary.write_text(f"{num_jobs}\n", encoding="ascii")
        return directory

    @property
    def jobs(self) -> range:
        """Numbers of the jobs, from 1."""
        return range(1, self.num_jobs + 1)

    def chosen(self, job: int | None) -> list[int]:
        """Return the numbers of the jobs asked for: one, or with None all.

        Raises:
          ConfigError: there is no such job.
        """
        if job is None:
            return list(self.jobs)
        if job not in self.jobs:
            raise ConfigError("no such job", where=self.path, expected=f"1 to {self.num_jobs}", found=job)
        return [job]

    def archive(self, job: int) -> Path:
        """Return the path of a job's lattices."""
        return self.path / f"lat.{job}.gz"

    def scores(self, job: int) -> Path:
        """Return the path of the scores of a job's hypotheses, if they are kept."""
        return self.path / f"scores.{job}.npz"


def expected_archives(path: Path) -> list[Path]:
    """Return the archives that a decode directory should have: lat.1.gz only where num_jobs is missing.

    Raises:
      LatticeError: num_jobs is not a positive number.
    """
    num_jobs = path / "num_jobs"
    if not num_jobs.exists():
        return [path / "lat.1.gz"]
    word = num_jobs.read_text(encoding="ascii", errors="replace").strip()
    if not word.isdecimal() or int(word) == 0:
        raise LatticeError("bad number of jobs", where=num_jobs, expected="a positive number", found=repr(word))
    return [path / f"lat.{job}.gz" for job in range(1, int(word) + 1)]


def check_strays(path: Path, expected: Sequence[Path]) -> None:
    """Raise LatticeError if a decode directory has archives beyond those expected."""
    strays = _strays(path, expected)
    if strays:
        raise LatticeError(
            "archives beyond num_jobs",
            where=path,
            expected=f"lat.1.gz to {expected[-1].name}",
            found=", ".join(stray.name for stray in strays),
            hint="Kaldi's scorers would read them too; remove them: they are left from an earlier decoding",
        )


def _strays(path: Path, expected: Sequence[Path]) -> list[Path]:
    known = {archive.name for archive in expected}
    return sorted(archive for archive in path.glob("lat.*.gz") if archive.name not in known)
