# SPDX-License-Identifier: Apache-2.0
"""A packed model back as a language model, its weights in float32. Not here: models that stay packed (`packed_load`).

Everything that the file says is checked against the architecture that it names before a weight is used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kaldi_mpq.errors import ConfigError, ModelFileError, PrecisionError
from kaldi_mpq.lm.checkpoint import check_finite, load_weights
from kaldi_mpq.lm.model import LanguageModel, ModelConfig, build
from kaldi_mpq.pack.bits import unpack_codes
from kaldi_mpq.pack.format import Contents, read_file
from kaldi_mpq.pack.units import matching_units
from kaldi_mpq.precision import FLOAT_BITS, PrecisionMap, Unit
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.quantized import Quantized, leftover_dtype

__all__ = ["StoredTensors", "load_packed", "read_precision", "unpacked_tensors"]


def load_packed(path: str | Path) -> LanguageModel:
    """Return the model in a file that ``mpq pack`` wrote, dequantized, in evaluation mode.

    Raises:
      MissingInputError: no such file.
      ModelFileError: damaged, of another version, not fitting its own configuration, or holding NaN or infinity.
    """
    contents = read_file(path)
    precision = read_precision(contents, path)
    try:
        config = ModelConfig.from_dict(contents.header["config"])
        model = build(config)
        units = matching_units(model, precision)
    except (KeyError, TypeError, ValueError, RuntimeError, ConfigError, PrecisionError) as error:
        raise ModelFileError("the header does not describe a model", where=path, found=str(error)) from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    load_weights(model, unpacked_tensors(contents, expected, units, precision, path), where=path)
    return model.eval()


def read_precision(contents: Contents, path: str | Path) -> PrecisionMap:
    """Return the precision map in a file's header.

    Raises:
      ModelFileError: there is none.
    """
    try:
        return PrecisionMap(dict(contents.header["precision"]))
    except (KeyError, TypeError, ValueError, PrecisionError) as error:
        raise ModelFileError("no precision map in the header", where=path, found=str(error)) from error


def unpacked_tensors(
    contents: Contents,
    expected: dict[str, tuple[int, ...]],
    units: list[Unit],
    precision: PrecisionMap,
    path: str | Path,
) -> dict[str, Tensor]:
    """Return all tensors of the model in float32.

    Args:
      expected: shape of each tensor of the model.
    Raises:
      ModelFileError: a tensor is missing, left over, of another type or size.
    """
    stored = StoredTensors(contents, precision, path)
    matrices = {unit.parameter for unit in units}
    tensors = {
        name: torch.empty(shape) if name in matrices else torch.from_numpy(stored.rest(name, shape))
        for name, shape in expected.items()
    }
    for unit in units:
        tensors[unit.parameter][unit.start : unit.stop] = _unit_values(stored, unit, precision[unit.name], path)
    stored.check_all_used()
    return tensors


def _unit_values(stored: StoredTensors, unit: Unit, bits: int, path: str | Path) -> Tensor:
    if bits in FLOAT_BITS:
        return torch.from_numpy(stored.values(unit, bits).astype(np.float32))
    packed, scales = stored.codes(unit)
    codes = unpack_codes(packed, unit.count, bits, where=f"{path}:{unit.name}").reshape(-1, unit.columns)
    tensors = torch.from_numpy(codes.copy()), torch.from_numpy(scales.copy())
    return Quantized(bits, *tensors, stored.granularity()).values()


class StoredTensors:
    """The tensors of a file, taken out one after the other, each checked.

    Methods raise ModelFileError for a tensor that is missing, of another type or size, or not finite.
    """

    def __init__(self, contents: Contents, precision: PrecisionMap, path: str | Path) -> None:
        self._left = dict(contents.tensors)
        self._header = contents.header
        self._rest = np.dtype(np.float32 if leftover_dtype(precision) == torch.float32 else np.float16)
        self._path = path

    def rest(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return a tensor that is in no unit, in float32."""
        found = self._take(name, shape, (self._rest,)).astype(np.float32)
        check_finite({name: torch.from_numpy(found)}, where=self._path)
        return found

    def values(self, unit: Unit, bits: int) -> np.ndarray:
        """Return the (rows, columns) values of a unit of 16 or 32 bits, as they are stored."""
        dtype = np.dtype(np.float16 if bits == 16 else np.float32)
        return self._take(f"{unit.name}.values", (unit.stop - unit.start, unit.columns), (dtype,))

    def codes(self, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
        """Return the bytes of the codes of a unit of 8 bits or less, and its scales as they are stored."""
        halves = (np.dtype(np.float16), np.dtype(np.float32))
        shape = self.granularity().shape(unit.stop - unit.start, unit.columns)
        scales = self._take(f"{unit.name}.scales", shape, halves)
        check_finite({f"{unit.name}.scales": torch.from_numpy(scales.copy())}, where=self._path)
        if (scales < 0).any():
            raise ModelFileError(f"a scale of {unit.name} is below 0", where=self._path, found=float(scales.min()))
        return self._take(f"{unit.name}.codes", None, (np.dtype(np.uint8),)), scales

    def granularity(self) -> Granularity:
        """Return which weights share a scale."""
        try:
            return Granularity(**self._header["granularity"])
        except (KeyError, TypeError, ConfigError) as error:
            raise ModelFileError("no granularity in the header", where=self._path, found=str(error)) from error

    def check_all_used(self) -> None:
        """Raise ModelFileError if a tensor has not been taken."""
        if self._left:
            names = ", ".join(sorted(self._left))
            raise ModelFileError("tensors that the configuration does not have", where=self._path, found=names)

    def _take(self, name: str, shape: tuple[int, ...] | None, dtypes: tuple[np.dtype, ...]) -> np.ndarray:
        """Remove and return a tensor, of that shape (None: any vector) and one of those types."""
        tensor = self._left.pop(name, None)
        if tensor is None:
            raise ModelFileError(f"no tensor {name}", where=self._path)
        fits = tensor.ndim == 1 if shape is None else tensor.shape == shape
        if not fits or tensor.dtype not in dtypes:
            expected = f"{' or '.join(map(str, dtypes))} {'vector' if shape is None else shape}"
            found = f"{tensor.dtype} {tensor.shape}"
            raise ModelFileError(f"tensor {name} does not fit", where=self._path, expected=expected, found=found)
        return tensor
