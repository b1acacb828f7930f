# SPDX-License-Identifier: Apache-2.0
"""Fixed-point products against exact integers and float64; every kernel that this processor runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import ConfigError, NumericalError
from kaldi_mpq.native.dense import OutputLayer, has_fast_kernels, kernel_names, lstm_step

KERNELS = kernel_names()


def normal(shape: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Return random float32 numbers."""
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def exact_log_sums(hidden: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return (N,) log-sums-of-exponentials in float64."""
    logits = hidden.astype(np.float64) @ weight.T.astype(np.float64) + bias
    top = logits.max(axis=1)
    return np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top


def trained_like(histories: int, words: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hidden, weight and bias with the norms of AMI's LSTM 2x512: histories 6, words 4, some words likely.

    A history points towards one to five words, so that their shares reach from 0 to 1.
    """
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((words, 512)) * 4.2 / 512**0.5
    hidden = np.tanh(rng.standard_normal((histories, 512))) / (1 + np.exp(-rng.standard_normal((histories, 512))))
    for i in range(histories):
        hidden[i] += rng.uniform(0, 2) * weight[rng.integers(0, words, 1 + i % 5)].mean(axis=0)
    hidden *= 5.8 / np.linalg.norm(hidden, axis=1, keepdims=True)
    return hidden.astype(np.float32), weight.astype(np.float32), rng.normal(-2, 2, words).astype(np.float32)


@pytest.mark.parametrize("kernels", KERNELS)
@given(
    n=st.integers(1, 20),
    words=st.integers(1, 50),
    columns=st.integers(1, 600),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
@settings(deadline=None, max_examples=40)
def test_sums_of_products_are_exact(kernels, n, words, columns, seed, scale):
    """Whatever the shape, sums are those of 64-bit integers, and codes are the values, in their order, to a unit."""
    hidden, weight = normal((n, columns), seed, scale), normal((words, columns), seed + 1)
    sums, rows, codes = OutputLayer(weight, np.zeros(words, np.float32), kernels).integers(hidden)
    assert np.array_equal(sums, np.einsum("nck,vck->ncv", rows.astype(np.int64), codes.astype(np.int64)))
    flat = codes.reshape(words, -1).astype(np.float64)
    assert not flat[:, columns:].any()
    for values, numbers in zip(weight.astype(np.float64), flat[:, :columns], strict=True):
        largest = np.argmax(np.abs(values))
        unit = values[largest] / numbers[largest]  # to half a code in more than a thousand
        assert np.all(np.abs(values / unit - numbers) <= 1.01)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("columns", [1, 16, 127, 128, 512])
def test_the_largest_sums_do_not_overflow(kernels, columns):
    """Vectors of equal numbers, or of one alone, have the largest codes and sums there can be: still exact."""
    ones = np.ones((3, columns), np.float32)
    ones[1] *= -1
    ones[2, 1:] = 0
    sums, rows, codes = OutputLayer(ones, np.zeros(3, np.float32), kernels).integers(ones)
    assert np.array_equal(sums, np.einsum("nck,vck->ncv", rows.astype(np.int64), codes.astype(np.int64)))
    assert np.abs(sums[:2, :, :2].astype(np.int64)).max() > (2**31 * 0.99 if columns >= 127 else 2**28)


def test_kernels_agree_on_every_integer():
    """Codes and sums of all kernels are the same bits."""
    hidden, weight = normal((13, 650)), normal((45, 650), 1)
    found = [OutputLayer(weight, np.zeros(45, np.float32), kernels).integers(hidden) for kernels in KERNELS]
    for others in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("n", "words", "columns"),
    [(1, 1, 1), (1, 17, 3), (5, 16, 256), (6, 1023, 257), (7, 1025, 512), (193, 40, 31), (385, 33, 650)],
)
def test_log_sums_are_those_of_float64(kernels, n, words, columns):
    """Rows, words and columns that fill no tile: nothing is left out, nothing counted twice."""
    hidden, weight = normal((n, columns)), normal((words, columns), 1, columns**-0.5)
    bias = normal((words,), 2)
    found = OutputLayer(weight, bias, kernels).log_sums(hidden)
    error = np.abs(found - exact_log_sums(hidden, weight, bias))
    norms = np.linalg.norm(hidden, axis=1) * np.linalg.norm(weight, axis=1).max()
    assert np.all(error < 1e-6 + 4e-6 * norms)


@pytest.mark.parametrize("words", [1000, 5003])
def test_trained_models_lose_less_than_a_ten_thousandth(words):
    """The worst error of a history is below 1e-4 nats where word and history vectors have a trained model's norms."""
    hidden, weight, bias = trained_like(400, words)
    exact = exact_log_sums(hidden, weight, bias)
    shares = np.exp((hidden @ weight.T + bias).max(axis=1) - exact)
    assert shares.min() < 0.1 and shares.max() > 0.9
    error = np.abs(OutputLayer(weight, bias).log_sums(hidden) - exact)
    assert error.max() < 1e-4
    assert error.mean() < 1e-5


def test_sure_histories_are_as_exact():
    """Where one word has nearly all the probability no averaging helps, and none is needed."""
    _, weight, bias = trained_like(1, 2000)
    bias[:] = 0
    hidden = 1.4 * weight[:50]
    exact = exact_log_sums(hidden, weight, bias)
    assert np.exp((hidden * weight[:50]).sum(axis=1) - exact).min() > 0.9
    assert np.abs(OutputLayer(weight, bias).log_sums(hidden) - exact).max() < 1e-5


@pytest.mark.parametrize("kernels", KERNELS)
def test_zeros_count(kernels):
    """Zero histories, zero words and zero biases give ln V."""
    layer = OutputLayer(np.zeros((33, 20), np.float32), np.zeros(33, np.float32), kernels)
    np.testing.assert_allclose(layer.log_sums(normal((3, 20))), np.log(33), atol=1e-6)
    layer = OutputLayer(normal((33, 20)), np.zeros(33, np.float32), kernels)
    np.testing.assert_allclose(layer.log_sums(np.zeros((3, 20), np.float32)), np.log(33), atol=1e-6)
    assert layer.log_sums(np.zeros((0, 20), np.float32)).shape == (0,)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_what_cannot_be_summed_is_nan_and_nothing_else_is(kernels, bad):
    """A history that is not finite, or too large, is NaN; its neighbours in the tile are as without it."""
    hidden, weight = normal((14, 40)), normal((30, 40), 1)
    layer = OutputLayer(weight, np.zeros(30, np.float32), kernels)
    whole = layer.log_sums(hidden)
    hidden[7, 39] = bad
    found = layer.log_sums(hidden)
    assert np.isnan(found[7])
    assert np.array_equal(np.delete(found, 7), np.delete(whole, 7))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("shift", [-200.0, -58.0, -57.0, 0.0, 80.0, 87.0, 89.0, 1000.0])
def test_logits_of_any_size_are_right_or_nan(kernels, shift):
    """Within the range of the exponential they are right, beyond it NaN, never anything between."""
    hidden, weight = normal((5, 24)), normal((50, 24), 1, 0.01)
    bias = np.full(50, shift, np.float32)
    found = OutputLayer(weight, bias, kernels).log_sums(hidden)
    exact = exact_log_sums(hidden, weight, bias)
    assert np.all(np.isnan(found) | (np.abs(found - exact) < 1e-4))
    if -57 <= shift <= 80:
        assert not np.isnan(found).any()


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("n", [1, 100, 700])
def test_threads_change_no_bit(kernels, n):
    """However many threads share the work, more than there are cores included."""
    hidden, weight, bias = normal((n, 33)), normal((3333, 33), 1, 0.3), normal((3333,), 2)
    layer = OutputLayer(weight, bias, kernels)
    alone = layer.log_sums(hidden)
    for threads in (2, 3, 9):
        assert np.array_equal(alone, layer.log_sums(hidden, threads))


def test_logits_are_those_of_the_float_weights():
    """Asked words cost no quantization: logits are exact to a float."""
    hidden, weight, bias = normal((9, 37)), normal((50, 37), 1), normal((50,), 2)
    rows, words = np.arange(400) % 9, np.arange(400) * 7 % 50
    found = OutputLayer(weight, bias).logits(hidden, rows, words, threads=2)
    np.testing.assert_allclose(found, (hidden @ weight.T + bias)[rows, words], rtol=1e-5, atol=1e-5)


def test_the_layer_keeps_its_weights():
    """Arrays that nobody else holds any more are still there when likely words are computed again."""
    weight, bias = normal((4000, 64)), normal((4000,), 1)
    layer = OutputLayer(weight.copy(), bias.copy())
    hidden = normal((8, 64), 2)
    np.testing.assert_allclose(layer.log_sums(hidden), exact_log_sums(hidden, weight, bias), atol=1e-4)


def test_bad_arrays_are_refused():
    """Shapes that do not fit, numbers of nothing, weights that are not finite, kernels that there are not."""
    weight, bias = normal((5, 4)), normal((5,))
    layer = OutputLayer(weight, bias)
    with pytest.raises(ConfigError, match="wide"):
        layer.log_sums(normal((2, 3)))
    with pytest.raises(ConfigError, match="no such row"):
        layer.logits(normal((2, 4)), np.array([2]), np.array([0]))
    with pytest.raises(ConfigError, match="no such word"):
        layer.logits(normal((2, 4)), np.array([0]), np.array([-1]))
    with pytest.raises(ConfigError, match="bias"):
        OutputLayer(weight, bias[1:])
    with pytest.raises(ConfigError, match="no element"):
        OutputLayer(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    with pytest.raises(ConfigError, match="abacus"):
        OutputLayer(weight, bias, "abacus")
    weight[1, 2] = np.nan
    with pytest.raises(NumericalError, match="not finite"):
        OutputLayer(weight, bias)


def test_portable_is_always_there():
    """Every processor has a last resort, and says whether it is the only one."""
    assert KERNELS[-1] == "portable"
    assert has_fast_kernels() == (len(KERNELS) > 1)


def reference_step(a, b, cell, peephole):
    """Return hidden and cell vectors of an LSTM's step in float64."""

    def sigmoid(x):
        return np.exp(-np.logaddexp(0, -x))

    gates = np.split(a.astype(np.float64) + b, 4, axis=1)
    i, f, o = np.split(np.zeros(3 * cell.shape[1]) if peephole is None else peephole.astype(np.float64), 3)
    new = sigmoid(gates[1] + f * cell) * cell + sigmoid(gates[0] + i * cell) * np.tanh(gates[2])
    return sigmoid(gates[3] + o * new) * np.tanh(new), new


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("cells", [1, 7, 8, 29])
@pytest.mark.parametrize("scale", [0.1, 3.0, 1000.0])
@pytest.mark.parametrize("with_peephole", [False, True])
def test_lstm_step_is_the_equations(kernels, cells, scale, with_peephole):
    """Hidden and cell vectors are those of float64, of histories that share rows in any order; saturation included."""
    rng = np.random.default_rng(0)
    n = 77
    a, b, cell = normal((5, 4 * cells), 0, scale), normal((9, 4 * cells), 1), normal((4, cells), 2)
    which = [rng.integers(0, m, n) for m in (5, 9, 4)]
    peephole = normal((3 * cells,), 3) if with_peephole else None
    hidden, fresh = np.empty((n, cells), np.float32), np.empty((n, cells), np.float32)
    lstm_step((a, which[0]), (b, which[1]), (cell, which[2]), peephole, hidden, fresh, 2, kernels)
    expected = reference_step(a[which[0]], b[which[1]], cell[which[2]], peephole)
    np.testing.assert_allclose(hidden, expected[0], atol=2e-6)
    np.testing.assert_allclose(fresh, expected[1], atol=2e-6)


@pytest.mark.parametrize("kernels", KERNELS)
def test_lstm_step_shows_nan(kernels):
    """A gate that is NaN makes its own cell NaN, and no other."""
    zeros, row = np.zeros((2, 40), np.float32), np.array([0, 1])
    for gate in range(4):
        a = zeros.copy()
        a[1, gate * 10 + 3] = np.nan
        hidden, cell = np.empty((2, 10), np.float32), np.empty((2, 10), np.float32)
        lstm_step((a, row), (zeros, row), (zeros[:, :10], row), None, hidden, cell, kernels=kernels)
        assert np.argwhere(np.isnan(hidden)).tolist() == [[1, 3]]


def test_lstm_step_refuses_rows_that_are_not_there():
    """Indices are checked before anything is read."""
    gates, cells, row = np.zeros((2, 40), np.float32), np.zeros((2, 10), np.float32), np.array([0, 1])
    out = np.empty((2, 10), np.float32), np.empty((2, 10), np.float32)
    with pytest.raises(ConfigError, match="no such row"):
        lstm_step((gates, np.array([0, 2])), (gates, row), (cells, row), None, *out)
    with pytest.raises(ConfigError, match="every history"):
        lstm_step((gates, row[:1]), (gates, row), (cells, row), None, *out)
    with pytest.raises(ConfigError, match="4 H"):
        lstm_step((gates[:, 1:], row), (gates, row), (cells, row), None, *out)
