# SPDX-License-Identifier: Apache-2.0
"""The peer to compare with: DiffQ of its own package, which chooses bits for groups of weights and trains them at once.

The package quantizes, packs and counts; here are the training loop, the budget and the files. What comes out is no
packed file of ours: ``model.diffq`` is the package's packed state, pickled, whose bytes on disk are what counts.
Not here: a precision map; bits differ from each group of ``--diffq-group`` weights to the next.

Paper: Defossez, Adi and Synnaeve, "Differentiable model compression via pseudo quantization noise", 2021.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kaldi_mpq.errors import ConfigError, PrecisionError
from kaldi_mpq.lm.batches import Batch
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.perplexity import Perplexity
from kaldi_mpq.lm.train import Trainer
from kaldi_mpq.search.problem import Found, Problem
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.search.step_log import StepLog
from kaldi_mpq.search.training import loop_settings, trainable_copy
from kaldi_mpq.text.corpus import Corpus

__all__ = ["DiffqResult", "require_diffq", "search_diffq"]

_RAMP = 0.5  # part of the training in which the target comes down to the budget, as in `size_price`
_WEIGHINGS = 20  # in a training: packing takes as long as some steps
_MOST_BITS = 14  # the default is 15, but the package packs no more than 14 bits (0.2.4)
_CLOSED = -30.0  # a logit at which bits are the fewest


@dataclass(frozen=True)
class DiffqResult:
    """The package's packed state, pickled, and the model's tensors as it restores them."""

    packed: bytes
    tensors: Mapping[str, Tensor]


def require_diffq() -> Any:
    """Return the package.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import diffq
    except ImportError as error:
        raise ConfigError("--method diffq needs the package diffq", hint="pip install diffq==0.2.4") from error
    return diffq


def search_diffq(
    problem: Problem, settings: SearchSettings, train: Corpus, dev: Corpus, made_with: dict[str, Any]
) -> tuple[Found, DiffqResult]:
    """Return what was trained within the budget, and its packed state.

    Raises:
      ConfigError: the package is not installed, a matrix has no groups of that size, a checkpoint of other settings.
      PrecisionError: the budget is below what the package can reach.
    """
    require_diffq()
    torch.manual_seed(settings.seed)
    objective = DiffqObjective(trainable_copy(problem.model, settings.dropout), problem.budget, settings)
    least = objective.least_bytes()
    if least > problem.budget:
        raise PrecisionError(
            "the budget is too small for DiffQ",
            expected=f"at least {least} bytes",
            found=f"{problem.budget} bytes",
            hint="--diffq-min-bits 1" if settings.diffq_min_bits > 1 else None,
        )
    trainer = Trainer(objective, loop_settings(settings), train, dev, settings.out / "diffq")
    objective.total_steps = trainer.total_steps
    trainer.run({**made_with, "stage": "diffq"})
    objective.cpu()
    shift = objective.fit_budget()
    packed = objective.packed()
    mean_bits = objective.mean_bits()
    details = {"price": float(objective.price), "shift": shift, "nominal_mean_bits": mean_bits}
    return Found({}, details, size=len(packed)), DiffqResult(packed, objective.restored())


