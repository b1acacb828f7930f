# SPDX-License-Identifier: Apache-2.0
"""LSTM language model: embedding, LSTM layers, an output layer tied to the embedding by choice.

Not here: training. The matrices are plain parameters, one per layer and direction of flow, whose rows are the gates
input, forget, cell, output, so that quantization can give each gate a width of its own.

Paper: Sundermeyer, Schlueter and Ney, "LSTM neural networks for language modeling", 2012, eq. (1)-(6), without
peepholes but in models from Kaldi's nnet3 (`kaldi_rnnlm`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kaldi_mpq.lm.activation_grid import activation_grid
from kaldi_mpq.lm.lstm_step import step_histories
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
    """One layer: (4H, I) weights from below, (4H, H) from the step before, (4H,) bias; gates in the order of GATES.

    With peepholes also (3H,) weights of the cells before (input and forget gate) and after (output gate) the step.
    ``see`` is how matrices see hidden vectors: as they are, or on a grid.
    """

    def __init__(self, inputs: int, cells: int, peephole: bool = False, activation_bits: int = 0) -> None:
        super().__init__()
        bound = cells**-0.5
        self.ih = nn.Parameter(torch.empty(4 * cells, inputs).uniform_(-bound, bound))
        self.hh = nn.Parameter(torch.empty(4 * cells, cells).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(4 * cells))
        self.peephole = nn.Parameter(torch.zeros(3 * cells)) if peephole else None  # a vector: never quantized
        self.see = activation_grid(activation_bits, clip=1.0)  # tanh leaves nothing beyond
        with torch.no_grad():
            self.bias[cells : 2 * cells] = 1.0  # remember at first

    def forward(self, below: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (T, N, H) outputs and the last hidden and cell vectors, (1, N, H), of (T, N, I) inputs."""
        if self.peephole is not None or not isinstance(self.see, nn.Identity):
            return self._forward_steps(below, hidden[0], cell[0])
        weights = [self.ih, self.hh, self.bias, torch.zeros_like(self.bias)]  # torch has two biases, whose sum counts
        return torch._VF.lstm(below, (hidden, cell), weights, True, 1, 0.0, self.training, False, False)

    def step(self, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new hidden and cell vectors, (N, H), given (N, 4H) inputs of the gates and the cells."""
        i, f, g, o = gates.chunk(4, dim=1)
        if self.peephole is not None:
            on_input, on_forget, on_output = self.peephole.chunk(3)
            i, f = i + on_input * cell, f + on_forget * cell
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        if self.peephole is not None:
            o = o + on_output * cell
        return torch.sigmoid(o) * torch.tanh(cell), cell

    def _forward_steps(self, below: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Do what `forward` does word by word, because torch's LSTM has no peepholes and no grids."""
        outputs = []
        for gates in functional.linear(below, self.ih, self.bias):
            hidden, cell = self.step(gates + functional.linear(self.see(hidden), self.hh), cell)
            outputs.append(hidden)
        return torch.stack(outputs), hidden[None], cell[None]


class LstmLm(LanguageModel):
    """See the module; hidden vectors are (N, T, E), projected from H where that differs from E or is asked for."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        embedding, cells = config.embedding_dim, config.hidden_dim
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        inputs = [embedding, *[cells] * (config.layers - 1)]
        bits = config.activation_bits
        self.see = activation_grid(bits)
        self.layers = nn.ModuleList(LstmLayer(width, cells, config.peephole, bits) for width in inputs)
        self.projection = nn.Linear(cells, embedding, bias=False) if cells != embedding or config.projected else None

    def forward(self, inputs: Tensor, state: LstmState | None = None) -> tuple[Tensor, LstmState]:
        """See LanguageModel.forward."""
        state = state or self.start(inputs.shape[0])
        below = self.dropout(self.see(self.embed(inputs.t())))  # (T, N, E)
        hidden, cell = [], []
        for k, layer in enumerate(self.layers):
            above, last_hidden, last_cell = layer(below, state.hidden[k : k + 1], state.cell[k : k + 1])
            hidden.append(last_hidden)
            cell.append(last_cell)
            below = self.dropout(self._above(k, above))  # (T, N, H)
        return self._project(below).transpose(0, 1), LstmState(torch.cat(hidden), torch.cat(cell))

    def start(self, count: int) -> LstmState:
        """See LanguageModel.start."""
        zeros = self.output.bias.new_zeros(self.config.layers, count, self.config.hidden_dim)
        return LstmState(zeros, zeros)

    def advance(self, state: LstmState, parents: Tensor, words: Tensor) -> tuple[Tensor, LstmState]:
        """See LanguageModel.advance."""
        distinct, which = torch.unique(words, return_inverse=True)
        extended, sibling = torch.unique(parents, return_inverse=True)  # what siblings share is done once
        inputs, every = self.see(self.embed(distinct)), torch.arange(len(words), device=words.device)
        hidden, cell = [], []
        for k, layer in enumerate(self.layers):
            below = functional.linear(inputs, layer.ih, layer.bias), which  # (., 4H) and each history's row of it
            before = functional.linear(layer.see(state.hidden[k][extended]), layer.hh), sibling
            new_hidden, new_cell = step_histories(layer, below, before, (state.cell[k], parents))
            hidden.append(new_hidden)
            cell.append(new_cell)
            inputs, which = self._above(k, new_hidden), every
        return self._project(hidden[-1]), LstmState(torch.stack(hidden), torch.stack(cell))

    def row_parts(self, parameter: str) -> tuple[str, ...]:
        """Return the gates of a layer's matrix."""
        return GATES if parameter.startswith("layers.") else ()

    def _above(self, k: int, hidden: Tensor) -> Tensor:
        """Return what is above layer ``k``: hidden vectors as the next layer sees them; the last ones as they are."""
        return hidden if k + 1 == len(self.layers) else self.layers[k + 1].see(hidden)

    def _project(self, hidden: Tensor) -> Tensor:
        return hidden if self.projection is None else self.projection(hidden)
