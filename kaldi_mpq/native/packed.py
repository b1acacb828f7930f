# SPDX-License-Identifier: Apache-2.0
"""Products with weights of 1, 2, 4 and 8 bits that stay packed in memory, in C++: matrix, output layer,
steps of LSTMs and Transformers.

Weights are laid out once, when a matrix is filled, and unpacked a few rows at a time while they are multiplied. Integer
sums are the same to the last bit on every processor; nothing depends on the number of threads. Every call that computes
lets other Python threads run meanwhile. Not here: torch, and how codes got into a file (`pack`).
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError, MpqError, NumericalError

__all__ = [
    "KERNELS_VARIABLE",
    "BlockWeights",
    "LayerWeights",
    "Linear",
    "Lstm",
    "Matrix",
    "Norm",
    "OutputLayer",
    "Transformer",
    "gelu",
    "has_fast_kernels",
    "kernel_names",
]

KERNELS_VARIABLE = "MPQ_PACKED_KERNELS"  # names the kernels that are used where no argument does

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]

log = logging.getLogger(__name__)


def kernel_names() -> list[str]:
    """Return the names of the kernels that this processor runs, the fastest first; the last is ``portable``."""
    return list(native._packed.kernels())


@functools.cache
def has_fast_kernels() -> bool:
    """Whether there are kernels made for this processor."""
    try:
        return kernel_names() != ["portable"]
    except MpqError as error:
        log.warning("%s; packed models are unpacked to floats, which takes more memory and time", error)
        return False


class Matrix:
    """A (rows, columns) matrix of packed units, one under another, filled from the top.

    Args:
      columns: columns of every unit.
      block: columns of a row that share a scale; 0: all of them.
      activation_bits: 2 to 8, or 16: rows that are multiplied become whole numbers of so many bits, with a scale each
        (of fewer, where sums of products could leave 32 bits); 32: they stay floats.
      clip: the largest value in the place of a row's own, where it is fixed, and what lies beyond becomes it; 0: none.
      kernels: one of `kernel_names`; nothing: what the environment's MPQ_PACKED_KERNELS says, else the fastest.
    Raises:
      ConfigError: no such kernels or activations.
    """

    def __init__(
        self, columns: int, *, block: int = 0, activation_bits: int = 16, clip: float = 0.0, kernels: str = ""
    ) -> None:
        chosen = kernels or os.environ.get(KERNELS_VARIABLE, "")
        self.native = _called(native._packed.Matrix, columns, block, activation_bits, clip, chosen)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns so far."""
        return self.native.shape

    @property
    def bytes(self) -> int:
        """Bytes of memory that weights and scales take."""
        return self.native.bytes

    def add_codes(self, bits: int, packed: NDArray[np.uint8], scales: Floats) -> None:
        """Add rows of codes times scales.

        Args:
          bits: 1, 2, 4 or 8.
          packed: codes as ``pack.bits.pack_codes`` writes them.
          scales: (rows, scales of a row); finite.
        Raises:
          ConfigError: sizes that do not fit, or a pattern that is no code.
          NumericalError: a scale is not finite.
        """
        _check_finite("a scale", scales)
        _called(self.native.add_codes, bits, np.ascontiguousarray(packed), scales)

    def add_values(self, values: np.ndarray) -> None:
        """Add rows of weights that are float16 or float32, and stay so.

        Raises:
          ConfigError: another number of columns.
          NumericalError: one is not finite.
        """
        _check_finite("a weight", values)
        _called(self.native.add_values, values.astype(np.float32), values.dtype == np.float16)

    def multiply(self, x: Floats, bias: Floats | None = None, threads: int = 1) -> Floats:
        """Return (N, rows) products of (N, columns) rows with all rows of the matrix, plus (rows,) biases.

        Rows that are not finite give rows of NaN, and no others.
        """
        return _called(self.native.multiply, x, bias, threads=threads)

    def rows(self, which: Numbers) -> Floats:
        """Return (N, columns) rows as floats."""
        return _called(self.native.rows, which)

    def codes(self) -> NDArray[np.int8]:
        """Return (rows, columns) codes; those of floats are of no meaning."""
        return self.native.codes()

    def integers(self, x: Floats) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
        """Return (scales of a row, N, rows) sums of products with codes, and the (N, columns) numbers x became."""
        return _called(self.native.integers, x)


