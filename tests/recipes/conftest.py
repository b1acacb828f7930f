# SPDX-License-Identifier: Apache-2.0
"""Shell scripts under test run with the Python of the tests, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

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
