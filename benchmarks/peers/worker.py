# SPDX-License-Identifier: Apache-2.0
"""The process of one engine: ``python -m peers.worker ENGINE``, with the folder of the benchmarks on the path."""

from __future__ import annotations

import importlib
import sys

from peers.protocol import serve

if __name__ == "__main__":
    serve(importlib.import_module(f"peers.{sys.argv[1]}").KINDS)
