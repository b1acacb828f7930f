# SPDX-License-Identifier: Apache-2.0
"""Benchmarks are scripts beside each other, not a package: their folder goes on the path."""

import sys

from tests.conftest import ROOT

BENCHMARKS = str(ROOT / "benchmarks")
if BENCHMARKS not in sys.path:
    sys.path.append(BENCHMARKS)
