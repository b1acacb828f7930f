# SPDX-License-Identifier: Apache-2.0
"""What tests share: where real Kaldi data and programs are, or the reason to skip without them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is there: tests share their machine
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def sample() -> Path:
    """The committed sample of the testbed: a small Kaldi recipe directory (``data/``, ``exp/``)."""
    return ROOT / "tests" / "data" / "ami"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' shared folder (``MPQ_SHARED``, or ``../shared``)."""
    path = Path(os.environ.get("MPQ_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared folder at {path}")
    return path


@pytest.fixture(scope="session")
def testbed(shared: Path) -> Path:
    """A Kaldi recipe directory with real lattices of AMI's dev and eval meetings."""
    return shared / "testbed" / "ami"


@pytest.fixture(scope="session")
def kaldi():
    """Run a command line with Kaldi's programs on PATH: ``kaldi("lattice-copy ark:- ark,t:-", stdin=bytes)``."""
    root = os.environ.get("KALDI_ROOT")
    if not root:
        pytest.skip("KALDI_ROOT is not set")
    if not Path(root, "tools/config/common_path.sh").exists():
        pytest.skip(f"KALDI_ROOT={root} has no tools/config/common_path.sh")

    def run(command: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        setup = 'set -o pipefail; . "$KALDI_ROOT"/tools/config/common_path.sh; '
        env = {**os.environ, "LC_ALL": "C", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(["bash", "-c", setup + command], input=stdin, capture_output=True, env=env, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: status {done.returncode}\n{done.stderr.decode(errors='replace')}")
        return done

    return run


@pytest.fixture(scope="session")
def sclite() -> Path:
    """The sclite program."""
    found = shutil.which("sclite", path=os.environ.get("PATH", "") + ":/usr/lib/sctk/bin")
    if not found:
        pytest.skip("sclite is not installed (Debian: apt-get install sctk)")
    return Path(found)
