# SPDX-License-Identifier: Apache-2.0
"""Steps of packed Transformers against the same blocks in torch; every kernel that this processor runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.native.packed import BlockWeights, Transformer, gelu, kernel_names
from kaldi_mpq.pack.reference import PackedBlock
from tests.native.test_packed import KERNELS, make_matrix, normal

WIDTH, INNER, HEADS, WORDS = 22, 37, 2, 30  # heads of 11: no vector is full


def make_model(kernels: str, *, pre: bool = True, layers: int = 2, activation_bits: int = 16):
    """Return a model of mixed widths, and (embedding, blocks, last norm) of the same in torch."""
    options = {"kernels": kernels, "activation_bits": activation_bits}
    shapes = [
        ([(2, WIDTH), (4, WIDTH), (16, WIDTH)], WIDTH),
        ([(8, WIDTH)], WIDTH),
        ([(1, 20), (4, INNER - 20)], WIDTH),
        ([(4, WIDTH)], INNER),
    ]
    embedding = make_matrix([(4, WORDS)], WIDTH, seed=99, **options)
    blocks, references = [], []
    for k in range(layers):
        parts = [make_matrix(units, columns, seed=10 * k, **options) for units, columns in shapes]
        biases = [normal((matrix.shape[0],), 10 * k + i, 0.2) for i, (matrix, _) in enumerate(parts)]
        norms = [(1 + normal((WIDTH,), 70 + k + i, 0.2), normal((WIDTH,), 80 + k + i, 0.2)) for i in range(2)]
        linears = [(matrix, bias) for (matrix, _), bias in zip(parts, biases, strict=True)]
        blocks.append(BlockWeights(*linears, *norms))
        slow = [(matrix, torch.from_numpy(bias)) for (_, matrix), bias in zip(parts, biases, strict=True)]
        tensors = [tuple(map(torch.from_numpy, norm)) for norm in norms]
        references.append(PackedBlock(slow, tensors, heads=HEADS, pre=pre))
    last = (1 + normal((WIDTH,), 90, 0.2), normal((WIDTH,), 91, 0.2)) if pre else None
    return Transformer(embedding[0], 1.7, blocks, last, HEADS), (embedding[1], references, last)


def made_up_call(n: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return keys, values, rows, words, positions of n histories of 1 to 9 words that share what they can."""
    rng = np.random.default_rng(seed)
    rows = np.full((n, 9), -1)
    for i in range(n):
        before = rng.integers(0, 9)
        rows[i, 8 - before : 8] = rng.choice(20, before, replace=False)
        rows[i, 8] = 20 + i
    arena = normal((2, 2, 20 + n, WIDTH), seed)
    return arena[0], arena[1], rows, rng.integers(0, WORDS, n), normal((9, WIDTH), seed + 1)


def expected_step(reference, keys, values, rows, words, positions) -> np.ndarray:
    """Return what a step must give; keys and values are written to."""
    embedding, blocks, last = reference
    where = torch.from_numpy(positions)[(torch.from_numpy(rows) >= 0).sum(dim=1) - 1]
    x = 1.7 * embedding.rows(torch.from_numpy(words)) + where
    for block, own_keys, own_values in zip(blocks, torch.from_numpy(keys), torch.from_numpy(values), strict=True):
        x = block(x, own_keys, own_values, torch.from_numpy(rows))
    if last is None:
        return x.numpy()
    return torch.nn.functional.layer_norm(x, (WIDTH,), *map(torch.from_numpy, last)).numpy()


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("pre", [True, False])
@pytest.mark.parametrize("activation_bits", [16, 32])
def test_steps_are_the_torch_blocks(kernels, pre, activation_bits):
    """Histories of different lengths, units of mixed widths: hidden vectors, keys and values, other rows untouched."""
    model, reference = make_model(kernels, pre=pre, activation_bits=activation_bits)
    keys, values, rows, words, positions = made_up_call(140)
    arenas = keys.copy(), values.copy()
    expected = expected_step(reference, keys, values, rows, words, positions)
    found = model.step(*arenas, rows, words, positions)
    assert np.std(expected) > 0.5
    tolerance = 5e-4 if activation_bits == 16 else 2e-5  # a number may be rounded to the other side
    np.testing.assert_allclose(found, expected, atol=tolerance)
    np.testing.assert_allclose(arenas[0], keys, atol=tolerance)
    np.testing.assert_allclose(arenas[1], values, atol=tolerance)
    assert np.array_equal(arenas[0][:, :20], keys[:, :20])


@pytest.mark.parametrize("kernels", KERNELS)
def test_neither_threads_nor_company_change_a_bit(kernels):
    """More threads, histories one by one or in another order give the same bits."""
    model, _ = make_model(kernels)
    keys, values, rows, words, positions = made_up_call(300)
    arenas = keys.copy(), values.copy()
    usual = model.step(*arenas, rows, words, positions)
    for threads in (2, 5):
        others = keys.copy(), values.copy()
        assert np.array_equal(usual, model.step(*others, rows, words, positions, threads))
        assert all(np.array_equal(*pair) for pair in zip(arenas, others, strict=True))
    order = np.random.default_rng(0).permutation(300)
    assert np.array_equal(usual[order], model.step(keys, values, rows[order], words[order], positions))
    for i in (0, 299):
        assert np.array_equal(usual[i : i + 1], model.step(keys, values, rows[i : i + 1], words[i : i + 1], positions))


