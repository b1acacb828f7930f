# SPDX-License-Identifier: Apache-2.0
"""local/lmrescore_nbest.sh: Kaldi's call, every input checked at once, nothing lost on the way."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = "local/lmrescore_nbest.sh"


@pytest.fixture
def recipe(tmp_path, sample) -> Path:
    """A recipe directory with the sample's data and lattices, and an LM directory of empty files."""
    shutil.copytree(sample / "data", tmp_path / "data")
    shutil.copytree(sample / "exp", tmp_path / "exp")
    (tmp_path / "exp" / "lm").mkdir()
    for name in ("config.json", "model.safetensors", "words.txt"):
        (tmp_path / "exp" / "lm" / name).touch()
    return tmp_path


def arguments(**changed: str) -> list[str]:
    """Return the six arguments."""
    given = {"weight": "0.5", "lang": "data/lang_tg", "lm": "exp/lm", "data": "data/dev",
             "source": "exp/chain/tdnn/decode_dev_tg", "out": "exp/chain/tdnn/decode_dev_tg_new"}  # fmt: skip
    return list((given | changed).values())


@pytest.mark.parametrize("count", [0, 5, 7])
def test_a_wrong_number_of_arguments_shows_the_usage(shell, count):
    """On stdout with status 1, after the script's own command line, as Kaldi's scripts do."""
    done = shell(SCRIPT, *"abcdefg"[:count])
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].endswith("lmrescore_nbest.sh " + " ".join("abcdefg"[:count]))
    assert "<weight> <old-lang> <lm> <data> <in-decode-dir> <out-decode-dir>" in done.stdout


@pytest.mark.parametrize(
    "option", ["--N", "--inv-acwt", "--cmd", "--use-phi", "--test", "--stage", "--skip-scoring", "--keep-ali"]
)
def test_the_options_of_kaldis_script_are_options(shell, option):
    """What a recipe passes to rnnlm/lmrescore_nbest.sh can be passed here: only the arguments are missed."""
    done = shell(SCRIPT, option, "true")
    assert done.returncode == 1
    assert "unknown option" not in done.stderr
    assert "usage:" in done.stdout


