# SPDX-License-Identifier: Apache-2.0
"""The Transformer language model against torch's own encoder layers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from kaldi_mpq.lm.transformer import positions


def torch_layer(block, dim: int, heads: int, feed: int) -> nn.Module:
    """Return the nn.TransformerEncoderLayer with a block's weights."""
    layer = nn.TransformerEncoderLayer(dim, heads, feed, 0.0, "gelu", batch_first=True, norm_first=block.pre)
    attention = block.attention
    inputs = (attention.query, attention.key, attention.value)
    pairs = {
        "self_attn.in_proj_weight": torch.cat([linear.weight for linear in inputs]),
        "self_attn.in_proj_bias": torch.cat([linear.bias for linear in inputs]),
    }
    for theirs, ours in {
        "self_attn.out_proj": attention.out,
        "linear1": block.up,
        "linear2": block.down,
        "norm1": block.norm1,
        "norm2": block.norm2,
    }.items():
        pairs[f"{theirs}.weight"], pairs[f"{theirs}.bias"] = ours.weight, ours.bias
    layer.load_state_dict(pairs)
    return layer.train()  # its evaluation takes other paths, some of them without a mask


@pytest.mark.parametrize("kind", ["transformer-pre", "transformer-post"])
def test_forward_is_torchs_encoder(kind, make_model):
    """Hidden vectors are those of torch's encoder layers with a causal mask, over scaled embeddings and positions."""
    model = make_model(kind)
    config = model.config
    words = torch.randint(0, 23, (3, 7))
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    with torch.no_grad():
        x = model.embedding(words) * math.sqrt(config.embedding_dim) + positions(torch.arange(7), config.embedding_dim)
        for block in model.blocks:
            x = torch_layer(block, config.embedding_dim, config.heads, config.hidden_dim)(x, mask)
        assert torch.allclose(model(words)[0], model.norm(x), atol=1e-5)


def test_positions_are_those_of_the_paper():
    """Even columns are sines, odd ones cosines, of the position over 10000^(column / dim)."""
    table = positions(torch.tensor([[0, 1], [17, 250]]), 6)
    for index, where in (((0, 0), 0), ((0, 1), 1), ((1, 0), 17), ((1, 1), 250)):
        for column in range(6):
            angle = where / 10000 ** ((column - column % 2) / 6)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert table[(*index, column)].item() == pytest.approx(expected, abs=1e-4)


def test_a_window_is_all_the_context(make_model):
    """No state comes out of a window, and none goes in."""
    model = make_model("transformer-pre")
    assert model(torch.tensor([[21, 1]]))[1] is None
    with pytest.raises(NotImplementedError):
        model(torch.tensor([[21, 1]]), model.start(1))


@pytest.mark.parametrize("kind", ["transformer-pre", "transformer-post"])
def test_rows_that_are_nobodys_do_not_matter(make_model, kind):
    """Where histories differ in length, memory that holds anything, NaN too, is masked without a trace."""
    model = make_model(kind)
    words = torch.tensor([[5, 6, 7, 8], [9, 4, 3, 2]])
    with torch.no_grad():
        expected = model(words)[0]
        shape = (model.config.layers, 20, model.config.embedding_dim)
        keys, values = torch.full(shape, torch.nan), torch.full(shape, torch.nan)
        first = model.step(keys, values, torch.tensor([[0]]), words[:1, 0])
        second = model.step(keys, values, torch.tensor([[0, 1], [-1, 2]]), torch.tensor([6, 9]))
        third = model.step(keys, values, torch.tensor([[0, 1, 3], [-1, 2, 4]]), torch.tensor([7, 4]))
    torch.testing.assert_close(first[0], expected[0, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(second, torch.stack([expected[0, 1], expected[1, 0]]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(third, torch.stack([expected[0, 2], expected[1, 1]]), atol=1e-5, rtol=1e-4)
