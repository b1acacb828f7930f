# SPDX-License-Identifier: Apache-2.0
"""The acoustic model: a factorised time-delay network on filter banks, an output every third frame.

Paper: Povey et al., "Semi-orthogonal low-rank matrix factorization for deep neural networks", 2018: layers of section 4
(kernel 2 in both factors, skip connections of 0.66), the constraint of eq. (1) to (4) with a floating scale.

Not here: its training (`train_am`), and the graphs of the objective (`lfmmi`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from phones import NUM_PDFS
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import ModelFileError

__all__ = ["SUBSAMPLING", "Tdnnf", "load_weights", "save_weights"]

SUBSAMPLING = 3
NUM_FILTERS = 40
SKIP = 0.66


class FactorisedLayer(nn.Module):
    """Two convolutions with a bottleneck between, ReLU, batch norm, and the input added."""

    def __init__(self, dim: int, bottleneck: int, dilation: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(dim, bottleneck, 2, dilation=dilation, bias=False)
        self.affine = nn.Conv1d(bottleneck, dim, 2, dilation=dilation)
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, dim, T) for (N, dim, T)."""
        padded = F.pad(x, (self.dilation, self.dilation), mode="replicate")
        return SKIP * x + self.norm(F.relu(self.affine(self.linear(padded))))


class Tdnnf(nn.Module):
    """Log-probabilities of pdfs, normalised in each frame; LF-MMI does not see that normalisation."""

    def __init__(self, dim: int = 256, bottleneck: int = 80, layers: int = 7, front: int = 128) -> None:
        super().__init__()
        self.first = nn.Conv1d(NUM_FILTERS, front, 5, padding=2)
        self.first_norm = nn.BatchNorm1d(front, affine=False)
        self.early = FactorisedLayer(front, front // 2, 1)
        self.subsample = nn.Conv1d(front, dim, SUBSAMPLING, stride=SUBSAMPLING)
        self.subsample_norm = nn.BatchNorm1d(dim, affine=False)
        dilations = [1, 1, 2, 3, 3, 3, 3, 3, 3][:layers]
        self.layers = nn.ModuleList(FactorisedLayer(dim, bottleneck, dilation) for dilation in dilations)
        self.output = nn.Conv1d(dim, NUM_PDFS, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, ceil(T / 3), pdfs) log-probabilities.

        Args:
          features: (N, T, filters), the mean of each utterance taken off.
        """
        x = features.transpose(1, 2)
        x = self.first_norm(F.relu(self.first(x)))
        x = self.early(x)
        x = F.pad(x, (0, -x.shape[2] % SUBSAMPLING), mode="replicate")
        x = self.subsample_norm(F.relu(self.subsample(x)))
        for layer in self.layers:
            x = layer(x)
        return F.log_softmax(self.output(x), dim=1).transpose(1, 2)

    @torch.no_grad()
    def constrain_(self) -> None:
        """Move the first factor of each layer a step towards a semi-orthogonal matrix, times a scale of its own."""
        for layer in [self.early, *self.layers]:
            M = layer.linear.weight.flatten(1)
            P = M @ M.T
            alpha_squared = (P * P.T).sum() / P.diagonal().sum()
            Q = P - alpha_squared * torch.eye(len(P))
            layer.linear.weight -= (0.5 / alpha_squared * (Q @ M)).view_as(layer.linear.weight)


def save_weights(model: Tdnnf, path: Path, made_by: dict[str, str]) -> None:
    """Write a model in half precision, with what made it."""
    tensors = {name: value.half() for name, value in model.state_dict().items() if value.is_floating_point()}
    with writing(path) as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, metadata=made_by)


def load_weights(path: Path) -> Tdnnf:
    """Return a model ready to be used.

    Raises:
      MissingInputError: there is no such file.
      ModelFileError: it is damaged, or not of this architecture.
    """
    require([path], hint="train the acoustic model: run.sh --train-am true")
    model = Tdnnf()
    try:
        stored = {name: value.float() for name, value in load_file(path).items()}
    except Exception as error:  # safetensors raises a class of its own making
        raise ModelFileError("not a whole safetensors file", where=path, found=error) from error
    counts = {name: value for name, value in model.state_dict().items() if not value.is_floating_point()}
    try:
        model.load_state_dict({**counts, **stored})
    except RuntimeError as error:
        raise ModelFileError("weights of another network", where=path, found=str(error).splitlines()[0]) from error
    return model.eval()
