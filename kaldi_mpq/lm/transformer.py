# SPDX-License-Identifier: Apache-2.0
"""Transformer language model: decoder only, causal, GELU, sinusoidal positions, pre- or post-norm.

Not here: training. Post-norm with scaled embeddings is Kaldi's steps/pytorchnn model.

Paper: Vaswani et al., "Attention is all you need", 2017, eq. (1) and sections 3.2-3.5; Hendrycks and Gimpel, "Gaussian
error linear units (GELUs)", 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.activation_grid import activation_grid
from kaldi_mpq.lm.model import LanguageModel, ModelConfig

__all__ = ["TransformerLm", "TransformerState", "positions"]


@dataclass(frozen=True)
class TransformerState:
    """Keys and values of N histories of up to T words, shared: rows of an arena, and which rows each history sees.

    Args:
      keys, values: (L, R, E), one row per distinct history ever advanced to in this batch.
      rows: (N, T) int64, the rows of each history's words in order; -1 before the first word of a shorter history.
    """

    keys: Tensor
    values: Tensor
    rows: Tensor

    def detach(self) -> TransformerState:
        """Return the same values, cut from the graph that made them."""
        return TransformerState(self.keys.detach(), self.values.detach(), self.rows)


class Attention(nn.Module):
    """Multi-head self-attention weights: queries, keys, values and output, (E, E) each."""

    def __init__(self, dim: int, heads: int, activation_bits: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.see, self.see_mixed = (activation_grid(activation_bits) for _ in range(2))
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (N, T, E) attention outputs; ``mask`` is (T, T) with -inf where a position may not look."""
        x = self.see(x)
        q, k, v = (self._split(linear(x)) for linear in (self.query, self.key, self.value))  # (N, heads, T, E/heads)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask, dim=-1)
        return self.out(self.see_mixed((weights @ v).transpose(1, 2).flatten(2)))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Return (N, E) outputs of one new position each, given all (N, T, E) keys and values including its own.

        Args:
          mask: (N, 1, 1, T), -inf where there is no key.
        """
        n, t, dim = keys.shape
        split = (n, t, self.heads, dim // self.heads)
        q = self.query(self.see(x)).view(n, self.heads, 1, dim // self.heads)
        k, v = keys.view(split).transpose(1, 2), values.view(split).transpose(1, 2)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask, dim=-1)
        return self.out(self.see_mixed((weights @ v).reshape(n, dim)))

    def _split(self, x: Tensor) -> Tensor:
        n, t, dim = x.shape
        return x.view(n, t, self.heads, dim // self.heads).transpose(1, 2)


class Block(nn.Module):
    """One layer: attention and feed-forward, each with its residual connection and layer norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.embedding_dim
        self.attention = Attention(dim, config.heads, config.activation_bits)
        self.see_up, self.see_down = (activation_grid(config.activation_bits) for _ in range(2))
        self.up = nn.Linear(dim, config.hidden_dim)
        self.down = nn.Linear(config.hidden_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.pre = config.norm == "pre"

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (N, T, E)."""
        if self.pre:
            return self._feed(x + self.dropout(self.attention(self.norm1(x), mask)))
        return self._feed(self.norm1(x + self.dropout(self.attention(x, mask))))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Return (N, E) for one new position each; keys, values and mask as `Attention.step` takes them."""
        if self.pre:
            return self._feed(x + self.attention.step(self.norm1(x), keys, values, mask))
        return self._feed(self.norm1(x + self.attention.step(x, keys, values, mask)))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values that inputs (N, E) offer to later positions."""
        seen = self.attention.see(self.norm1(x) if self.pre else x)
        return self.attention.key(seen), self.attention.value(seen)

    def _feed(self, x: Tensor) -> Tensor:
        inner = self.see_up(self.norm2(x) if self.pre else x)
        fed = x + self.dropout(self.down(self.dropout(self.see_down(functional.gelu(self.up(inner))))))
        return fed if self.pre else self.norm2(fed)


class TransformerLm(LanguageModel):
    """See the module; hidden vectors are (N, T, E)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        dim, heads = config.embedding_dim, config.heads
        if dim % heads or dim % 2:
            raise ConfigError("bad embedding_dim", expected=f"an even multiple of {heads} heads", found=dim)
        if config.norm == "pre":
            nn.init.normal_(self.embedding.weight, 0.0, dim**-0.5)
        else:
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(dim) if config.norm == "pre" else nn.Identity()

    def forward(self, inputs: Tensor, state: None = None) -> tuple[Tensor, None]:
        """See LanguageModel.forward; a window of T words is all the context there is, so no state is carried."""
        if state is not None:
            raise NotImplementedError("a transformer's context is its window")
        t = inputs.shape[1]
        x = self.dropout(self._embed(inputs, torch.arange(t, device=inputs.device)))
        mask = self._causal(t)
        for block in self.blocks:
            x = block(x, mask)
        return self.dropout(self.norm(x)), None

    def start(self, count: int) -> TransformerState:
        """See LanguageModel.start."""
        weight = self.output.bias
        nothing = weight.new_zeros(self.config.layers, 0, self.config.embedding_dim)
        return TransformerState(nothing, nothing, torch.zeros(count, 0, dtype=torch.int64, device=weight.device))

    def advance(self, state: TransformerState, parents: Tensor, words: Tensor) -> tuple[Tensor, TransformerState]:
        """See LanguageModel.advance; histories may differ in length."""
        n, arena = len(words), state.keys.shape[1]
        own = torch.arange(arena, arena + n, device=words.device)
        rows = torch.cat([state.rows[parents], own[:, None]], dim=1)  # (N, T + 1)
        keys, values = (functional.pad(old, (0, 0, 0, n)) for old in (state.keys, state.values))
        return self.step(keys, values, rows, words), TransformerState(keys, values, rows)

    def advance_levels(self, state: TransformerState, levels: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """See LanguageModel.advance_levels; keys and values of all levels are in one arena, which is never copied."""
        keys, values, rows = self._room_for_levels(state, levels)
        return torch.cat([self.step(keys, values, own, words) for own, (_, words) in zip(rows, levels, strict=True)])

    def after(self, words: Tensor, lengths: Tensor) -> TransformerState:
        """Return the state of N histories that are known whole, as feeding them word by word would leave it.

        Args:
          words: (N, T) int64 word ids; anything after the end of a history.
          lengths: (N,) int64, 0 to T.
        """
        n, t = words.shape
        if t == 0:
            return self.start(n)
        where = torch.arange(t, device=words.device)
        x = self._embed(words, where)
        mask = self._causal(t)
        keys, values = [], []
        for block in self.blocks:
            offered = block.keys_and_values(x)
            keys.append(offered[0].flatten(0, 1))
            values.append(offered[1].flatten(0, 1))
            x = block(x, mask)
        return TransformerState(torch.stack(keys), torch.stack(values), self._rows_after(lengths, t))

    def step(self, keys: Tensor, values: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """Feed one word to each of N histories, and put its keys and values into their row.

        Args:
          keys, values: (L, R, E), written to.
          rows: (N, T) int64, the rows of each history's words in order, then the row that is to be written; -1 before
            the first word of a history shorter than T - 1.
          words: (N,) int64 word ids.
        Returns:
          (N, E) hidden vectors.
        """
        there = rows >= 0
        mask = torch.zeros(there.shape, device=words.device).masked_fill(~there, -math.inf)[:, None, None, :]
        x = self._embed(words, there.sum(dim=1) - 1)
        own = rows[:, -1]
        read = torch.where(there, rows, own[:, None])  # what is masked is finite too: 0 times infinity would be NaN
        for k, block in enumerate(self.blocks):
            keys[k, own], values[k, own] = block.keys_and_values(x)
            x = block.step(x, keys[k][read], values[k][read], mask)
        return self.norm(x)

    def _room_for_levels(
        self, state: TransformerState, levels: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return keys and values, (L, R, E), with rows for all levels behind the state's, and each level's rows."""
        first, seen = state.keys.shape[1], state.rows
        more = sum(len(words) for _, words in levels)
        keys, values = (old.new_empty(len(old), first + more, old.shape[2]) for old in (state.keys, state.values))
        keys[:, :first], values[:, :first] = state.keys, state.values
        rows = []
        for parents, words in levels:
            own = torch.arange(first, first + len(words), device=words.device)
            seen = torch.cat([seen[parents], own[:, None]], dim=1)
            rows.append(seen)
            first += len(words)
        return keys, values, rows

    @staticmethod
    def _rows_after(lengths: Tensor, t: int) -> Tensor:
        """Return the (N, T) rows of histories whose words fill an arena from rows 0, T, 2 T, ... on."""
        place = torch.arange(t, device=lengths.device) - t + lengths[:, None]  # all end in the last column
        return torch.where(place >= 0, place + t * torch.arange(len(lengths), device=lengths.device)[:, None], -1)

    def _causal(self, t: int) -> Tensor:
        """Return (T, T), -inf where a position may not look."""
        return torch.full((t, t), -math.inf, device=self.output.bias.device).triu(1)

    def _embed(self, words: Tensor, where: Tensor) -> Tensor:
        scale = math.sqrt(self.config.embedding_dim) if self.config.scaled_embedding else 1.0
        return self.embed(words) * scale + positions(where, self.config.embedding_dim)


def positions(where: Tensor, dim: int) -> Tensor:
    """Return the (..., E) sinusoidal encoding of positions: sines in even, cosines in odd columns (section 3.5)."""
    rates = torch.exp(torch.arange(0, dim, 2, device=where.device) * (-math.log(10000.0) / dim))
    angles = where[..., None] * rates
    return torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1).flatten(-2)
