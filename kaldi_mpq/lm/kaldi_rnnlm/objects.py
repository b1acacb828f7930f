# SPDX-License-Identifier: Apache-2.0
"""Kaldi's numbers, vectors and matrices in a file's bytes, binary (after ``\\0B``) or text: one cursor for each form.

    binary   <Dim> \\4 int32   <Scale> \\4 float32   <Count> \\10 float64   T   F   FM \\4 rows \\4 columns float32...
    text     <Dim> 512        <Scale> 1             <Count> 0              T   F   [ \\n 1 2 \\n 3 4 ]

A number of four bytes does not say whether it is whole: who knows its field asks with `integer` or `real`. Not here:
compressed matrices, which no model holds, and what a file's fields mean (`nnet3`).
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

from kaldi_mpq.artefact import require
from kaldi_mpq.errors import ModelFileError

__all__ = ["Cursor", "check_finite", "integer", "matrix_bytes", "open_cursor", "read_matrix", "real"]

_MARK = b"\0B"
_SIZES = {b"\x04": 4, b"\x08": 8, b"\xfc": 4, b"\xf8": 8}  # Kaldi gives unsigned types the negative of their size
_FLOATS = {b"F": np.dtype("<f4"), b"D": np.dtype("<f8")}
_WORD = re.compile(rb"\s*([^\s\[\]]+)\s?")
_ARRAY = re.compile(rb"\s*\[([^\]]*)\]\s?")

Value = np.ndarray | bytes | str


class Cursor:
    """A place in the bytes of a file.

    Args:
      path: named in errors.
      data: the file, without the mark of the binary form.
      start: bytes before ``data`` in the file.
    """

    def __init__(self, path: Path, data: bytes, start: int) -> None:
        self.path, self.data, self.start, self.place = path, data, start, 0

    def fault(self, what: str, found: object = None) -> ModelFileError:
        """Return an error at this place."""
        return ModelFileError(what, where=f"{self.path}:{self.start + self.place}", found=found)

    def until(self, mark: bytes) -> bytes:
        """Return the bytes before the next ``mark`` and go on after it.

        Raises:
          ModelFileError: it does not come: the file was cut short.
        """
        end = self.data.find(mark, self.place)
        if end < 0:
            raise self.fault(f"cut short: no {mark.decode()!r}")
        found, self.place = self.data[self.place : end], end + len(mark)
        return found

    def token(self) -> str:
        """Return the next word."""
        match = _WORD.match(self.data, self.place)
        if match is None:
            raise self.fault("cut short: no token")
        self.place = match.end()
        return match.group(1).decode("utf-8", "replace")

    def at_token(self) -> bool:
        """Return whether a token in angle brackets is next; no value starts with one."""
        raise NotImplementedError

    def value(self) -> Value:
        """Return the next value: an array in float32, or a number or truth value for `integer` or `real`."""
        raise NotImplementedError


class _Binary(Cursor):
    def at_token(self) -> bool:
        return self.data[self.place : self.place + 1] == b"<"

    def value(self) -> Value:
        first = self.data[self.place : self.place + 1]
        if first in _FLOATS and self.data[self.place + 1 : self.place + 3] in (b"M ", b"V "):
            return self._array(_FLOATS[first])
        self.place += 1
        if first in (b"T", b"F"):
            return first
        if first not in _SIZES:
            self.place -= 1
            raise self.fault("damaged: neither number nor array", found=f"byte {first!r}" if first else "the end")
        return self._take(_SIZES[first])

    def _array(self, dtype: np.dtype) -> np.ndarray:
        is_matrix = self.data[self.place + 1 : self.place + 2] == b"M"
        self.place += 3
        shape = [integer(self.value()) for _ in range(2 if is_matrix else 1)]
        if min(shape) < 0:
            raise self.fault("damaged array", found=f"shape {tuple(shape)}")
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._take(count * dtype.itemsize), dtype).astype(np.float32).reshape(shape)

    def _take(self, count: int) -> bytes:
        if self.place + count > len(self.data):
            raise self.fault("cut short", found=f"{len(self.data) - self.place} of {count} bytes")
        self.place += count
        return self.data[self.place - count : self.place]


class _Text(Cursor):
    def at_token(self) -> bool:
        return self.data[self.place : self.place + 64].lstrip()[:1] == b"<"

    def value(self) -> Value:
        match = _ARRAY.match(self.data, self.place)
        if match is None:
            return self.token()
        lines = match.group(1).split(b"\n")
        try:
            rows = [np.array(line.split(), np.float64).astype(np.float32) for line in lines if line.strip()]
        except ValueError as error:
            raise self.fault("damaged array", found=str(error)) from error
        if len({len(row) for row in rows}) > 1:
            raise self.fault("damaged array: rows of different lengths")
        self.place = match.end()
        if len(lines) == 1:  # a matrix of one row has a line break before it
            return rows[0] if rows else np.empty(0, np.float32)
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)


def open_cursor(path: Path) -> Cursor:
    """Return a cursor at the start of a file.

    Raises:
      MissingInputError: no such file.
    """
    require([path])
    data = path.read_bytes()
    return _Binary(path, data[2:], 2) if data.startswith(_MARK) else _Text(path, data, 0)


def integer(value: Value) -> int:
    """Return a value of `Cursor.value` as a whole number; ValueError if it is none."""
    if isinstance(value, np.ndarray):
        raise ValueError(f"an array of shape {value.shape}")
    return int.from_bytes(value, "little", signed=True) if isinstance(value, bytes) else int(value)


def real(value: Value) -> float:
    """Return a value of `Cursor.value` as a real number; ValueError if it is none."""
    if isinstance(value, np.ndarray) or (isinstance(value, bytes) and len(value) not in (4, 8)):
        raise ValueError(repr(value))
    if isinstance(value, bytes):
        return struct.unpack("<f" if len(value) == 4 else "<d", value)[0]
    return float(value)


def read_matrix(path: Path) -> np.ndarray:
    """Return the matrix in a file of its own, float32.

    Raises:
      MissingInputError: no such file.
      ModelFileError: it is no matrix, cut short, or followed by something; or it holds NaN or infinity.
    """
    cursor = open_cursor(path)
    try:
        matrix = cursor.value()
    except ModelFileError as error:
        raise ModelFileError("not a matrix of Kaldi's", where=path, found=str(error)) from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or not matrix.size:
        raise ModelFileError("not a matrix of Kaldi's", where=path)
    if cursor.data[cursor.place :].strip():
        raise ModelFileError("more than a matrix", where=path, found=f"{len(cursor.data) - cursor.place} bytes more")
    check_finite(matrix, "the matrix", path)
    return matrix


def check_finite(array: np.ndarray, name: str, path: Path) -> None:
    """Raise ModelFileError naming the first NaN or infinity of an array."""
    if not np.isfinite(array).all():
        place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ModelFileError(f"{name} is not finite", where=path, found=f"{array[place]} at {list(place)}")


def matrix_bytes(array: np.ndarray, *, text: bool = False) -> bytes:
    """Return a matrix or vector as Kaldi writes it within a file, without the mark of the binary form."""
    if not text:
        sizes = b"".join(b"\x04" + struct.pack("<i", size) for size in array.shape)
        return (b"FM " if array.ndim == 2 else b"FV ") + sizes + np.ascontiguousarray(array, "<f4").tobytes()
    if array.ndim == 1:
        return f" [ {_numbers(array)} ]\n".encode()
    return (" [\n  " + "\n  ".join(map(_numbers, array)) + " ]\n").encode()


def _numbers(row: np.ndarray) -> str:
    return " ".join(f"{value:.9g}" for value in row.tolist())  # nine digits give a float32 back exactly
