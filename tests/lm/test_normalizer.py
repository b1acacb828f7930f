# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities without the logits are those with them."""

from __future__ import annotations

import pytest
import torch

from kaldi_mpq.lm.normalizer import log_normalizer, next_word_logps


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