def test_all_missing_inputs_are_named_at_once(shell, tmp_path):
    """On stderr and on stdout, status 1, and nothing is made."""
    done = shell(SCRIPT, "0.5", "lang", "lm", "data", "in", "out")
    assert done.returncode == 1
    for stream in (done.stdout, done.stderr):
        assert "missing 4 input(s): lang/words.txt lm in/num_jobs lang/G.fst (or G.carpa)" in stream
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_is_missing_is_named(shell, recipe):
    """num_jobs says how many there must be."""
    (recipe / "exp/chain/tdnn/decode_dev_tg/num_jobs").write_text("4\n")
    done = shell(SCRIPT, *arguments())
    assert done.returncode == 1
    assert (
        "missing 2 input(s): exp/chain/tdnn/decode_dev_tg/lat.3.gz exp/chain/tdnn/decode_dev_tg/lat.4.gz" in done.stderr
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight": "1.5"}, "number from 0 to 1"),
        ({"weight": "half"}, "number from 0 to 1"),
        ({"weight": "-0.1"}, "number from 0 to 1"),
        ({"out": "exp/chain/tdnn/decode_dev_tg"}, "output directory is the input directory"),
        ({"out": "exp/chain/../chain/tdnn/decode_dev_tg/"}, "output directory is the input directory"),
        ({"out": "exp/chain/tdnn/decode_JOB"}, "JOB"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(shell, recipe, changed, message):
    """Before anything is written: the lattices that are there stay."""
    before = (recipe / "exp/chain/tdnn/decode_dev_tg/lat.1.gz").read_bytes()
    done = shell(SCRIPT, *arguments(**changed))
    assert done.returncode == 1
    assert message in done.stderr
    assert (recipe / "exp/chain/tdnn/decode_dev_tg/lat.1.gz").read_bytes() == before


def test_num_jobs_must_be_a_number(shell, recipe):
    """A broken num_jobs is an error, not zero jobs."""
    (recipe / "exp/chain/tdnn/decode_dev_tg/num_jobs").write_text("two\n")
    done = shell(SCRIPT, *arguments())
    assert done.returncode == 1
    assert "no positive number but 'two'" in done.stderr


def test_the_plumbing_loses_nothing(shell, recipe):
    """--test true: every key, one job per archive, Kaldi's log form, stray archives gone, no scoring.

    Where the runner that is asked for is missing, as run.pl is without a Kaldi, ours runs the jobs, and that is said.
    """
    out = recipe / "exp/chain/tdnn/decode_dev_tg_new"
    out.mkdir()
    (out / "lat.3.gz").touch()
    (recipe / "path.sh").write_text("export FROM_PATH_SH=1; [ -z $unset_variable ]\n")
    done = shell(SCRIPT, "--test", "true", "--N", "5", "--cmd", "no_such_runner.pl --mem 4G", *arguments())
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
    archive = recipe / "exp/chain/tdnn/decode_dev_tg/lat.1.gz"
    (archive.parent / "num_jobs").write_text("1\n")
    content = gzip.decompress(archive.read_bytes())
    archive.write_bytes(gzip.compress(content[: len(content) // 2]))
    done = shell(SCRIPT, "--test", "true", *arguments())
    assert done.returncode == 1
    assert "rescoring failed, see exp/chain/tdnn/decode_dev_tg_new/log/rescore_nbest.*.log" in done.stderr
    assert "ERROR (mpq)" in done.stderr
    assert not (recipe / "exp/chain/tdnn/decode_dev_tg_new/lat.1.gz").exists()


def test_the_runner_given_is_called_as_kaldi_calls_it(shell, recipe):
    """--cmd gets its own options, JOB=1:nj, the log and the command."""
    runner = recipe / "runner.sh"
    runner.write_text('#!/bin/sh\necho "$@" > called\nexit 3\n')
    runner.chmod(0o755)
    done = shell(SCRIPT, "--test", "true", "--cmd", f"{runner} --mem 4G", *arguments())
    assert done.returncode == 1
    called = (recipe / "called").read_text()
    assert called.startswith("--mem 4G JOB=1:2 exp/chain/tdnn/decode_dev_tg_new/log/rescore_nbest.JOB.log ")
    assert "rescore nbest" in called
    assert "--job JOB" in called


@pytest.mark.parametrize(
    ("score", "options", "status"),
    [("exit 0", [], 0), ("exit 1", [], 1), ("exit 1", ["--skip-scoring", "true"], 0),
     (None, [], 0), (None, ["--require-scoring", "true"], 1)],
)  # fmt: skip
def test_scoring_decides_the_status(shell, recipe, score, options, status):
    """A scorer that fails fails the script; none at all is a warning, or an error if required."""
    if score:
        (recipe / "local").mkdir()
        (recipe / "local" / "score.sh").write_text(f'#!/bin/sh\necho "$@" > scored\n{score}\n')
        (recipe / "local" / "score.sh").chmod(0o755)
    done = shell(SCRIPT, "--stage", "9", "--cmd", "true", *options, *arguments())
    assert done.returncode == status, done.stdout + done.stderr
    if score and not options:
        expected = "--cmd true data/dev data/lang_tg exp/chain/tdnn/decode_dev_tg_new\n"
        assert (recipe / "scored").read_text() == expected
    if score is None:
        assert "local/score.sh" in done.stderr


def test_keys_that_differ_are_found(recipe):
    """What checks the archives sees a missing utterance, and names it."""
    source = recipe / "exp/chain/tdnn/decode_dev_tg"

    def compare(*names: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, str(ROOT / "local" / "lattice_keys.py"), *(str(source / name) for name in names)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(program, env=env, capture_output=True, text=True, check=False)

    assert compare("lat.1.gz", "lat.1.gz").returncode == 0
    assert len(compare("lat.1.gz").stdout.split()) == 15
    different = compare("lat.1.gz", "lat.2.gz")
    assert different.returncode == 2
    assert "lattice 1 has another key" in different.stderr
