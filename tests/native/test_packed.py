# SPDX-License-Identifier: Apache-2.0
"""Products with packed weights against the same layers in torch; every kernel that this processor runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import ConfigError, NumericalError
from kaldi_mpq.native.packed import KERNELS_VARIABLE, LayerWeights, Lstm, Matrix, OutputLayer, kernel_names
from kaldi_mpq.pack.bits import pack_codes
from kaldi_mpq.pack.reference import PackedMatrix, from_arrays, lstm_cell

KERNELS = [
    pytest.param(name, marks=[] if name in kernel_names() else pytest.mark.skip(f"this processor has no {name}"))
    for name in ("portable", "avx2", "vnni")
]
WIDTHS = [1, 2, 4, 8]


def normal(shape: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Return random float32 numbers."""
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def random_codes(bits: int, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Return (rows, columns) int8 codes of a width, all of them possible."""
    largest = 1 if bits == 1 else 2 ** (bits - 1) - 1
    codes = np.random.default_rng(seed).integers(-largest, largest + 1, (rows, columns)).astype(np.int8)
    codes[codes == 0] = 1 if bits == 1 else 0
    return codes


def make_matrix(
    shapes: list[tuple[int, int]], columns: int, kernels: str, *, block: int = 0, activation_bits: int = 16,
    clip: float = 0.0, seed: int = 0
) -> tuple[Matrix, PackedMatrix]:  # fmt: skip
    """Return a matrix of random units, (bits, rows) each, and the same in torch."""
    options = {"block": block, "activation_bits": activation_bits, "clip": clip}
    matrix = Matrix(columns, kernels=kernels, **options)
    units = []
    segments = -(-columns // block) if block else 1
    for place, (bits, rows) in enumerate(shapes):
        if bits > 8:
            values = normal((rows, columns), seed + place, 0.3).astype(np.float16 if bits == 16 else np.float32)
            matrix.add_values(values)
            units.append(from_arrays(bits, columns, values))
            continue
        packed = pack_codes(random_codes(bits, rows, columns, seed + place), bits)
        scales = np.random.default_rng(seed).uniform(0.01, 0.1, (rows, segments)).astype(np.float32)
        matrix.add_codes(bits, packed, scales)
        units.append(from_arrays(bits, columns, packed, scales))
    return matrix, PackedMatrix(units, **options)


def check_near(found: np.ndarray, expected: np.ndarray, x: np.ndarray, reference: PackedMatrix) -> None:
    """Sums of products agree to some units in the last place of the sum of their magnitudes."""
    weights = torch.cat([unit.weights(reference.block) for unit in reference.units]).abs().numpy()
    room = np.abs(x.astype(np.float64)) @ weights.T
    assert np.all(np.abs(found - expected) <= 1e-5 * room + 1e-30)


@pytest.mark.parametrize("kernels", KERNELS)
@given(
    bits=st.sampled_from(WIDTHS),
    activation_bits=st.sampled_from([2, 4, 8, 16]),
    n=st.integers(1, 12),
    rows=st.integers(1, 40),
    columns=st.integers(1, 600),
    block=st.sampled_from([0, 0, 1, 7, 32, 64, 300]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=25)
def test_integer_sums_are_exact(kernels, bits, activation_bits, n, rows, columns, block, seed):
    """Whatever the shape, width and block, sums are those of 64-bit integers; codes come back; none overflows."""
    matrix, reference = make_matrix(
        [(bits, rows)], columns, kernels, block=block, activation_bits=activation_bits, seed=seed
    )
    codes = random_codes(bits, rows, columns, seed)
    assert np.array_equal(matrix.codes(), codes)
    x = normal((n, columns), seed + 1)
    sums, numbers = matrix.integers(x)
    assert np.abs(numbers).max() <= reference.limit
    each = min(block or columns, columns)
    for segment, found in enumerate(sums):
        part = slice(segment * each, (segment + 1) * each)
        assert np.array_equal(found, numbers[:, part].astype(np.int64) @ codes[:, part].T.astype(np.int64))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("activation_bits", [8, 16])
def test_the_largest_sums_are_exact(kernels, bits, activation_bits):
    """Codes and activations at their extremes, of equal and of opposite signs, saturate nothing."""
    columns, largest = 1031, 1 if bits == 1 else 2 ** (bits - 1) - 1
    codes = np.full((18, columns), largest, np.int8)
    codes[1] *= -1
    codes[2, ::2] *= -1
    matrix = Matrix(columns, activation_bits=activation_bits, kernels=kernels)
    matrix.add_codes(bits, pack_codes(codes, bits), np.ones((18, 1), np.float32))
    x = np.ones((5, columns), np.float32)
    x[1] *= -1
    x[2, ::2] *= -1
    x[3, 1:] = 0
    sums, numbers = matrix.integers(x)
    assert np.array_equal(sums[0], numbers.astype(np.int64) @ codes.T.astype(np.int64))
    if (bits, activation_bits) == (8, 16):
        assert np.abs(sums.astype(np.int64)).max() > 0.99 * 2**31


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("activation_bits", [4, 8, 16, 32])
@pytest.mark.parametrize(("columns", "block"), [(1, 0), (17, 5), (130, 64), (300, 0)])
def test_mixed_units_are_the_torch_layers(kernels, activation_bits, columns, block):
    """Units of all widths and of floats under one another, rows that fill no panel, scales per block."""
    shapes = [(2, 5), (16, 3), (8, 17), (1, 16), (32, 1), (4, 33)]
    matrix, reference = make_matrix(shapes, columns, kernels, block=block, activation_bits=activation_bits)
    x, bias = normal((11, columns), 5), normal((75,), 6)
    assert matrix.shape == (75, columns)
    expected = reference(torch.from_numpy(x)).numpy()
    check_near(matrix.multiply(x), expected, x, reference)
    np.testing.assert_allclose(matrix.multiply(x, bias), matrix.multiply(x) + bias, rtol=1e-5, atol=1e-5)
    which = np.array([74, 0, 8, 8, 30])
    assert np.array_equal(matrix.rows(which), reference.rows(torch.from_numpy(which)).numpy())


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("clip", [0.5, 3.0])
def test_activations_on_a_fixed_grid(kernels, clip):
    """With a clip, rows share a scale, and what lies beyond the clip becomes it, for float units too."""
    matrix, reference = make_matrix([(4, 20), (16, 4)], 50, kernels, activation_bits=4, clip=clip)
    x = normal((9, 50), 1)
    check_near(matrix.multiply(x), reference(torch.from_numpy(x)).numpy(), np.full_like(x, clip), reference)


def test_float_activations_are_the_float_product():
    """With 32 bits nothing is lost but roundings, whatever the width of the weights."""
    for bits in WIDTHS:
        matrix, reference = make_matrix([(bits, 40)], 333, "", activation_bits=32)
        x = normal((7, 333))
        weights = matrix.rows(np.arange(40)).astype(np.float64)
        check_near(matrix.multiply(x), x @ weights.T, x, reference)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation_bits", [8, 16, 32])
def test_what_is_not_finite_stays_in_its_row(kernels, bad, activation_bits):
    """A bad activation makes its own row NaN (floats: not finite), its neighbours are as without it."""
    matrix, _ = make_matrix([(4, 30)], 40, kernels, activation_bits=activation_bits)
    x = normal((14, 40))
    whole = matrix.multiply(x)
    x[7, 39] = bad
    found = matrix.multiply(x)
    assert not np.isfinite(found[7]).any()
    assert np.array_equal(np.delete(found, 7, axis=0), np.delete(whole, 7, axis=0))
    sums = OutputLayer(matrix, np.zeros(30, np.float32)).log_sums(x)
    assert np.flatnonzero(np.isnan(sums)).tolist() == [7]


@pytest.mark.parametrize("kernels", KERNELS)
def test_zero_rows_and_tiny_ones(kernels):
    """Zero activations and those too small to scale give zeros; no rows give no rows."""
    matrix, _ = make_matrix([(2, 20), (8, 3)], 33, kernels)
    x = np.zeros((3, 33), np.float32)
    x[1] = 1e-38
    assert not matrix.multiply(x).any()
    assert matrix.multiply(x[:0]).shape == (0, 23)


def exact_log_sums(matrix: PackedMatrix, hidden: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return (N,) log-sums of exponentials in float64."""
    logits = matrix(torch.from_numpy(hidden)).double() + torch.from_numpy(bias)
    return torch.logsumexp(logits, dim=1).numpy()


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("activation_bits", [8, 16, 32])
@pytest.mark.parametrize(("n", "words", "columns"), [(1, 1, 1), (9, 1025, 40), (131, 33, 65), (2, 2100, 20)])
def test_log_sums_are_those_of_torch(kernels, activation_bits, n, words, columns):
    """Rows, words and columns that fill nothing, one word in the vocabulary: nothing left out, nothing twice."""
    matrix, reference = make_matrix([(2, words)], columns, kernels, activation_bits=activation_bits)
    hidden, bias = normal((n, columns), 1), normal((words,), 2)
    found = OutputLayer(matrix, bias).log_sums(hidden)
    np.testing.assert_allclose(found, exact_log_sums(reference, hidden, bias), atol=2e-5)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("shift", [-3000.0, -90.0, 0.0, 87.0, 90.0, 3000.0])
def test_logits_of_any_size_are_summed(kernels, shift):
    """Beyond the range of the exponential too, and rows beside each other do not disturb each other."""
    matrix, reference = make_matrix([(4, 50)], 24, kernels)
    hidden, bias = normal((6, 24)), np.full(50, shift, np.float32)
    hidden[2] *= 300.0
    found = OutputLayer(matrix, bias).log_sums(hidden)
    np.testing.assert_allclose(found, exact_log_sums(reference, hidden, bias), rtol=1e-6, atol=5e-4)


def test_asked_logits_are_of_float_activations():
    """Logits of single words do not depend on the activations' width."""
    hidden, bias = normal((9, 37)), normal((50,), 2)
    rows, words = np.arange(700) % 9, np.arange(700) * 7 % 50
    for activation_bits in (8, 32):
        matrix, _ = make_matrix([(4, 30), (16, 20)], 37, "", activation_bits=activation_bits)
        exact = hidden @ matrix.rows(np.arange(50)).T + bias
        found = OutputLayer(matrix, bias).logits(hidden, rows, words, threads=3)
        np.testing.assert_allclose(found, exact[rows, words], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("activation_bits", [8, 16])
def test_rows_do_not_depend_on_their_number(kernels, activation_bits):
    """A row alone, among few, and among many has the same products to the last bit, in units of all widths."""
    matrix, _ = make_matrix([(bits, 19) for bits in WIDTHS], 300, kernels, activation_bits=activation_bits)
    x = normal((130, 300))
    whole = matrix.multiply(x)
    for count in (1, 2, 3, 4, 5, 7):
        assert np.array_equal(matrix.multiply(x[:count]), whole[:count])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("n", [3, 40])
def test_cheap_sums_are_of_8_bit_activations(kernels, n):
    """They are, to the last bit, those of a matrix made for 8 bits; logits of words stay those of floats."""
    shapes = [(1, 20), (2, 33), (4, 50), (8, 5), (16, 3)]
    matrices = [make_matrix(shapes, 70, kernels, block=32, activation_bits=bits)[0] for bits in (16, 8)]
    hidden, bias = normal((n, 70)), normal((111,), 2)
    cheap, small = OutputLayer(matrices[0], bias, cheap=True), OutputLayer(matrices[1], bias)
    assert np.array_equal(cheap.log_sums(hidden), small.log_sums(hidden))
    exact = OutputLayer(matrices[0], bias)
    assert not np.array_equal(cheap.log_sums(hidden), exact.log_sums(hidden))
    rows, words = np.zeros(111, np.int64), np.arange(111)
    assert np.array_equal(cheap.logits(hidden, rows, words), exact.logits(hidden, rows, words))


def test_threads_change_no_bit():
    """However many threads share the work, more than there are cores included."""
    matrix, _ = make_matrix([(2, 3000), (8, 333)], 33, "")
    hidden, bias = normal((150, 33)), normal((3333,), 2)
    layer = OutputLayer(matrix, bias)
    products, sums = matrix.multiply(hidden), layer.log_sums(hidden)
    for threads in (2, 3, 9):
        assert np.array_equal(products, matrix.multiply(hidden, threads=threads))
        assert np.array_equal(sums, layer.log_sums(hidden, threads))


def test_kernels_agree():
    """Integers are the same bits with all kernels, other numbers to roundings."""
    found = {name: make_matrix([(2, 40), (8, 9)], 650, name, block=100)[0] for name in kernel_names()}
    x = normal((13, 650))
    integers = [matrix.integers(x) for matrix in found.values()]
    for sums, numbers in integers[1:]:
        assert np.array_equal(sums, integers[0][0])
        assert np.array_equal(numbers, integers[0][1])
    products = [matrix.multiply(x) for matrix in found.values()]
    for other in products[1:]:
        np.testing.assert_allclose(other, products[0], rtol=1e-4, atol=1e-4)


def test_a_variable_forces_kernels(monkeypatch):
    """MPQ_PACKED_KERNELS is the default, and a name that there is not is refused."""
    monkeypatch.setenv(KERNELS_VARIABLE, "abacus")
    with pytest.raises(ConfigError, match="abacus"):
        Matrix(4)
    monkeypatch.setenv(KERNELS_VARIABLE, "portable")
    assert Matrix(4).shape == (0, 4)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("with_peephole", [False, True])
@pytest.mark.parametrize("projected", [False, True])
def test_lstm_steps_are_the_torch_layers(kernels, with_peephole, projected):
    """Two layers of mixed gates, histories that share parents and words in any order, more than fit a block."""
    cells, width, vocabulary, n = 19, 11, 30, 300
    gates = [(2, cells), (4, cells), (8, cells), (16, cells)]
    parts = [make_matrix(gates, c, kernels, seed=s) for s, c in enumerate((width, cells, cells, cells))]
    embedding = make_matrix([(4, vocabulary)], width, kernels, seed=7)
    projection = make_matrix([(2, width)], cells, kernels, seed=8) if projected else (None, None)
    biases, peepholes = normal((2, 4 * cells)), normal((2, 3 * cells), 1) if with_peephole else [None, None]
    layers = [LayerWeights(parts[2 * k][0], parts[2 * k + 1][0], biases[k], peepholes[k]) for k in range(2)]
    lstm = Lstm(embedding[0], layers, projection[0])
    rng = np.random.default_rng(0)
    hidden, cell = np.tanh(normal((2, 5, cells), 3)), normal((2, 5, cells), 4)
    parents, words = rng.integers(0, 5, n), rng.integers(0, vocabulary, n)
    out, new_hidden, new_cell = lstm.advance(hidden, cell, parents, words, threads=2)
    x = embedding[1].rows(torch.from_numpy(words))
    for k in range(2):
        summed = parts[2 * k][1](x) + parts[2 * k + 1][1](torch.from_numpy(hidden[k][parents]))
        peephole = None if peepholes[k] is None else torch.from_numpy(peepholes[k])
        x, c = lstm_cell(summed + torch.from_numpy(biases[k]), torch.from_numpy(cell[k][parents]), peephole)
        np.testing.assert_allclose(new_hidden[k], x.numpy(), atol=1e-4)
        np.testing.assert_allclose(new_cell[k], c.numpy(), atol=1e-4)
        x = torch.from_numpy(new_hidden[k])  # from its roundings others would follow: a number to the other side
    expected = projection[1](x) if projected else x
    np.testing.assert_allclose(out, expected.numpy(), atol=1e-5)


def test_bad_arrays_are_refused():
    """Sizes that do not fit, patterns that are no codes, numbers of nothing, weights that are not finite."""
    matrix, _ = make_matrix([(4, 5)], 6, "")
    with pytest.raises(ConfigError, match="wide"):
        matrix.multiply(normal((2, 5)))
    with pytest.raises(ConfigError, match="no such row"):
        matrix.rows(np.array([5]))
    with pytest.raises(ConfigError, match="another size"):
        matrix.add_codes(4, np.zeros(2, np.uint8), np.ones((1, 1), np.float32))
    with pytest.raises(ConfigError, match="no code"):
        matrix.add_codes(4, np.full(3, 0x88, np.uint8), np.ones((1, 1), np.float32))
    with pytest.raises(ConfigError, match="after the last code"):
        matrix.add_codes(2, np.array([0, 0xF0], np.uint8), np.ones((1, 1), np.float32))
    with pytest.raises(NumericalError, match="scale"):
        matrix.add_codes(4, np.zeros(3, np.uint8), np.full((1, 1), np.inf, np.float32))
    with pytest.raises(NumericalError, match="weight"):
        matrix.add_values(np.full((1, 6), np.nan, np.float32))
    layer = OutputLayer(matrix, np.zeros(5, np.float32))
    with pytest.raises(ConfigError, match="no such word"):
        layer.logits(normal((1, 6)), np.array([0]), np.array([5]))
    with pytest.raises(ConfigError, match="bias"):
        OutputLayer(matrix, np.zeros(4, np.float32))
    with pytest.raises(ConfigError, match="activations have"):
        Matrix(6, activation_bits=9)
    with pytest.raises(ConfigError, match="4 H"):
        Lstm(matrix, [LayerWeights(matrix, matrix, np.zeros(20, np.float32))])


def test_memory_is_that_of_the_codes():
    """What a matrix holds is the packed codes and a float32 scale a row, and little more."""
    for bits in WIDTHS:
        matrix, _ = make_matrix([(bits, 320)], 512, "")
        assert matrix.bytes == 320 * (512 * bits // 8 + 4)
