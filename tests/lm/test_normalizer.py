# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities without the logits are those with them."""

from __future__ import annotations

import pytest
import torch

from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.lm.normalizer import (
    FixedPointNormalizer,
    TorchNormalizer,
    fits_native,
    log_normalizer,
    make_normalizer,
    next_word_logps,
)
from kaldi_mpq.native.dense import kernel_names


@pytest.mark.parametrize("histories", [0, 1, 511, 513, 1025])
@pytest.mark.parametrize("words", [1, 2047, 2049, 4099])
def test_normalizer_is_the_log_sum_exp(histories, words):
    """Blocks that divide neither the histories nor the vocabulary leave nothing out."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(histories, 3, generator=generator)
    weight = torch.randn(words, 3, generator=generator)
    bias = torch.randn(words, generator=generator)
    expected = torch.logsumexp((hidden.double() @ weight.double().t()) + bias.double(), dim=1)
    assert torch.allclose(log_normalizer(hidden, weight, bias).double(), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_next_word_logps_are_those_of_log_softmax(scale):
    """Any number of questions per history, in any order; large logits neither overflow nor vanish."""
    generator = torch.Generator().manual_seed(2)
    hidden = scale * torch.randn(37, 5, generator=generator)
    weight, bias = torch.randn(2051, 5, generator=generator), torch.randn(2051, generator=generator)
    rows = torch.randint(0, 37, (501,), generator=generator)
    words = torch.randint(0, 2051, (501,), generator=generator)
    table = torch.log_softmax(hidden.double() @ weight.double().t() + bias.double(), dim=1)
    found = next_word_logps(hidden, rows, words, weight, bias).double()
    assert torch.allclose(found, table[rows, words], rtol=1e-5, atol=1e-4)


def test_no_question_has_no_answer():
    """Without histories there is nothing to compute."""
    none = torch.zeros(0, dtype=torch.int64)
    assert next_word_logps(torch.zeros(0, 4), none, none, torch.zeros(9, 4), torch.zeros(9)).shape == (0,)


def random_layer(words: int, columns: int, scale: float = 1.0):
    """Return a weight, a bias, 37 histories, and 200 questions about them: rows and words."""
    generator = torch.Generator().manual_seed(5)
    weight, bias = torch.randn(words, columns, generator=generator), torch.randn(words, generator=generator)
    hidden = scale * torch.randn(37, columns, generator=generator)
    rows = torch.randint(0, 37, (200,), generator=generator)
    return weight, bias, hidden, rows, torch.randint(0, words, (200,), generator=generator)


@pytest.mark.parametrize("kernels", kernel_names())
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_fixed_point_answers_as_torch_does(kernels, scale):
    """Log-probabilities of both ways agree, also where logits of some histories or all are beyond exp's range."""
    weight, bias, hidden, rows, words = random_layer(2051, 20, scale)
    hidden[5] *= 50
    fixed, floats = FixedPointNormalizer(weight, bias, kernels), TorchNormalizer(weight, bias)
    expected = floats.logps(hidden, rows, words)
    found = fixed.logps(hidden, rows, words)
    assert found.dtype == expected.dtype
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-4)
    assert torch.allclose(fixed.log_normalizer(hidden), floats.log_normalizer(hidden), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_history_that_is_not_finite_is_nan_alone(bad):
    """What follows a broken history is NaN, what follows the others is as before."""
    weight, bias, hidden, rows, words = random_layer(300, 20)
    layer = FixedPointNormalizer(weight, bias)
    good = layer.logps(hidden, rows, words)
    hidden[3, 7] = bad
    found = layer.logps(hidden, rows, words)
    assert torch.isnan(found[rows == 3]).all()
    assert torch.equal(found[rows != 3], good[rows != 3])


def test_the_choice_is_by_where_the_weights_are():
    """Native code for float32 in the processor's memory, where it has kernels; torch for anything else."""
    config = ModelConfig("lstm", 37, 35, 36, 1, 12, 12, 1)
    model = build(config).eval()
    native = kernel_names() != ["portable"]
    assert isinstance(make_normalizer(model), FixedPointNormalizer) == native
    assert isinstance(make_normalizer(model.double()), TorchNormalizer)
    assert not fits_native(torch.zeros(3, 4, device="meta"))


def test_a_model_is_answered_for_as_by_its_logits():
    """A normalizer made of a model gives the log-softmax of the model's own logits."""
    model = build(ModelConfig("lstm", 37, 35, 36, 1, 12, 12, 1)).eval()
    hidden = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    rows, words = torch.arange(185) // 37, torch.arange(185) % 37
    with torch.no_grad():
        expected = torch.log_softmax(model.logits(hidden), dim=1).flatten()
    assert torch.allclose(make_normalizer(model).logps(hidden, rows, words), expected, atol=1e-5)
