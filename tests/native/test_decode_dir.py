# SPDX-License-Identifier: Apache-2.0
"""What a decode directory must hold, and what an output directory is made of."""

from __future__ import annotations

import pytest

from kaldi_mpq.errors import ConfigError, LatticeError, MissingInputError
from kaldi_mpq.native.decode_dir import DecodeDir


def make(path, num_jobs: str, archives: list[int]):
    """Write a decode directory with empty archives."""
    path.mkdir(exist_ok=True)
    (path / "num_jobs").write_text(num_jobs)
    for job in archives:
        (path / f"lat.{job}.gz").write_bytes(b"")
    return path


def test_all_missing_archives_are_named_at_once(tmp_path):
    """A user is told of every archive that is not there, not of the first."""
    with pytest.raises(MissingInputError, match=r"lat\.1\.gz.*lat\.3\.gz"):
        DecodeDir.open(make(tmp_path / "in", "3\n", [2]))


@pytest.mark.parametrize("content", ["", "0", "-1", "four", "2 2"])
def test_bad_num_jobs_is_refused(tmp_path, content):
    """num_jobs is a positive number."""
    with pytest.raises(LatticeError, match="num_jobs"):
        DecodeDir.open(make(tmp_path / "in", content, [1]))


def test_stray_archives_are_refused_on_input(tmp_path):
    """Scorers read lat.*.gz, so an archive beyond num_jobs would be scored too."""
    with pytest.raises(LatticeError, match=r"lat\.3\.gz"):
        DecodeDir.open(make(tmp_path / "in", "2\n", [1, 2, 3]))


def test_stray_archives_are_removed_from_output(tmp_path):
    """An earlier run with more jobs leaves nothing that a scorer could read."""
    make(tmp_path / "out", "4\n", [1, 2, 3, 4])
    out = DecodeDir.create(tmp_path / "out", 2)
    assert sorted(path.name for path in out.path.iterdir()) == ["lat.1.gz", "lat.2.gz", "num_jobs"]
    assert (out.path / "num_jobs").read_text() == "2\n"


def test_jobs_are_one_or_all(tmp_path):
    """None asks for all; a job that there is not is refused by number."""
    directory = DecodeDir.open(make(tmp_path / "in", "3\n", [1, 2, 3]))
    assert (directory.chosen(None), directory.chosen(2)) == ([1, 2, 3], [2])
    for job in (0, 4):
        with pytest.raises(ConfigError, match=f"no such job, expected 1 to 3, found {job}"):
            directory.chosen(job)
