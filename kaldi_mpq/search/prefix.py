# SPDX-License-Identifier: Apache-2.0
"""A model run again from the layer whose weights have changed: what comes before it is remembered from the first run.

Not here: what the outputs are compared by (`kl`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kaldi_mpq.lm.batches import PADDING, Batch
from kaldi_mpq.lm.lstm import LstmLm
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.perplexity import carry

__all__ = ["Recorder", "Recording"]


@dataclass(frozen=True)
class Recording:
    """One batch as the model has computed it.

    Args:
      batch: its inputs.
      state: what it started from.
      arguments: of each step, the first of them what the step before has returned.
      hidden: (M, E) hidden vectors of the counted positions.
      targets: (M,) words that follow.
    """

    batch: Batch
    state: Any
    arguments: list[tuple[Any, ...]]
    hidden: Tensor
    targets: Tensor


class Recorder:
    """The layers of a model in order, and batches run through them.

    Args:
      model: in evaluation mode; its weights may change between calls.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.time_first = isinstance(model, LstmLm)
        named = dict(model.named_children())
        layers = [(f"{name}.{i}", layer) for name in ("layers", "blocks") for i, layer in _numbered(named.get(name))]
        self.steps = layers + [(name, named[name]) for name in ("projection", "norm") if name in named]
        self.names = [name for name, _ in self.steps]

    @torch.no_grad()
    def record(self, batches: Iterable[Batch]) -> list[Recording]:
        """Return the batches as they are computed now; a state that is carried over is that of this run for ever."""
        found = []
        state = None
        device = self.model.output.bias.device
        for each in batches:
            batch = each.to(device)
            before = carry(self.model, state, batch.fresh)
            arguments: list[tuple[Any, ...]] = []
            hooks = [
                module.register_forward_pre_hook(lambda _, given, kept=arguments: kept.append(given))
                for _, module in self.steps
            ]
            try:
                hidden, state = self.model(batch.inputs, before)
            finally:
                for hook in hooks:
                    hook.remove()
            counted = batch.targets != PADDING
            found.append(Recording(batch, before, arguments, hidden[counted], batch.targets[counted]))
        return found

    def first_changed(self, parameters: Iterable[str]) -> int:
        """Return the number of the first step that one of the parameters matters to.

        -1: from the embedding on; the number of steps: only the output layer.
        """
        return min(self._step_of(parameter) for parameter in parameters)

    @torch.no_grad()
    def hidden(self, recording: Recording, first: int) -> Tensor:
        """Return the (M, E) hidden vectors of a recorded batch under the weights of now.

        Args:
          first: nothing that comes before this step may have changed.
        """
        if first >= len(self.steps):
            return recording.hidden
        counted = recording.batch.targets != PADDING
        if first < 0:
            return self.model(recording.batch.inputs, recording.state)[0][counted]
        x = recording.arguments[first][0]
        for (_, module), given in zip(self.steps[first:], recording.arguments[first:]):
            result = module(x, *given[1:])
            x = result[0] if isinstance(result, tuple) else result
        return (x.transpose(0, 1) if self.time_first else x)[counted]

    def _step_of(self, parameter: str) -> int:
        if parameter == "output.weight":
            return len(self.steps)
        for number, name in enumerate(self.names):
            if parameter.startswith(name + "."):
                return number
        return -1


def _numbered(layers: nn.Module | None) -> Iterable[tuple[str, nn.Module]]:
    return layers.named_children() if layers is not None else ()