class OutputLayer:
    """ln sum_v exp(h . w_v + b_v) of many histories h over packed words w_v, and logits of single words.

    Args:
      matrix: (V, E), which must not grow afterwards.
      bias: (V,) float32.
      cheap: sums are of 8-bit activations where the matrix was made for 16; faster with weights of 4 bits or less.
    Raises:
      ConfigError: shapes that do not fit.
      NumericalError: a bias is not finite.
    """

    def __init__(self, matrix: Matrix, bias: Floats, *, cheap: bool = False) -> None:
        _check_finite("a bias", bias)
        self._native = _called(native._packed.OutputLayer, matrix.native, bias, cheap=cheap)

    def log_sums(self, hidden: Floats, threads: int = 1) -> NDArray[np.float64]:
        """Return (N,) log-sums-of-exponentials of (N, E) histories; NaN for just those that are not finite."""
        return _called(self._native.log_sums, hidden, threads=threads)

    def logits(self, hidden: Floats, rows: Numbers, words: Numbers, threads: int = 1) -> Floats:
        """Return (Q,) logits of word ``words[q]`` after history ``rows[q]``, which stays in floats for these."""
        return _called(self._native.logits, hidden, rows, words, threads=threads)


@dataclass(frozen=True)
class LayerWeights:
    """A layer of an LSTM: (4 H, I) and (4 H, H) gates, (4 H,) bias, and (3 H,) peepholes if there are any."""

    input: Matrix
    recurrent: Matrix
    bias: Floats
    peephole: Floats | None = None


class Lstm:
    """Steps of many histories of an LSTM language model.

    Args:
      embedding: (V, I).
      layers: at least one.
      projection: (E, H), or None.
    Raises:
      ConfigError: matrices that do not fit each other.
    """

    def __init__(self, embedding: Matrix, layers: Sequence[LayerWeights], projection: Matrix | None = None) -> None:
        parts = [(layer.input.native, layer.recurrent.native, layer.bias, layer.peephole) for layer in layers]
        self._native = _called(
            native._packed.Lstm, embedding.native, parts, None if projection is None else projection.native
        )

    def advance(
        self, hidden: Floats, cell: Floats, parents: Numbers, words: Numbers, threads: int = 1
    ) -> tuple[Floats, Floats, Floats]:
        """Feed one word to each of N histories.

        Args:
          hidden, cell: (layers, M, H) states before.
          parents: (N,) rows of those that are extended.
          words: (N,) word ids.
        Returns:
          (N, E) vectors for the output layer, and the (layers, N, H) new hidden and cell vectors.
        Raises:
          ConfigError: shapes that do not fit, no such row or word.
        """
        return _called(self._native.advance, hidden, cell, parents, words, threads=threads)


Linear = tuple[Matrix, Floats]  # (R, C) weights and (R,) bias
Norm = tuple[Floats, Floats]  # (E,) scales and shifts of a layer norm


@dataclass(frozen=True)
class BlockWeights:
    """A block of a Transformer, in the order in which it is computed.

    Args:
      project: (3 E, E): queries, keys, values one under another.
      out: (E, E), of what attention gives.
      up, down: (H, E) and (E, H), with GELU between them.
      first, second: norms of attention and of what follows.
    """

    project: Linear
    out: Linear
    up: Linear
    down: Linear
    first: Norm
    second: Norm


class Transformer:
    """Steps of many histories of a Transformer language model.

    Args:
      embedding: (V, E).
      scale: of embeddings.
      blocks: at least one, all of one H.
      last: the norm above the blocks of a model whose blocks begin with their norms; None: they end with them.
      heads: a divisor of E.
    Raises:
      ConfigError: parts that do not fit each other.
    """

    def __init__(
        self, embedding: Matrix, scale: float, blocks: Sequence[BlockWeights], last: Norm | None, heads: int
    ) -> None:
        parts = [
            (*((m.native, bias) for m, bias in (b.project, b.out, b.up, b.down)), b.first, b.second) for b in blocks
        ]
        self._native = _called(native._packed.Transformer, embedding.native, scale, parts, last, heads)

    def step(
        self, keys: Floats, values: Floats, rows: Numbers, words: Numbers, positions: Floats, threads: int = 1
    ) -> Floats:
        """Feed one word to each of N histories; a history may see the row that another one of the call writes.

        Args:
          keys, values: (layers, R, E), written to where they are.
          rows: (N, T) rows of each history's words in order, then the row that is to be written, of which no two are
            the same; -1 in front of histories shorter than T.
          words: (N,) word ids.
          positions: (T or more, E), added to embeddings.
        Returns:
          (N, E) vectors for the output layer.
        Raises:
          ConfigError: shapes or types that do not fit, no such row or word, a row that is written twice.
        """
        return _called(self._native.step, keys, values, rows, words, positions, threads=threads)


def gelu(x: Floats, kernels: str) -> Floats:
    """Return (N,) x Phi(x), as the layers of that kernel set compute it."""
    return native._packed.gelu(x, kernels)


def _check_finite(what: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise NumericalError(f"{what} is not finite")


def _called(function: object, *arguments: object, **options: object) -> object:
    try:
        return function(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError("arrays that do not fit", found=str(error).partition("\n")[0]) from error
