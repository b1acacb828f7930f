# SPDX-License-Identifier: Apache-2.0
"""local/env: which Python is taken, and environments that are made once, whole, and again only when they must be."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Does what make_env asks of a Python, at once: venv copies itself, pip notes its arguments and "compiles".
FAKE_PYTHON = r"""#!/bin/bash
case "$1 $2" in
  "- "*) [[ " $2 " == *" VERSION "* ]] ;;
  -V*) echo "Python VERSION.99" ;;
  *executable*) echo "$0" ;;
  *EXT_SUFFIX*) echo .fake.so ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip")
    echo "$*" >> pip_calls
    if [ -n "$PIP_FAILS" ]; then exit 1; fi
    [[ "$*" == *" -e "* ]] || exit 0
    for name in kaldi_mpq/native/src/*/; do touch "kaldi_mpq/native/_$(basename "$name").fake.so"; done ;;
esac
"""
BROKEN_SHIM = "#!/bin/bash\necho 'pyenv: python3.10: command not found' >&2\nexit 127\n"


def write_program(path: Path, text: str) -> Path:
    """Write an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def make_env(tmp_path):
    """Call make_env.sh in a small copy of the repository; returns (status, what it said, pip's calls)."""
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "local" / "env", tmp_path / "local" / "env")
    for name in ("k2", "current"):
        (tmp_path / "requirements").mkdir(exist_ok=True)
        (tmp_path / "requirements" / f"{name}.txt").write_text("a==1\n")
    for name in ("archive", "paths"):
        (tmp_path / "kaldi_mpq" / "native" / "src" / name).mkdir(parents=True)
        (tmp_path / "kaldi_mpq" / "native" / "src" / name / "module.cpp").write_text("int x;\n")
    python = write_program(tmp_path / "python", FAKE_PYTHON.replace("VERSION", "3.10"))

    def run(stack: str = "k2", **environment: str) -> tuple[int, str, list[str]]:
        calls = tmp_path / "pip_calls"
        calls.unlink(missing_ok=True)
        env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "MPQ_PYTHON": str(python),
            "MPQ_NO_APT": "1",
            **environment,
        }
        command = ["bash", "local/env/make_env.sh", stack]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr, calls.read_text().splitlines() if calls.exists() else []

    return run


def test_the_second_call_starts_at_once(make_env, tmp_path):
    """The first installs packages and package; the second neither calls pip nor takes a second."""
    status, said, calls = make_env()
    assert status == 0, said
    assert ["-r requirements/k2.txt" in calls[0], "-e ." in calls[1], len(calls)] == [True, True, 2]
    assert (tmp_path / ".venv" / "bin" / "python").exists()
    began = time.monotonic()
    assert make_env()[::2] == (0, [])
    assert time.monotonic() - began < 1.0


def test_an_interrupted_environment_is_made_again(make_env, tmp_path):
    """pip was killed in the middle: the next call does not build on what it left."""
    assert make_env(PIP_FAILS="1")[0] != 0
    (tmp_path / ".venv" / "half").touch()
    status, said, calls = make_env()
    assert (status, len(calls)) == (0, 2)
    assert "not whole" in said
    assert not (tmp_path / ".venv" / "half").exists()


def test_no_network_is_told(make_env):
    """pip fails: what is needed, and that the call can be repeated."""
    status, said, _ = make_env(PIP_FAILS="1")
    assert status == 1
    assert "is there one, or a mirror" in said
    assert "call again" in said


def test_changed_sources_are_compiled_again(make_env, tmp_path):
    """The package alone is installed again; its Python needs nothing of the kind."""
    make_env()
    (tmp_path / "kaldi_mpq" / "native" / "src" / "paths" / "module.cpp").write_text("int y;\n")
    calls = make_env()[2]
    assert len(calls) == 1
    assert "-e ." in calls[0]
    (tmp_path / "kaldi_mpq" / "new.py").write_text("x = 1\n")
    assert make_env()[2] == []


def test_changed_requirements_are_installed_again(make_env, tmp_path):
    """And the package after them; a failure in between is made good by the call after."""
    make_env()
    (tmp_path / "requirements" / "k2.txt").write_text("a==2\n")
    assert make_env(PIP_FAILS="1")[0] != 0
    assert len(make_env()[2]) == 2
    assert make_env()[2] == []


def test_a_lost_extension_is_compiled_again(make_env, tmp_path):
    """`git clean` takes the extensions away and leaves the environment."""
    make_env()
    (tmp_path / "kaldi_mpq" / "native" / "_paths.fake.so").unlink()
    assert len(make_env()[2]) == 1
    assert (tmp_path / "kaldi_mpq" / "native" / "_paths.fake.so").exists()


def test_an_environment_of_somebody_else_is_not_touched(make_env, tmp_path):
    """A .venv that this script did not make is refused, and stays as it is."""
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "precious").touch()
    status, said, calls = make_env()
    assert (status, calls) == (1, [])
    assert "did not make it" in said
    assert (tmp_path / ".venv" / "precious").exists()


def test_the_two_stacks_do_not_meet(make_env, tmp_path):
    """The current stack has its own folder and wants another Python."""
    assert make_env("current")[0] != 0
    newer = write_program(tmp_path / "newer", FAKE_PYTHON.replace("VERSION", "3.11"))
    assert make_env("current", MPQ_PYTHON=str(newer))[0] == 0
    assert not (tmp_path / ".venv").exists()
    assert (tmp_path / ".venv-current" / "bin" / "python").exists()


def find_python(tmp_path: Path, versions: str = "3.10") -> tuple[int, str, str]:
    """Search with tmp_path/bin on PATH before the system's shell, and tmp_path as home; returns status, found, said."""
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    command = ["bash", "-c", f'. "{ROOT}/local/env/find_python.sh"; find_python "{versions}"']
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip(), done.stderr


def test_a_shim_that_fails_is_passed_by(tmp_path):
    """pyenv's python3.10 is on PATH and does not run; its versions folder has one that does, the newest is taken."""
    write_program(tmp_path / "bin" / "python3.10", BROKEN_SHIM)
    for patch in ("3.10.2", "3.10.13"):
        write_program(
            tmp_path / ".pyenv" / "versions" / patch / "bin" / "python", FAKE_PYTHON.replace("VERSION", "3.10")
        )
    status, found, _ = find_python(tmp_path)
    assert (status, found) == (0, f"{tmp_path}/.pyenv/versions/3.10.13/bin/python")


def test_a_python_of_another_version_is_passed_by(tmp_path):
    """What is called python3.9 inside python3.10 does not count; the first version of the list that works does."""
    write_program(tmp_path / "bin" / "python3.98", FAKE_PYTHON.replace("VERSION", "3.9"))
    good = write_program(tmp_path / "bin" / "python3.99", FAKE_PYTHON.replace("VERSION", "3.99"))
    assert find_python(tmp_path, "3.98 3.99")[:2] == (0, str(good))


def test_uv_fetches_what_is_missing(tmp_path):
    """Where there is no such Python but uv, uv is asked for it."""
    fetched = write_program(tmp_path / "fetched" / "python", FAKE_PYTHON.replace("VERSION", "3.98"))
    write_program(
        tmp_path / "bin" / "uv",
        f'#!/bin/bash\nif [ "$2" = find ]; then echo {fetched}; else echo "$@" > {tmp_path}/uv; fi\n',
    )
    assert find_python(tmp_path, "3.98")[:2] == (0, str(fetched))
    assert (tmp_path / "uv").read_text() == "python install 3.98\n"


def test_no_python_at_all_says_what_to_do(tmp_path):
    """What was tried and what helps."""
    status, found, said = find_python(tmp_path, "3.98")
    assert (status, found) == (1, "")
    for word in ("no Python 3.98", "uv python install 3.98", "pyenv install 3.98", "MPQ_PYTHON="):
        assert word in said
