# SPDX-License-Identifier: Apache-2.0
"""Log-sum-exp over a vocabulary in 16-bit fixed point, and the elementwise part of an LSTM's step, in C++.

Not here: torch, and what becomes of rows that leave the range of the exponential (`lm.normalizer`). A matrix is
quantized once, when its object is made, so it must not change afterwards. Integer sums are the same to the last bit
on every processor; nothing depends on the number of threads. Every call lets other Python threads run meanwhile.
"""

from __future__ import annotations

import functools
import logging

import numpy as np
from numpy.typing import NDArray

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError, MpqError, NumericalError

__all__ = ["OutputLayer", "has_fast_kernels", "kernel_names", "lstm_step"]

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
Codes = NDArray[np.int16]

log = logging.getLogger(__name__)


def kernel_names() -> list[str]:
    """Return the names of the kernels that this processor runs, the fastest first; the last is ``portable``."""
    return list(native._dense.kernels())


@functools.cache
def has_fast_kernels() -> bool:
    """Whether there are kernels made for this processor: the portable ones are slower than a good float library."""
    try:
        return kernel_names() != ["portable"]
    except MpqError as error:
        log.warning("%s; torch does it instead, more slowly", error)
        return False


class OutputLayer:
    """ln sum_v exp(h . w_v + b_v) of many histories h, and logits of single words.

    Args:
      weight: (V, E) float32.
      bias: (V,) float32.
      kernels: one of `kernel_names`, or nothing: the fastest.
    Raises:
      ConfigError: shapes that do not fit, or no such kernels.
      NumericalError: a weight or bias is not finite.
    """

    def __init__(self, weight: Floats, bias: Floats, kernels: str = "") -> None:
        self._native = _make(native._dense.OutputLayer, weight, bias, kernels)

    def log_sums(self, hidden: Floats, threads: int = 1) -> NDArray[np.float64]:
        """Return (N,) log-sums-of-exponentials of (N, E) histories.

        NaN where a history is not finite, or its largest logit is below -57 or above 88: only those.
        """
        return _called(self._native.log_sums, hidden, threads=threads)

    def logits(self, hidden: Floats, rows: Numbers, words: Numbers, threads: int = 1) -> Floats:
        """Return (Q,) logits, from the float weights, of word ``words[q]`` after history ``rows[q]``."""
        return _called(self._native.logits, hidden, rows, words, threads=threads)

    def integers(self, hidden: Floats) -> tuple[NDArray[np.int32], Codes, Codes]:
        """Return (N, chunks, V) sums of products, and the (N, chunks, K) and (V, chunks, K) codes they are sums of."""
        return _called(self._native.integers, hidden)


def lstm_step(
    a: tuple[Floats, Numbers],
    b: tuple[Floats, Numbers],
    cell: tuple[Floats, Numbers],
    peephole: Floats | None,
    new_hidden: Floats,
    new_cell: Floats,
    threads: int = 1,
    kernels: str = "",
) -> None:
    """Write the hidden and cell vectors of N histories after one step.

    Args:
      a, b: (M, 4 H) rows and the (N,) row that each history takes; their sum is the gates input, forget, cell, output.
      cell: (M, H) cell vectors before the step, and each history's.
      peephole: (3 H), through which input and forget gate see the old cell, the output gate the new one; or None.
      new_hidden, new_cell: (N, H), written.
    Raises:
      ConfigError: shapes that do not fit, or no such row.
    """
    _called(native._dense.lstm_step, *a, *b, *cell, peephole, new_hidden, new_cell, threads=threads, kernels=kernels)


def _make(kind: type, weight: Floats, bias: Floats, kernels: str) -> object:
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise NumericalError("a weight matrix or its bias is not finite")
    return _called(kind, weight, bias, kernels)


def _called(function: object, *arguments: object, **options: object) -> object:
    try:
        return function(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError("arrays that do not fit", found=str(error).partition("\n")[0]) from error
