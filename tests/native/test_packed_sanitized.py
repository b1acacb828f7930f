# SPDX-License-Identifier: Apache-2.0
"""Packed kernels and Transformers under the address and undefined-behaviour sanitizers; AVX-512 VNNI is emulated."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCES = ROOT / "kaldi_mpq" / "native" / "src"


def output_of(program: Path, sources: list[str], options: list[str], out: Path) -> str:
    """Return what a program prints that is built with the sanitizers; it must end well."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    usual = ["-std=c++17", "-O1", "-pthread", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    files = [str(program), *(str(SOURCES / "packed" / f"{name}.cpp") for name in sources)]
    command = [compiler, *usual, *options, f"-I{SOURCES}", *files, "-o", str(out)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find -lasan" in built.stderr or "cannot find -lubsan" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_no_kernel_leaves_its_arrays_or_the_language(tmp_path):
    """All shapes and widths: exact sums, no byte beyond an array, nothing undefined, in every set of kernels."""
    program = ROOT / "tests" / "native" / "packed_kernels.cpp"
    sources = ["kernels", "kernels_portable", "kernels_avx2", "kernels_avx2_few"]
    assert "vnni tried" in output_of(program, sources, ["-DEMULATE_VNNI"], tmp_path / "packed_kernels")


def test_no_transformer_leaves_its_arrays_or_the_language(tmp_path):
    """Widths and heads that fill no vector, several threads: the same numbers, no byte beyond an array."""
    program = ROOT / "tests" / "native" / "packed_transformer.cpp"
    sources = ["kernels", "kernels_portable", "kernels_avx2", "kernels_avx2_few", "layer_kernels", "activations"]
    sources += ["matrix", "product", "transformer"]
    assert "portable tried" in output_of(program, sources, [], tmp_path / "packed_transformer")
