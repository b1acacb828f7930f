# SPDX-License-Identifier: Apache-2.0
"""Codes to bytes and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaldi_mpq.errors import ModelFileError
from kaldi_mpq.pack.bits import pack_codes, packed_bytes, unpack_codes

WIDTHS = (1, 2, 4, 8)


def random_codes(count, bits, seed=0):
    """Codes of a width, the extreme ones among them."""
    generator = np.random.default_rng(seed)
    if bits == 1:
        return generator.choice(np.array([-1, 1], np.int8), count)
    largest = 2 ** (bits - 1) - 1
    return generator.integers(-largest, largest + 1, count).astype(np.int8)


@pytest.mark.parametrize("bits", WIDTHS)
@given(count=st.integers(0, 300), seed=st.integers(0, 1000))
def test_packing_round_trips_in_exactly_the_bytes_it_needs(bits, count, seed):
    """Every size, also those that no byte divides."""
    codes = random_codes(count, bits, seed)
    packed = pack_codes(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.size == packed_bytes(count, bits) == -(-count * bits // 8)
    assert np.array_equal(unpack_codes(packed, count, bits), codes)


@pytest.mark.parametrize("bits", WIDTHS)
def test_bytes_are_what_arithmetic_says(bits):
    """Against the documented layout: code i is field i % (8 / bits) of its byte, counted from the lowest bits."""
    codes = random_codes(77, bits)
    packed = pack_codes(codes.reshape(7, 11), bits)
    for i, code in enumerate(codes.tolist()):
        byte, place = divmod(i * bits, 8)
        field = (int(packed[byte]) >> place) & (2**bits - 1)
        assert field == (int(code > 0) if bits == 1 else code % 2**bits)


@pytest.mark.parametrize(("bits", "codes"), [(1, [0]), (1, [1, 2]), (2, [-2]), (4, [8]), (8, [-128])])
def test_codes_that_do_not_fit_are_refused(bits, codes):
    """Nothing is clipped silently."""
    with pytest.raises(ValueError, match="do not fit"):
        pack_codes(np.array(codes, np.int8), bits)


@pytest.mark.parametrize("bits", (1, 2, 4))
def test_bits_after_the_last_code_are_refused(bits):
    """Trailing bits are zero when written, and checked when read."""
    packed = pack_codes(random_codes(9, bits), bits)
    unpack_codes(packed, 9, bits)
    packed[-1] |= 0x80
    with pytest.raises(ModelFileError, match="after the last code"):
        unpack_codes(packed, 9, bits)


@pytest.mark.parametrize("bits", WIDTHS)
def test_wrong_sizes_are_refused(bits):
    """One byte more or less than the count needs."""
    packed = pack_codes(random_codes(50, bits), bits)
    for wrong in (packed[:-1], np.append(packed, np.uint8(0))):
        with pytest.raises(ModelFileError, match="size"):
            unpack_codes(wrong, 50, bits)


@pytest.mark.parametrize(("bits", "byte"), [(2, 0b10), (4, 0b1000), (8, 0x80)])
def test_the_unused_pattern_is_refused(bits, byte):
    """The most negative number is no code."""
    with pytest.raises(ModelFileError, match="do not have"):
        unpack_codes(np.array([byte], np.uint8), 1, bits)


def test_three_bits_are_never_packed():
    """No width that would be stored wider than it says."""
    with pytest.raises(ValueError, match="3 bits"):
        pack_codes(np.zeros(3, np.int8), 3)
