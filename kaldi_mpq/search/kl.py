# SPDX-License-Identifier: Apache-2.0
"""How far a language model's distribution moves when one part of it is quantized and the rest is not.

    Omega_i = 1/T sum_t KL(P(. | h_t) || P_i(. | h_t)),     P_i: the model with part i at n_i bits            (1)
    printed:  1/T sum_t P(w_t | h_t) ln(P(w_t | h_t) / P_i(w_t | h_t)),     w_t: the words of the text        (2)

(1) sums over the vocabulary at every position, which makes it a divergence: >= 0, and 0 only where nothing moved.
Printed is (2), the term of (1) that belongs to the word that was spoken; it can be negative. Both are computed.

With d_v = l'_v - l_v - sum_u P_u (l'_u - l_u), the change of the logits without what moves all of them, (1) at a
position is ln(1 + sum_v P_v (exp(d_v) - 1 - d_v)): a sum of small numbers, where 8 bits move a logit by 0.001, and not
the small difference of large ones that the definition is in single precision.

Not here: how bits follow from it (`allocate`).

Paper: Xu et al., TASLP 2021, section V-A, the equation of Omega_KL (sum over layers; the mean over the text here).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kaldi_mpq.lm.batches import Batch
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.pack.prototypes import swapped
from kaldi_mpq.precision import Unit
from kaldi_mpq.search.prefix import Recorder

__all__ = ["Divergence", "DivergenceMeter"]

_KEPT_BYTES = 400_000_000  # of the float model's logits and probabilities; more are computed again for every unit
_BLOCK = 64  # positions at a time: their logits stay in the processor's cache


@dataclass(frozen=True)
class Divergence:
    """(1) and (2) of the module, in nats per token."""

    vocabulary: float
    word: float


class DivergenceMeter:
    """A text as the float model sees it, and the divergence from that of the model with some weights changed.

    Args:
      model: the float model, in evaluation mode; is the same again after each measurement.
      batches: the text.
      prefixes: remember the inputs of the layers (False: run the whole model each time, to check and to compare).
    """

    def __init__(self, model: LanguageModel, batches: Iterable[Batch], *, prefixes: bool = True) -> None:
        self.model, self.prefixes = model, prefixes
        self.recorder = Recorder(model)
        self.batches = list(batches)
        self.recordings = self.recorder.record(self.batches)
        self._float_hidden = [recording.hidden for recording in self.recordings]
        self.tokens = sum(len(recording.targets) for recording in self.recordings)
        keep = 8 * self.tokens * model.config.vocab_size <= _KEPT_BYTES
        self._float_layer = (model.output_weight.detach().clone(), model.output.bias.detach())
        self._kept = [self._blocks(hidden) for hidden in self._float_hidden] if keep else None

    @contextmanager
    def around(self, values: Mapping[Unit, Tensor]) -> Iterator[None]:
        """Give these units these weights in the block, so that what is measured there changes others beside them."""
        float_recordings = self.recordings
        with swapped(self.model, values):
            self.recordings = self.recorder.record(self.batches)
            try:
                yield
            finally:
                self.recordings = float_recordings

    @torch.no_grad()
    def measure(self, values: Mapping[Unit, Tensor]) -> Divergence:
        """Return the divergence when these units have these weights."""
        first = self.recorder.first_changed(unit.parameter for unit in values) if self.prefixes else -1
        total = torch.zeros(2, dtype=torch.float64)
        with swapped(self.model, values):
            for number, recording in enumerate(self.recordings):
                hidden = self.recorder.hidden(recording, first)
                blocks = self._kept[number] if self._kept is not None else self._blocks(self._float_hidden[number])
                for part, targets, (p, before) in zip(hidden.split(_BLOCK), recording.targets.split(_BLOCK), blocks):
                    total += _divergences(p, before, self.model.logits(part), targets).cpu()
        vocabulary, word = (total / self.tokens).tolist()
        return Divergence(vocabulary, word)

    @torch.no_grad()
    def _blocks(self, hidden: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the float model's probabilities and logits of a batch, (block, V) at a time."""
        logits = [functional.linear(part, *self._float_layer) for part in hidden.split(_BLOCK)]
        return [(torch.softmax(part, dim=1), part) for part in logits]


def _divergences(p: Tensor, before: Tensor, after: Tensor, targets: Tensor) -> Tensor:
    """Return the sums over positions of (1) and (2), float64; ``after`` is overwritten.

    Args:
      p, before: (M, V) probabilities and logits of the float model.
      after: (M, V) logits of the changed one.
      targets: (M,) words of the text.
    """
    change = after.sub_(before)
    own = change.gather(1, targets[:, None]).squeeze(1)
    mean = _row_dots(p, change)
    change.sub_(mean[:, None])
    kl = torch.log1p(_row_dots(p, torch.expm1(change).sub_(change)))
    beyond = ~torch.isfinite(kl)
    if bool(beyond.any()):  # exp leaves its range: the definition, where no digits are lost
        kl[beyond] = torch.logsumexp(change[beyond] + p[beyond].log(), dim=1)  # sum_v P_v d_v = 0
    word = p.gather(1, targets[:, None]).squeeze(1) * (kl + mean - own)
    return torch.stack([kl.sum(dtype=torch.float64), word.sum(dtype=torch.float64)])


def _row_dots(a: Tensor, b: Tensor) -> Tensor:
    """Return (M,) dot products of the rows of two (M, V) matrices."""
    return (a[:, None, :] @ b[:, :, None]).flatten()
