# SPDX-License-Identifier: Apache-2.0
"""The packed kernels under the address and undefined-behaviour sanitizers, those of AVX-512 VNNI emulated."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.conftest import ROOT

SOURCES = ROOT / "kaldi_mpq" / "native" / "src"


def test_no_kernel_leaves_its_arrays_or_the_language(tmp_path):
    """All shapes and widths: exact sums, no byte beyond an array, nothing undefined, in every set of kernels."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    program = tmp_path / "packed_kernels"
    kernels = [SOURCES / "packed" / f"kernels{name}.cpp" for name in ("", "_portable", "_avx2")]
    options = ["-std=c++17", "-O1", "-DEMULATE_VNNI", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = [compiler, *options, f"-I{SOURCES}", str(ROOT / "tests" / "native" / "packed_kernels.cpp"), *kernels]
    built = subprocess.run([*command, "-o", program], capture_output=True, text=True, check=False)
    if "cannot find -lasan" in built.stderr or "cannot find -lubsan" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vnni tried" in done.stdout
