# SPDX-License-Identifier: Apache-2.0
"""Scoring works on a machine without torch and k2."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import kaldi_mpq.score


def test_no_module_needs_torch_or_k2():
    """Not even indirectly."""
    modules = [f"kaldi_mpq.score.{module.name}" for module in pkgutil.iter_modules(kaldi_mpq.score.__path__)]
    assert "kaldi_mpq.score.run" in modules and "kaldi_mpq.score.table" in modules
    heavy = "{'torch', 'k2', 'matplotlib', 'kaldialign'} & set(sys.modules)"
    program = f"import sys, {', '.join(modules)}; print(sorted({heavy}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
