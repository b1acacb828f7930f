# SPDX-License-Identifier: Apache-2.0
"""benchmarks/peers/make_env.sh: one message where Python 3.12 is missing, one installation where it is not."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.conftest import ROOT

FAKE_PYTHON = r"""#!/bin/bash
case "$1 $2" in
  "- "*) [[ " $2 " == *" 3.12 "* ]] ;;
  -V*) echo "Python 3.12.99" ;;
  *executable*) echo "$0" ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip") echo "$*" >> pip_calls; [ -z "$PIP_FAILS" ] ;;
esac
"""


@pytest.fixture
def make_env(tmp_path):
    """Call the script in a small copy of the repository; returns (status, what it said, pip's calls)."""
    for folder in ("local/env", "benchmarks/peers"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))

    def run(**environment):
        calls = tmp_path / "pip_calls"
        calls.unlink(missing_ok=True)
        env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path), **environment}
        command = ["bash", "benchmarks/peers/make_env.sh"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr, calls.read_text().splitlines() if calls.exists() else []

    return run


@pytest.fixture
def fake_python(tmp_path):
    """Return a Python 3.12 that does what the script asks of it, at once."""
    path = tmp_path / "python"
    path.write_text(FAKE_PYTHON)
    path.chmod(0o755)
    return {"MPQ_PYTHON_PEERS": str(path)}


def test_a_missing_python_is_one_message(make_env, tmp_path):
    """What is missing and what helps; nothing is made."""
    status, said, calls = make_env(MPQ_PYTHON_PEERS="/nonexistent/python3.12")
    assert (status, calls, len(said.splitlines())) == (1, [], 1)
    assert "no Python 3.12" in said
    assert not (tmp_path / ".venv-peers").exists()


def test_the_second_call_installs_nothing(make_env, fake_python, tmp_path):
    """The first installs the pinned packages; changed pins are installed again."""
    status, said, calls = make_env(**fake_python)
    assert (status, len(calls)) == (0, 1), said
    assert "benchmarks/peers/requirements.txt" in calls[0]
    assert make_env(**fake_python)[::2] == (0, [])
    (tmp_path / "benchmarks" / "peers" / "requirements.txt").write_text("a==2\n")
    assert len(make_env(**fake_python)[2]) == 1


def test_a_failed_installation_is_made_again(make_env, fake_python):
    """pip fails: what it needs; the next call does not take the half for the whole."""
    status, said, _ = make_env(PIP_FAILS="1", **fake_python)
    assert status == 1
    assert "is there one, or a mirror" in said
    assert len(make_env(**fake_python)[2]) == 1


def test_an_environment_of_somebody_else_is_not_touched(make_env, fake_python, tmp_path):
    """It is refused, and stays as it is."""
    (tmp_path / ".venv-peers").mkdir()
    (tmp_path / ".venv-peers" / "precious").touch()
    status, said, calls = make_env(**fake_python)
    assert (status, calls) == (1, [])
    assert "did not make it" in said
    assert (tmp_path / ".venv-peers" / "precious").exists()
