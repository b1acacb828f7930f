# SPDX-License-Identifier: Apache-2.0
"""A model whose matrices are seen through their grids while it trains: `attach`, train, `quantized_units`.

Not here: the gradients (`rounding`) and the training loop (`fit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kaldi_mpq.precision import FLOAT_BITS, PrecisionMap, Unit
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import largest_code
from kaldi_mpq.quant.quantized import Quantized, quantize
from kaldi_mpq.quant.rounding import learned_scale, round_through
from kaldi_mpq.quant.scale import positive_scales, unit_scales

__all__ = ["FakeQuant", "attach", "level_gaps", "plain_tensors", "quantized_units", "see_through"]

_PLACE = "parametrizations."


class FakeQuant(nn.Module):
    """Parametrization of one matrix: its units at their widths, float ones as they are.

    Neighbouring units of one width are rounded together; a matrix whose units agree is rounded in one go.

    Args:
      weight: (R, C) starting values; scales start at the error-minimising ones.
      units: the units that tile the matrix, in order.
      precision: bits of each.
      granularity: which weights share a scale.
    """

    def __init__(
        self, weight: Tensor, units: Sequence[Unit], precision: PrecisionMap, granularity: Granularity
    ) -> None:
        super().__init__()
        runs = [(bits, list(run)) for bits, run in groupby(units, lambda unit: precision[unit.name])]
        self.runs = nn.ModuleList(_Run(weight, run, bits, granularity) for bits, run in runs)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the (R, C) matrix that the model computes with."""
        if len(self.runs) == 1:
            return self.runs[0](weight)
        return torch.cat([run(weight[run.start : run.stop]) for run in self.runs])

    @property
    def gap(self) -> float:
        """1 / L, the gap between levels for a largest weight of 1, on average over the rows; 0 for float ones."""
        rows = [(run.stop - run.start, run.gap) for run in self.runs]
        return sum(count * gap for count, gap in rows) / sum(count for count, _ in rows)

    def quantized(self, weight: Tensor) -> dict[str, Quantized]:
        """Return the units of ``weight`` on their grids, at the scales of now."""
        found = {}
        for run in self.runs:
            found.update(run.quantized(weight[run.start : run.stop]))
        return found


class _Run(nn.Module):
    """Neighbouring units of one width. Scales are one flat parameter, lest they be taken for a matrix of weights."""

    def __init__(self, weight: Tensor, units: Sequence[Unit], bits: int, granularity: Granularity) -> None:
        super().__init__()
        self.start, self.stop, self.columns = units[0].start, units[-1].stop, units[0].columns
        self.units, self.bits, self.granularity = list(units), bits, granularity
        self.gap = 0.0 if bits in FLOAT_BITS else 1.0 / largest_code(bits)
        if bits in FLOAT_BITS:
            return
        scales = [unit_scales(weight[unit.start : unit.stop], bits, granularity) for unit in units]
        counts = [granularity.counts(unit.stop - unit.start, unit.columns) for unit in units]
        flat = torch.cat([scale.flatten() for scale in scales]).to(weight.device)
        gain = (torch.cat([count.flatten() for count in counts]) * largest_code(bits)).rsqrt().to(weight.device)
        self.log_scale = nn.Parameter(positive_scales(flat).log())
        self.register_buffer("gain", gain, persistent=False)
        owner = torch.arange(len(units)).repeat_interleave(torch.tensor([unit.stop - unit.start for unit in units]))
        self.register_buffer("owner", owner.to(weight.device), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        if self.bits in FLOAT_BITS:
            return weight
        scale = learned_scale(self.log_scale, self.gain)
        return round_through(weight, self._expand(scale), self.bits)

    @torch.no_grad()
    def quantized(self, weight: Tensor) -> Iterator[tuple[str, Quantized]]:
        if self.bits in FLOAT_BITS:
            return
        sizes = [rows * columns for rows, columns in map(self._shape, self.units)]
        for unit, scale in zip(self.units, self.log_scale.exp().split(sizes)):
            rows = weight[unit.start - self.start : unit.stop - self.start]
            yield unit.name, quantize(rows, self.bits, self.granularity, scale.view(self._shape(unit)))

    def _shape(self, unit: Unit) -> tuple[int, int]:
        return self.granularity.shape(unit.stop - unit.start, unit.columns)

    def _expand(self, scale: Tensor) -> Tensor:
        """Return the flat scales as (R, 1) or (R, C)."""
        if self.granularity.kind == "tensor":
            return scale[self.owner][:, None]
        return self.granularity.expand(scale.view(self.stop - self.start, -1), self.columns)


def attach(model: nn.Module, units: Sequence[Unit], precision: PrecisionMap, granularity: Granularity) -> None:
    """Make ``model`` compute with quantized matrices, in place; make the optimiser after this.

    Wrap a training step in ``torch.nn.utils.parametrize.cached()``, or a tied embedding is rounded twice in it.

    Raises:
      PrecisionError: the precision map does not name exactly the units.
    """
    precision.check_covers(unit.name for unit in units)
    for parameter, group in groupby(units, lambda unit: unit.parameter):
        mine = list(group)
        if all(precision[unit.name] in FLOAT_BITS for unit in mine):
            continue
        see_through(model, parameter, FakeQuant(model.get_parameter(parameter).detach(), mine, precision, granularity))


def see_through(model: nn.Module, parameter: str, parametrization: nn.Module) -> None:
    """Make ``model`` compute with ``parametrization(weight)`` in the place of one of its matrices, in place."""
    path, _, name = parameter.rpartition(".")
    module = model.get_submodule(path)
    weight = getattr(module, name)
    holders = sum(held is weight for each in model.modules() for held in each._parameters.values())
    if holders != 1:
        raise ValueError(f"{parameter} is held by {holders} modules: one would go on without its grid")
    parametrize.register_parametrization(module, name, parametrization, unsafe=True)


def level_gaps(model: nn.Module) -> dict[str, float]:
    """Return, for every parameter of an attached model, the gap between the levels that it moves among.

    Scales have that of their weights; what has no grid has the mean of all weights that have one.
    """
    found: dict[str, float] = {}
    total = weights = 0.0
    for name, module in model.named_modules():
        if isinstance(module, FakeQuant):
            place = name.removesuffix(".0")  # layers.0.parametrizations.ih.0: torch may have several in a row
            original = model.get_parameter(f"{place}.original")
            found[f"{place}.original"] = module.gap
            found.update({f"{name}.runs.{k}.log_scale": run.gap for k, run in enumerate(module.runs) if run.gap})
            total += module.gap * original.numel()
            weights += original.numel()
    rest = total / weights if weights else 1.0
    return {name: found.get(name) or rest for name, _ in model.named_parameters()}


def quantized_units(model: nn.Module) -> dict[str, Quantized]:
    """Return the units of an attached model on their grids: name -> codes and scales."""
    found = {}
    for module in model.modules():
        for parametrizations in getattr(module, "parametrizations", {}).values():
            found.update(parametrizations[0].quantized(parametrizations.original.detach()))
    return found


def plain_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of an attached model under the names of the model before `attach`: float weights, no scales."""
    plain = {}
    for name, tensor in state.items():
        if _PLACE not in name:
            plain[name] = tensor
        elif name.endswith(".original"):
            plain[name.replace(_PLACE, "").removesuffix(".original")] = tensor
    return plain
