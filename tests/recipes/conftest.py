# SPDX-License-Identifier: Apache-2.0
"""Shell scripts under test run with the Python of the tests, in a folder of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.recipes.drop_ins import FAKE_PYTHON, Calls

Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(tmp_path) -> Shell:
    """Run a program of local/ or recipes/ in an empty folder: ``shell("local/run_jobs.sh", "JOB=1:2", ...)``."""

    def run(program: str | Path, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        path = str(Path(sys.executable).parent) + ":" + os.environ["PATH"]
        env = {**os.environ, "MPQ_PYTHON": sys.executable, "PATH": path, "LC_ALL": "C.UTF-8", **environment}
        command = ["bash", str(ROOT / program), *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def recipe(tmp_path, sample) -> Path:
    """A recipe directory with the sample's data and lattices, and an LM directory of empty files."""
    shutil.copytree(sample / "data", tmp_path / "data")
    shutil.copytree(sample / "exp", tmp_path / "exp")
    (tmp_path / "exp" / "lm").mkdir()
    for name in ("config.json", "model.safetensors", "words.txt"):
        (tmp_path / "exp" / "lm" / name).touch()
    return tmp_path


@pytest.fixture
def ask(shell, recipe) -> Callable[..., tuple[subprocess.CompletedProcess[str], Calls]]:
    """Run a script in the recipe directory with a Python that notes what it is asked: (result, calls)."""
    fake = recipe / "python"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)

    def run(script: str, *words: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], Calls]:
        calls = Calls(recipe / "calls")
        calls.path.unlink(missing_ok=True)
        return shell(script, *words, MPQ_PYTHON=str(fake), CALLS=str(calls.path), **environment), calls

    return run