class DiffqObjective(Objective):
    """Cross entropy under the package's pseudo quantization noise, and the price of the size.

    g = size / target - 1 is added as lambda g + g^2 / 2, lambda <- lambda + rate g, as in `size_price`; the package's
    own way, a fixed penalty, meets no budget.

    Args:
      model: the float model, which is trained.
      budget: bytes of the packed state.
      settings: `diffq_...` of the search.
    """

    keeps_last = True

    def __init__(self, model: LanguageModel, budget: int, settings: SearchSettings) -> None:
        super().__init__(model)
        self.budget, self.rate = budget, settings.price_rate
        self.total_steps = 1
        self.log = StepLog(settings.out / "architecture.jsonl")
        self.register_buffer("price", torch.tensor(settings.price, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        parameters = dict(model.named_parameters())
        matrices = [parameter for parameter in parameters.values() if parameter.dim() == 2]
        group = math.gcd(settings.diffq_group, *(matrix.numel() for matrix in matrices))
        if group < settings.diffq_group:
            raise ConfigError("a matrix has no groups of that size", expected=f"diffq_group {group}",
                              found=settings.diffq_group)  # fmt: skip
        wanted = 8 * budget / sum(matrix.numel() for matrix in matrices)
        init_bits = min(max(wanted + 1.0, settings.diffq_min_bits + 0.5), _MOST_BITS - 1.0)
        self.quantizer = require_diffq().DiffQuantizer(
            self,
            min_size=0.0,
            float16=True,  # of vectors, as in a packed file
            group_size=group,
            min_bits=settings.diffq_min_bits,
            max_bits=_MOST_BITS,
            init_bits=init_bits,
            exclude=[f"*{name}" for name, parameter in parameters.items() if parameter.dim() != 2],
        )
        self.quantizer.no_optimizer()  # the trainer's optimiser has the logits as parameters of their own
        for entry in self.quantizer._qparams:
            entry.logit.rate_factor = settings.diffq_rate / settings.learning_rate
        self.register_buffer("overhead", torch.zeros((), dtype=torch.float64))
        self._weigh()
        self.start = self._size_bytes().item()

    def forward(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        """See Objective.forward; the package's hooks put the noise in."""
        loss, state = super().forward(batch, state)
        excess = self._excess()
        return loss + (self.price * excess + 0.5 * excess.square()).to(loss.dtype), state

    def after_step(self, step: int) -> None:
        """Follow the budget with the price, and log."""
        self.steps.fill_(step)
        with torch.no_grad():
            self.price += self.rate * self._excess().clamp(-1.0, 1.0)
        if step % max(1, self.total_steps // _WEIGHINGS) == 0:
            self._weigh()
        if self.log.is_due(step, self.total_steps):
            size = round(self._size_bytes().item())
            entry = {"expected_bytes": size, "price": float(self.price), "bits": self.mean_bits()}
            self.log.write("diffq", step, entry)

    @torch.no_grad()
    def validate(self, corpus: Corpus, batch_tokens: int, context: str) -> Perplexity:
        """Return the perplexity of the quantized model."""
        with self.quantizer.enter_quantize():
            return super().validate(corpus, batch_tokens, context)

    def least_bytes(self) -> int:
        """Return the size of the packed state with the fewest bits everywhere."""
        kept = [logit.detach().clone() for logit in self._logits()]
        self._set([torch.full_like(logit, _CLOSED) for logit in kept])
        size = len(self.packed())
        self._set(kept)
        return size

    def fit_budget(self) -> float:
        """Lower all logits alike until the packed state is within the budget; return by how much."""
        kept = [logit.detach().clone() for logit in self._logits()]
        low, high = 0.0, 0.0  # a shift that is too little, one that is enough
        while len(self.packed()) > self.budget:
            low, high = high, 2 * high + 0.05
            self._set([logit - high for logit in kept])
        while high - low > 1e-3:
            middle = (low + high) / 2
            self._set([logit - middle for logit in kept])
            if len(self.packed()) > self.budget:
                low = middle
            else:
                high = middle
        self._set([logit - high for logit in kept])
        return high

    def packed(self) -> bytes:
        """Return the package's packed state, pickled."""
        return pickle.dumps(self.quantizer.get_quantized_state(packed=True), protocol=4)

    def restored(self) -> dict[str, Tensor]:
        """Return the model's tensors, quantized, under its own names."""
        with self.quantizer.enter_quantize():
            tensors = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        halves = {name for name, parameter in self.model.named_parameters() if parameter.dim() != 2}
        return {
            name: tensor.half().float() if name in halves else tensor
            for name, tensor in tensors.items()
            if not name.endswith("_diffq")
        }

    @torch.no_grad()
    def mean_bits(self) -> float:
        """Return the mean bits per weight of the matrices."""
        bits = [self.quantizer._get_bits(logit).mean() * logit.numel() for logit in self._logits()]
        return float(sum(bits) / sum(logit.numel() for logit in self._logits()))

    def _size_bytes(self) -> Tensor:
        return self.quantizer.model_size().double() * 2**20 + self.overhead

    def _weigh(self) -> None:
        """Take the bytes of the packed state beyond the package's count: blocks are padded for each width used."""
        self.overhead.fill_(len(self.packed()) - self.quantizer.true_model_size() * 2**20)

    def _excess(self) -> Tensor:
        done = min(int(self.steps) / (_RAMP * max(self.total_steps, 1)), 1.0)
        return self._size_bytes() / (self.start + done * (self.budget - self.start)) - 1.0

    def _logits(self) -> list[Tensor]:
        return [entry.logit for entry in self.quantizer._qparams if entry.other is None]

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for logit, value in zip(self._logits(), values):
            logit.copy_(value)
