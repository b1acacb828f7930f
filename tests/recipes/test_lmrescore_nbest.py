# SPDX-License-Identifier: Apache-2.0
"""local/lmrescore_nbest.sh with the real mpq: nothing lost on the way. What scripts share is in test_drop_ins.py."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys

from tests.conftest import ROOT
from tests.recipes.drop_ins import DROP_INS, OUT, SOURCE

NBEST = next(drop_in for drop_in in DROP_INS if drop_in.name == "lmrescore_nbest")


def test_the_plumbing_loses_nothing(shell, recipe):
    """--test true: every key, one job per archive, Kaldi's log form, stray archives gone, no scoring.

    Where the runner that is asked for is missing, as run.pl is without a Kaldi, ours runs the jobs, and that is said.
    """
    out = recipe / OUT
    out.mkdir()
    (out / "lat.3.gz").touch()
    (recipe / "path.sh").write_text("export FROM_PATH_SH=1; [ -z $unset_variable ]\n")
    done = shell(NBEST.script, "--test", "true", "--N", "5", "--cmd", "no_such_runner.pl --mem 4G", *NBEST.words())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no no_such_runner.pl" in done.stderr
    assert sorted(path.name for path in out.glob("lat.*")) == ["lat.1.gz", "lat.2.gz"]
    assert (out / "num_jobs").read_text().strip() == "2"
    for job in (1, 2):
        log = (out / "log" / f"rescore_nbest.{job}.log").read_text()
        assert "# Ended (code 0)" in log
        assert f"the 15 keys of exp/chain/tdnn/decode_dev_tg/lat.{job}.gz" in log
    assert "15 utterances in, 15 out" in done.stdout


def test_a_job_that_fails_fails_the_script_and_shows_why(shell, recipe):
    """A cut-off archive: status 1, its last error lines, the pattern of the logs; nothing half is left."""
    archive = recipe / SOURCE / "lat.1.gz"
    (archive.parent / "num_jobs").write_text("1\n")
    (archive.parent / "lat.2.gz").unlink()
    content = gzip.decompress(archive.read_bytes())
    archive.write_bytes(gzip.compress(content[: len(content) // 2]))
    done = shell(NBEST.script, "--test", "true", *NBEST.words())
    assert done.returncode == 1
    assert f"rescoring failed, see {OUT}/log/rescore_nbest.*.log" in done.stderr
    assert "ERROR (mpq)" in done.stderr
    assert "lat.1.gz" in done.stderr
    assert list((recipe / OUT).glob("lat.*")) == []


def test_keys_that_differ_are_found(recipe):
    """What checks the archives sees a missing utterance, and names it."""

    def compare(*names: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, str(ROOT / "local" / "lattice_keys.py")]
        archives = [str(recipe / SOURCE / name) for name in names]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([*program, *archives], env=env, capture_output=True, text=True, check=False)

    assert compare("lat.1.gz", "lat.1.gz").returncode == 0
    assert len(compare("lat.1.gz").stdout.split()) == 15
    different = compare("lat.1.gz", "lat.2.gz")
    assert different.returncode == 2
    assert "lattice 1 has another key" in different.stderr
