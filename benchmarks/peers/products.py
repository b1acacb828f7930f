# SPDX-License-Identifier: Apache-2.0
"""The weights and rows of a product, the same in every engine: codes on a grid of 1 to 8 bits, a scale a row.

Not here: how an engine holds them.
"""

from __future__ import annotations

import numpy as np

from peers.protocol import Job

__all__ = ["codes_of", "rows_of", "scale_of"]


def codes_of(job: Job) -> np.ndarray:
    """Return the (words, columns) int8 codes of a job: -1 and 1, or -L to L, L = 2^(bits - 1) - 1."""
    bits = job["bits"]
    largest = 1 if bits == 1 else 2 ** (bits - 1) - 1
    rng = np.random.default_rng(bits)
    codes = rng.integers(-largest, largest + 1, (job["words"], job["columns"]), dtype=np.int8)
    if bits == 1:
        codes[codes == 0] = 1
    return codes


def scale_of(job: Job) -> float:
    """Return what a code is multiplied with."""
    return 0.05 if job["bits"] < 8 else 0.05 / 127


def rows_of(job: Job) -> np.ndarray:
    """Return the (rows, columns) float32 rows that the weights are multiplied with."""
    return np.random.default_rng(0).standard_normal((job["rows"], job["columns"])).astype(np.float32)