def test_a_whole_tree_is_one_call():
    """Histories may see rows that others of the same call write, in any order."""
    model, _ = make_model("")
    rng = np.random.default_rng(3)
    rows = np.full((40, 40), -1)
    for i in range(40):
        parent = rng.integers(0, i) if i else 0
        rows[i] = np.r_[rows[parent][1:], i]
    words, positions = rng.integers(0, WORDS, 40), normal((40, WIDTH))
    one, all_at_once = (np.zeros((2, 2, 40, WIDTH), np.float32) for _ in range(2))
    expected = [model.step(*one, rows[i : i + 1], words[i : i + 1], positions) for i in range(40)]
    order = rng.permutation(40)
    found = model.step(*all_at_once, rows[order], words[order], positions)
    assert np.array_equal(found, np.concatenate(expected)[order])
    assert np.array_equal(one, all_at_once)


@pytest.mark.parametrize("kernels", kernel_names())
def test_gelu_is_the_exact_one(kernels):
    """Within 1e-6 of x Phi(x), small, large and infinite values and NaN included."""
    x = np.r_[np.linspace(-12, 12, 100_001), 0.0, -0.0, 1e-20, 3e38, -3e38].astype(np.float32)
    exact = torch.nn.functional.gelu(torch.from_numpy(x).double()).numpy()
    found = gelu(x, kernels)
    assert np.abs(found[:-2] - exact[:-2]).max() < 1e-6
    assert found[-2] == x[-2] and abs(found[-1]) < 1e-6
    assert np.isnan(gelu(np.float32([1, np.nan, 2]), kernels)).tolist() == [False, True, False]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_with_those_who_see_it(kernels, bad):
    """Histories that see a bad key or value are not finite; the others are as without it."""
    model, _ = make_model(kernels)
    keys, values, rows, words, positions = made_up_call(60)
    usual = model.step(keys, values, rows, words, positions)
    sees = (rows == 7).any(axis=1)
    assert 0 < sees.sum() < 60
    keys[0, 7, 3] = values[0, 7, 3] = bad
    found = model.step(keys, values, rows, words, positions)
    assert not np.isfinite(found[sees]).all(axis=1).any()
    assert np.array_equal(found[~sees], usual[~sees])


def test_bad_calls_are_refused():
    """Shapes, rows and words that there are not, arrays that could not be written to."""
    model, _ = make_model("")
    good = made_up_call(5)
    model.step(*good)
    assert model.step(*good[:2], good[2][:0], good[3][:0], good[4]).shape == (0, WIDTH)
    keys, values, rows, words, positions = good
    bad_row, behind, twice = rows.copy(), rows.copy(), rows.copy()
    bad_row[3, 8], behind[3, 8], twice[3, 8] = 25, -1, twice[2, 8]
    hole = rows.copy()
    hole[:, 6:8] = [3, -1]
    for wrong in (bad_row, behind, twice, hole, rows[:4], rows[0], rows[:, :0]):
        with pytest.raises(ConfigError):
            model.step(keys, values, wrong, words, positions)
    for wrong in ((keys[:1], values), (keys, values[:, :9]), (keys[..., :9], values), (keys.astype(float), values)):
        with pytest.raises(ConfigError):
            model.step(*wrong, rows, words, positions)
    with pytest.raises(ConfigError):
        model.step(keys, values, rows, words + WORDS, positions)
    with pytest.raises(ConfigError):
        model.step(keys, values, rows, words, positions[:8])
    keys.flags.writeable = False
    with pytest.raises(ConfigError):
        model.step(keys, values, rows, words, positions)


def test_parts_that_do_not_fit_are_refused():
    """Heads that do not divide, a matrix or norm of another size, no blocks."""
    shapes = {"embedding": (9, 8), "project": (24, 8), "square": (8, 8), "up": (11, 8), "down": (8, 11)}
    matrix = {name: make_matrix([(4, rows)], columns, "")[0] for name, (rows, columns) in shapes.items()}
    zeros = {rows: np.zeros(rows, np.float32) for rows in (8, 11, 24)}
    linears = {name: (matrix[name], zeros[matrix[name].shape[0]]) for name in ("project", "square", "up", "down")}
    norm = zeros[8], zeros[8]
    parts = [linears["project"], linears["square"], linears["up"], linears["down"], norm, norm]
    Transformer(matrix["embedding"], 1.0, [BlockWeights(*parts)], norm, 2)
    for heads in (0, 3, -1):
        with pytest.raises(ConfigError):
            Transformer(matrix["embedding"], 1.0, [BlockWeights(*parts)], norm, heads)
    with pytest.raises(ConfigError):
        Transformer(matrix["embedding"], 1.0, [], norm, 2)
    wrong = {0: linears["square"], 1: linears["up"], 3: linears["square"], 4: (zeros[11], zeros[8])}
    for place, part in wrong.items():
        with pytest.raises(ConfigError):
            changed = BlockWeights(*(part if i == place else own for i, own in enumerate(parts)))
            Transformer(matrix["embedding"], 1.0, [changed], None, 2)
