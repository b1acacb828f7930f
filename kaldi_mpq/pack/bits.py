# SPDX-License-Identifier: Apache-2.0
"""Integer codes of 1, 2, 4 or 8 bits to bytes without gaps, and back.

    4 bits, codes 1 -2 7:   1110 0001 | 0000 0111      the first code is in the lowest bits of the first byte
    2 bits, codes 1 0 -1 1: 01 11 00 01                two's complement; the most negative pattern is never used
    1 bit, codes + - - +:   0000 1001                  a set bit is +1

What is left of the last byte is zero. Not here: where in a file the bytes are (`format`).
"""

from __future__ import annotations

import numpy as np

from kaldi_mpq.errors import ModelFileError

__all__ = ["pack_codes", "packed_bytes", "unpack_codes"]

_WIDTHS = (1, 2, 4, 8)


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes ``count`` codes take: ceil(count * bits / 8)."""
    return -(-count * bits // 8)


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return the codes as packed bytes, uint8.

    Args:
      codes: int8, any shape, taken in C order; -1 and 1 at 1 bit, else of magnitude at most 2^(bits - 1) - 1.
    Raises:
      ValueError: a code does not fit.
    """
    flat = np.ascontiguousarray(codes, dtype=np.int8).reshape(-1)
    _check_width(bits)
    largest = 1 if bits == 1 else 2 ** (bits - 1) - 1
    if flat.size and (flat.min() < -largest or flat.max() > largest or (bits == 1 and not flat.all())):
        raise ValueError(f"codes from {flat.min()} to {flat.max()} do not fit {bits} bits")
    if bits == 1:
        return np.packbits(flat > 0, bitorder="little")
    if bits == 8:
        return flat.view(np.uint8).copy()
    per_byte = 8 // bits
    fields = np.zeros((packed_bytes(flat.size, bits), per_byte), np.uint8)
    fields.reshape(-1)[: flat.size] = flat.view(np.uint8) & (2**bits - 1)
    packed = fields[:, 0].copy()
    for place in range(1, per_byte):
        packed |= fields[:, place] << np.uint8(place * bits)
    return packed


def unpack_codes(packed: np.ndarray, count: int, bits: int, *, where: object = None) -> np.ndarray:
    """Return (count,) int8 codes.

    Args:
      packed: uint8, exactly ceil(count * bits / 8) of them.
      where: named in errors.
    Raises:
      ModelFileError: too few or too many bytes, bits set after the last code, or a pattern that no code has.
    """
    _check_width(bits)
    if packed.size != packed_bytes(count, bits):
        raise ModelFileError(
            "packed codes of the wrong size", where=where, expected=packed_bytes(count, bits), found=packed.size
        )
    if bits == 8:
        codes = packed.view(np.int8)
    else:
        fields = _table(bits)[packed].reshape(-1)
        codes, rest = fields[:count], fields[count:]
        if (rest != (-1 if bits == 1 else 0)).any():
            raise ModelFileError(
                "bits set after the last code", where=where, expected="zeros", found=f"byte {int(packed[-1])}"
            )
    if bits > 1 and (codes == -(2 ** (bits - 1))).any():
        raise ModelFileError(f"a code that {bits} bits do not have", where=where, found=-(2 ** (bits - 1)))
    return codes


def _table(bits: int) -> np.ndarray:
    """Return (256, codes per byte) int8: the codes in every byte."""
    places = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (np.arange(256, dtype=np.uint8)[:, None] >> places) & np.uint8(2**bits - 1)
    if bits == 1:
        return fields.astype(np.int8) * 2 - 1
    values = fields.astype(np.int16)
    return np.where(values >= 2 ** (bits - 1), values - 2**bits, values).astype(np.int8)


def _check_width(bits: int) -> None:
    if bits not in _WIDTHS:
        raise ValueError(f"codes of {bits} bits are never packed")
