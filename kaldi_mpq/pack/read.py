# SPDX-License-Identifier: Apache-2.0
"""A packed model back as a language model, its weights in float32. Not here: kernels that compute on the packed bits.

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

__all__ = ["load_packed", "read_precision", "unpacked_tensors"]


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
    stored = dict(contents.tensors)
    matrices = {unit.parameter for unit in units}
    rest = np.dtype(np.float32 if leftover_dtype(precision) == torch.float32 else np.float16)
    tensors = {}
    for name, shape in expected.items():
        if name in matrices:
            tensors[name] = torch.empty(shape)
        else:
            tensors[name] = _to_float(_take(stored, name, shape, (rest,), path))
    for unit in units:
        tensors[unit.parameter][unit.start : unit.stop] = _unit_values(
            stored, unit, precision[unit.name], contents, path
        )
    if stored:
        raise ModelFileError(
            "tensors that the configuration does not have", where=path, found=", ".join(sorted(stored))
        )
    return tensors


def _unit_values(stored: dict[str, np.ndarray], unit: Unit, bits: int, contents: Contents, path: str | Path) -> Tensor:
    rows = unit.stop - unit.start
    if bits in FLOAT_BITS:
        dtype = np.dtype(np.float16 if bits == 16 else np.float32)
        return _to_float(_take(stored, f"{unit.name}.values", (rows, unit.columns), (dtype,), path))
    granularity = _granularity(contents, path)
    halves = (np.dtype(np.float16), np.dtype(np.float32))
    scales = _take(stored, f"{unit.name}.scales", granularity.shape(rows, unit.columns), halves, path)
    check_finite({f"{unit.name}.scales": torch.from_numpy(scales.copy())}, where=path)
    if (scales < 0).any():
        raise ModelFileError(f"a scale of {unit.name} is below 0", where=path, found=float(scales.min()))
    packed = _take(stored, f"{unit.name}.codes", None, (np.dtype(np.uint8),), path)
    codes = unpack_codes(packed, unit.count, bits, where=f"{path}:{unit.name}").reshape(rows, unit.columns)
    return Quantized(bits, torch.from_numpy(codes.copy()), torch.from_numpy(scales.copy()), granularity).values()


def _take(
    stored: dict[str, np.ndarray],
    name: str,
    shape: tuple[int, ...] | None,
    dtypes: tuple[np.dtype, ...],
    path: str | Path,
) -> np.ndarray:
    """Remove and return a tensor, of that shape (None: any vector) and one of those types."""
    tensor = stored.pop(name, None)
    if tensor is None:
        raise ModelFileError(f"no tensor {name}", where=path)
    fits = tensor.ndim == 1 if shape is None else tensor.shape == shape
    if not fits or tensor.dtype not in dtypes:
        expected = f"{' or '.join(map(str, dtypes))} {'vector' if shape is None else shape}"
        raise ModelFileError(
            f"tensor {name} does not fit", where=path, expected=expected, found=f"{tensor.dtype} {tensor.shape}"
        )
    return tensor


def _to_float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _granularity(contents: Contents, path: str | Path) -> Granularity:
    try:
        return Granularity(**contents.header["granularity"])
    except (KeyError, TypeError, ConfigError) as error:
        raise ModelFileError("no granularity in the header", where=path, found=str(error)) from error
