# SPDX-License-Identifier: Apache-2.0
"""Traces of the Hessian's diagonal blocks, one for each part of a model, from Hessian-vector products only.

    Tr(H_i) ~ 1/K sum_k z_k' H_i z_k,      z_k random, its entries independent, of mean 0 and variance 1           (1)
    Omega_i = Tr(H_i) ||f(Theta_i) - Theta_i||^2                                          as printed            (2)
    Omega_i = Tr(H_i) / |Theta_i| * ||f(Theta_i) - Theta_i||^2                            with --trace mean     (3)

H is that of the mean negative log-likelihood per token. z_k is 0 outside part i. It could fill all parts at once, for
products of different parts have mean 0; but their variance is that of the whole matrix H, most of which belongs to the
embedding, and drowns the traces of the layers (measured: standard errors 2 to 30 times larger). (3) is twice
what a second-order expansion expects of the loss if the rounding error points anywhere with equal probability: the mean
of e'He over directions of e is Tr(H) / |Theta| ||e||^2.

Not here: quantized weights (`prototypes`), and how bits follow (`allocate`).

Paper: Xu et al., TASLP 2021, section V-B (total trace, Gaussian z); Xu et al., ICASSP 2021, eq. (9) (mean trace);
Hutchinson, 1989. Rademacher z, +-1, have the lower variance: nothing of it comes from H's diagonal.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kaldi_mpq.errors import NumericalError
from kaldi_mpq.lm.batches import PADDING, Batch
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.perplexity import carry
from kaldi_mpq.search.units import Group

__all__ = ["Trace", "estimate_traces"]

log = logging.getLogger(__name__)
_LEAST_PROBES = 8  # before a standard error is believed


@dataclass(frozen=True)
class Trace:
    """A trace, its standard error, and the number of probes."""

    value: float
    standard_error: float
    probes: int

    @classmethod
    def of(cls, estimates: Sequence[float]) -> Trace:
        """Return the mean of z' H z over two or more probes."""
        error = float(np.std(estimates, ddof=1)) / math.sqrt(len(estimates))
        return cls(float(np.mean(estimates)), error, len(estimates))

    @property
    def safe(self) -> float:
        """The trace, or its standard error where it is below that: noise must not make a part seem harmless."""
        return max(self.value, self.standard_error)

    def settled(self, tolerance: float) -> bool:
        """Whether the standard error is at most ``tolerance`` of the trace."""
        return self.standard_error <= tolerance * abs(self.value)


def estimate_traces(
    model: LanguageModel,
    groups: Sequence[Group],
    batches: Sequence[Batch],
    *,
    probes: int,
    distribution: str = "rademacher",
    tolerance: float = 0.0,
    seed: int = 0,
    done: Mapping[str, Sequence[float]] | None = None,
    after_group: Callable[[dict[str, list[float]]], None] | None = None,
) -> dict[str, Trace]:
    """Return the trace of each group's block of the Hessian.

    Args:
      model: in evaluation mode; its gradient is kept as a graph, some ten times the logits of all batches.
      batches: the text; all of it counts in each probe.
      probes: K of each group, at most; fewer once its standard error is at most ``tolerance`` of its trace.
      distribution: ``rademacher`` or ``gaussian``.
      seed: of the probes.
      done: estimates of the groups that are through, from an interrupted run.
      after_group: is given the estimates of all groups so far, to save them.
    Raises:
      NumericalError: an estimate is not finite.
    """
    estimates = {name: list(values) for name, values in (done or {}).items()}
    with _twice_differentiable(model):
        curvature = _Curvature(model, batches)
        for number, group in enumerate(groups):
            if group.name in estimates:
                continue
            generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
            estimates[group.name] = found = []
            while len(found) < probes and not (len(found) >= _LEAST_PROBES and Trace.of(found).settled(tolerance)):
                found.append(curvature.along(group, generator, distribution))
                if not math.isfinite(found[-1]):
                    raise NumericalError(f"the Hessian of {group.name} is not finite", found=found[-1])
            trace = Trace.of(found)
            log.info("%s: trace %.4g +- %.2g, %d probes", group.name, trace.value, trace.standard_error, len(found))
            if after_group:
                after_group(estimates)
    return {group.name: Trace.of(estimates[group.name]) for group in groups}


class _Curvature:
    """The gradient of a model's mean loss on a text, kept so that it can be differentiated again and again."""

    def __init__(self, model: LanguageModel, batches: Sequence[Batch]) -> None:
        self.parameters = {name: each for name, each in model.named_parameters() if each.dim() == 2}
        matrices = list(self.parameters.values())
        tokens = sum(int((batch.targets != PADDING).sum()) for batch in batches)
        self.gradients: list[dict[str, Tensor]] = []
        state = None
        for each in batches:
            batch = each.to(matrices[0].device)
            hidden, state = model(batch.inputs, carry(model, state, batch.fresh))
            counted = batch.targets != PADDING
            logits = model.logits(hidden[counted])
            loss = functional.cross_entropy(logits, batch.targets[counted], reduction="sum") / tokens
            gradients = torch.autograd.grad(loss, matrices, create_graph=True)
            self.gradients.append(dict(zip(self.parameters, gradients)))

    def along(self, group: Group, generator: torch.Generator, distribution: str) -> float:
        """Return z' H z of a random z that is 0 outside the group."""
        names = list(dict.fromkeys(unit.parameter for unit in group.units))
        probe = {name: torch.zeros_like(self.parameters[name]) for name in names}
        for unit in group.units:
            rows = probe[unit.parameter][unit.start : unit.stop]
            rows.copy_(_random(rows.shape, generator, distribution))
        matrices = [self.parameters[name] for name in names]
        total = 0.0
        for gradients in self.gradients:
            mine = [gradients[name] for name in names]
            products = torch.autograd.grad(mine, matrices, list(probe.values()), retain_graph=True)
            total += sum(float((z * hz).sum(dtype=torch.float64)) for z, hz in zip(probe.values(), products))
        return total


def _random(shape: torch.Size, generator: torch.Generator, distribution: str) -> Tensor:
    """Return random numbers of mean 0 and variance 1; drawn on the CPU, so that every device has the same."""
    if distribution == "gaussian":
        return torch.randn(shape, generator=generator)
    return torch.randint(0, 2, shape, generator=generator).mul_(2).sub_(1).to(torch.float32)


@contextmanager
def _twice_differentiable(model: LanguageModel) -> Iterator[None]:
    """Avoid cuDNN's LSTM in the block: it has no second derivative; that of the CPU and torch's own on CUDA have."""
    if model.output.bias.device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=False):
        yield
