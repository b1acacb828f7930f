# SPDX-License-Identifier: Apache-2.0
"""A quantized unit as integer codes and scales, and a model's tensors with their units put on the grid.

What is computed here is what `pack` stores: unpacking a model gives these values bit for bit. Not here: packed bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import MpqError
from kaldi_mpq.precision import FLOAT_BITS, PrecisionMap, Unit
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import to_codes, to_values
from kaldi_mpq.quant.scale import unit_scales

__all__ = [
    "Quantized",
    "leftover_dtype",
    "load_quantized",
    "quantize",
    "quantize_units",
    "save_quantized",
    "stored_scales",
    "tensors_on_grid",
]

_HALF_COST = (
    1e-3  # largest relative change of a scale that float16 may cost; its own rounding is at most 2^-11 = 4.9e-4
)


@dataclass(frozen=True)
class Quantized:
    """A unit on its grid.

    Args:
      bits: 1, 2, 4 or 8.
      codes: (rows, columns) int8.
      scales: float16 or float32, in the shape that the granularity gives; finite, >= 0.
      granularity: which weights share a scale.
    """

    bits: int
    codes: Tensor
    scales: Tensor
    granularity: Granularity

    def values(self) -> Tensor:
        """Return the (rows, columns) float32 weights."""
        return to_values(self.codes, self.granularity.expand(self.scales, self.codes.shape[1]))


def quantize(matrix: Tensor, bits: int, granularity: Granularity, scales: Tensor | None = None) -> Quantized:
    """Return a unit on the grid of ``bits``.

    Args:
      matrix: (rows, columns) weights.
      scales: float32 in the granularity's shape; default: the error-minimising ones.
    """
    matrix = matrix.detach().to(torch.float32)
    scales = unit_scales(matrix, bits, granularity) if scales is None else scales.detach().to(torch.float32)
    codes = to_codes(matrix, granularity.expand(scales, matrix.shape[1]), bits)
    return Quantized(bits, codes, stored_scales(scales), granularity)


def quantize_units(
    tensors: Mapping[str, Tensor], units: Iterable[Unit], precision: PrecisionMap, granularity: Granularity
) -> dict[str, Quantized]:
    """Return every unit of 1 to 8 bits on its grid, rounded with error-minimising scales.

    Args:
      tensors: the model's tensors by name.
    """
    chosen = [unit for unit in units if precision[unit.name] not in FLOAT_BITS]
    return {
        unit.name: quantize(tensors[unit.parameter][unit.start : unit.stop], precision[unit.name], granularity)
        for unit in chosen
    }


def stored_scales(scales: Tensor) -> Tensor:
    """Return scales as they are stored: float16 where it changes none by more than 1e-3 of itself, else float32."""
    half = scales.to(torch.float16)
    return half if bool(((half.to(scales.dtype) - scales).abs() <= _HALF_COST * scales.abs()).all()) else scales


def leftover_dtype(precision: PrecisionMap) -> torch.dtype:
    """Return how what is in no unit (biases, layer norms) is stored: float32 only in a model that is all float32."""
    return torch.float32 if all(bits == 32 for bits in precision.bits.values()) else torch.float16


def tensors_on_grid(
    tensors: Mapping[str, Tensor], units: Iterable[Unit], precision: PrecisionMap, quantized: Mapping[str, Quantized]
) -> dict[str, Tensor]:
    """Return all tensors of a model in float32 as they will be after packing: units on their grids, the rest rounded.

    Raises:
      MpqError: a weight is too large for float16.
    """
    units = list(units)
    matrices = {unit.parameter for unit in units}
    rest = leftover_dtype(precision)
    result = {
        name: tensor.detach().to(torch.float32).clone() if name in matrices else _through(name, tensor.detach(), rest)
        for name, tensor in tensors.items()
    }
    for unit in units:
        rows = result[unit.parameter][unit.start : unit.stop]
        if unit.name in quantized:
            rows.copy_(quantized[unit.name].values())
        elif precision[unit.name] == 16:
            rows.copy_(_through(unit.name, rows, torch.float16))
    return result


def save_quantized(path: str | Path, quantized: Mapping[str, Quantized]) -> None:
    """Write codes (one byte each) and scales of every unit; `pack` makes the small file from it."""
    tensors = {}
    for name, unit in quantized.items():
        tensors[f"{name}.codes"] = unit.codes.cpu().contiguous()
        tensors[f"{name}.scales"] = unit.scales.cpu().contiguous()
    about = {name: {"bits": unit.bits, **asdict(unit.granularity)} for name, unit in quantized.items()}
    with writing(path) as temporary:
        save_file(tensors, temporary, metadata={"units": json.dumps(about)})


def load_quantized(path: str | Path) -> dict[str, Quantized]:
    """Return what `save_quantized` wrote.

    Raises:
      MissingInputError, MpqError: no such file, or a damaged one.
    """
    require([path], hint="mpq fit makes it")
    try:
        with safe_open(path, framework="pt") as stream:
            about = json.loads(stream.metadata()["units"])
            return {
                name: Quantized(
                    bits=entry.pop("bits"),
                    codes=stream.get_tensor(f"{name}.codes"),
                    scales=stream.get_tensor(f"{name}.scales"),
                    granularity=Granularity(**entry),
                )
                for name, entry in about.items()
            }
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise MpqError("damaged", where=path, found=str(error), hint="make it again with mpq fit") from error


def _through(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a float32 tensor rounded to the values that ``dtype`` holds."""
    rounded = tensor.to(dtype).to(torch.float32)
    if bool((torch.isinf(rounded) & torch.isfinite(tensor)).any()):
        raise MpqError(f"{name} does not fit float16", found=float(tensor.abs().max()), hint="give it 32 bits")
    return rounded
