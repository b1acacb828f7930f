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
