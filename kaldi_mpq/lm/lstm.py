# SPDX-License-Identifier: Apache-2.0
"""LSTM language model: embedding, LSTM layers, an output layer tied to the embedding by choice.

Not here: training. The matrices are plain parameters, one per layer and direction of flow, whose rows are the gates
input, forget, cell, output, so that quantization can give each gate a width of its own.

Paper: Sundermeyer, Schlueter and Ney, "LSTM neural networks for language modeling", 2012, eq. (1)-(6) without
peepholes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kaldi_mpq.lm.model import LanguageModel, ModelConfig

__all__ = ["GATES", "LstmLm", "LstmState"]

GATES = ("input", "forget", "cell", "output")


@dataclass(frozen=True)
class LstmState:
    """Hidden and cell vectors of N histories, (L, N, H) each."""

    hidden: Tensor
    cell: Tensor

    def detach(self) -> LstmState:
        """Return the same values, cut from the graph that made them."""
        return LstmState(self.hidden.detach(), self.cell.detach())

    def where(self, replaced: Tensor, other: LstmState) -> LstmState:
        """Return these states with the histories that ``replaced``, (N,) bool, marks taken from ``other``."""
        rows = replaced[None, :, None]
        return LstmState(torch.where(rows, other.hidden, self.hidden), torch.where(rows, other.cell, self.cell))


class LstmLayer(nn.Module):
    """One layer: (4H, I) weights from below, (4H, H) from the step before, (4H,) bias; gates in the order of GATES."""

    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__()
        bound = cells**-0.5
        self.ih = nn.Parameter(torch.empty(4 * cells, inputs).uniform_(-bound, bound))
        self.hh = nn.Parameter(torch.empty(4 * cells, cells).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(4 * cells))
        with torch.no_grad():
            self.bias[cells : 2 * cells] = 1.0  # remember at first

    def forward(self, below: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (T, N, H) outputs and the last hidden and cell vectors, (1, N, H), of (T, N, I) inputs."""
        weights = [self.ih, self.hh, self.bias, torch.zeros_like(self.bias)]  # torch has two biases, whose sum counts
        return torch._VF.lstm(below, (hidden, cell), weights, True, 1, 0.0, self.training, False, False)


class LstmLm(LanguageModel):
    """See the module; hidden vectors are (N, T, E), projected from H where layers and embeddings differ in width."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        embedding, cells = config.embedding_dim, config.hidden_dim
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.layers = nn.ModuleList(LstmLayer(embedding if k == 0 else cells, cells) for k in range(config.layers))
        self.projection = nn.Linear(cells, embedding, bias=False) if cells != embedding else None

    def forward(self, inputs: Tensor, state: LstmState | None = None) -> tuple[Tensor, LstmState]:
        """See LanguageModel.forward."""
        state = state or self.start(inputs.shape[0])
        below = self.dropout(self.embed(inputs.t()))  # (T, N, E)
        hidden, cell = [], []
        for k, layer in enumerate(self.layers):
            above, last_hidden, last_cell = layer(below, state.hidden[k : k + 1], state.cell[k : k + 1])
            hidden.append(last_hidden)
            cell.append(last_cell)
            below = self.dropout(above)  # (T, N, H)
        return self._project(below).transpose(0, 1), LstmState(torch.cat(hidden), torch.cat(cell))

    def start(self, count: int) -> LstmState:
        """See LanguageModel.start."""
        zeros = self.output.bias.new_zeros(self.config.layers, count, self.config.hidden_dim)
        return LstmState(zeros, zeros)

    def advance(self, state: LstmState, parents: Tensor, words: Tensor) -> tuple[Tensor, LstmState]:
        """See LanguageModel.advance."""
        distinct, inverse = torch.unique(words, return_inverse=True)
        extended, sibling = torch.unique_consecutive(parents, return_inverse=True)  # what siblings share is done once
        gates = functional.linear(self.embed(distinct), self.layers[0].ih, self.layers[0].bias)[inverse]  # (N, 4H)
        hidden, cell = [], []
        for k, layer in enumerate(self.layers):
            if k > 0:
                gates = functional.linear(hidden[-1], layer.ih, layer.bias)
            gates = gates + functional.linear(state.hidden[k][extended], layer.hh)[sibling]
            i, f, g, o = gates.chunk(4, dim=1)
            new_cell = torch.sigmoid(f) * state.cell[k][parents] + torch.sigmoid(i) * torch.tanh(g)
            cell.append(new_cell)
            hidden.append(torch.sigmoid(o) * torch.tanh(new_cell))
        return self._project(hidden[-1]), LstmState(torch.stack(hidden), torch.stack(cell))

    def row_parts(self, parameter: str) -> tuple[str, ...]:
        """Return the gates of a layer's matrix."""
        return GATES if parameter.startswith("layers.") else ()

    def _project(self, hidden: Tensor) -> Tensor:
        return hidden if self.projection is None else self.projection(hidden)
