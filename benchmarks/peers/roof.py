# SPDX-License-Identifier: Apache-2.0
"""The limits of one core, measured by roof.cpp, which is compiled for it. Not here: what is held against them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["BYTES", "Roof"]

log = logging.getLogger(__name__)

BYTES = ("vpdpbusd", "vpmaddubsw")  # what multiplies bytes, the faster first


class Roof:
    """Limits, the best of all times that they are measured.

    Args:
      folder: where to put the program.
    """

    def __init__(self, folder: Path) -> None:
        self.limits: dict[str, float] = {}
        self._program: Path | None = folder / "roof"
        compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
        source = Path(__file__).with_suffix(".cpp")
        command = [compiler or "c++", "-O3", "-std=c++17", str(source), "-o", str(self._program)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            log.warning("no limits of this processor, roof.cpp does not compile: %s", error)
            self._program = None

    def measure(self) -> None:
        """Measure again, which takes a fraction of a second."""
        if self._program is None:
            return
        done = subprocess.run([str(self._program)], check=True, capture_output=True, text=True)
        for name, value in json.loads(done.stdout).items():
            self.limits[name] = max(value, self.limits.get(name, 0.0))

    @property
    def byte_products(self) -> float | None:
        """10^9 products of bytes a second, or None."""
        return next((self.limits[name] for name in BYTES if name in self.limits), None)
