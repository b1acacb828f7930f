# SPDX-License-Identifier: Apache-2.0
"""How many bytes a packed file takes before it is made, as a sum over units: what a search under a budget adds up.

    file <= fixed_bytes + sum over units of unit_bytes(unit, its bits)

Codes, scales and what is in no unit are counted exactly. The JSON header is bounded from above, because its offsets
have more digits in larger files and its stamp has paths: the bound is at most `STAMP_BYTES`, and some bytes per unit,
too large. Not here: how the file is written (`write`, `format`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.pack.bits import packed_bytes
from kaldi_mpq.pack.format import Stored, encode_header, tensor_entry
from kaldi_mpq.precision import FLOAT_BITS, Unit
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import largest_code

__all__ = ["STAMP_BYTES", "SizeTable", "bounded_stamp", "unit_tensors"]

STAMP_BYTES = 2048  # of what made the file, as it is encoded in the header
_SMALL_SCALE = 1.2e-4  # four times the smallest scale that float16 surely holds (quant.quantized.stored_scales)
_LARGE_SCALE = 16_000.0  # a quarter of float16's largest number


class SizeTable:
    """Bytes of every unit of a model at every width, and of everything else in the file.

    Args:
      model: the float model, on the CPU.
      granularity: which weights share a scale.
      most_bytes: no file larger than this is asked for; bounds the digits of offsets.
      half_leftover: what is in no unit takes float16, as in every file but one that is all float32.
    """

    def __init__(
        self, model: LanguageModel, granularity: Granularity, most_bytes: int, *, half_leftover: bool = True
    ) -> None:
        self.granularity, self.most_bytes = granularity, most_bytes
        self._tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        self.parameters = sum(tensor.numel() for tensor in self._tensors.values())
        matrices = {unit.parameter for unit in model.units("matrix")}
        dtype = np.dtype(np.float16 if half_leftover else np.float32)
        header = {
            "config": model.config.to_dict(),
            "precision": {},
            "granularity": {"kind": granularity.kind, "block": granularity.block},
            "words_sha256": "0" * 64,
            "made_by": {},
        }
        self.fixed_bytes = 8 + len(encode_header(header, {})[0]) + STAMP_BYTES + 8  # 8: length; 8: padding
        for name, tensor in self._tensors.items():
            if name not in matrices:
                self.fixed_bytes += self._tensor_bytes(name, (dtype, tuple(tensor.shape)))

    @property
    def float32_bytes(self) -> int:
        """Bytes of the parameters in float32, to which ratios refer (size.json)."""
        return 4 * self.parameters

    def unit_bytes(self, unit: Unit, bits: int) -> int:
        """Return the bytes that a unit adds to the file: codes and scales, or values, and its part of the header."""
        wide = bits not in FLOAT_BITS and self._needs_float32_scales(unit, bits)
        precision = json.dumps(json.dumps({unit.name: bits}, separators=(",", ":"))[1:-1] + ",")
        stored = unit_tensors(unit, bits, self.granularity, wide_scales=wide)
        return len(precision) - 2 + sum(self._tensor_bytes(name, each) for name, each in stored.items())

    def _tensor_bytes(self, name: str, stored: Stored) -> int:
        """Return the bytes of a tensor's data and the most that the header's entry of it can take."""
        dtype, shape = stored
        entry = json.dumps({name: tensor_entry(dtype, shape, self.most_bytes, self.most_bytes)}, separators=(",", ":"))
        return dtype.itemsize * int(np.prod(shape, dtype=np.int64)) + len(entry) - 1  # braces off, a comma on

    def _needs_float32_scales(self, unit: Unit, bits: int) -> bool:
        """Whether scales may leave float16, at rounding or when training makes them up to four times smaller."""
        rows = self._tensors[unit.parameter][unit.start : unit.stop]
        return any(_may_leave_float16(group.abs(), bits) for _, group in self.granularity.groups(rows))


def unit_tensors(unit: Unit, bits: int, granularity: Granularity, *, wide_scales: bool = False) -> dict[str, Stored]:
    """Return type and shape of the tensors that a unit is stored as.

    Args:
      wide_scales: scales are float32 (the file's own choice, for scales that float16 does not hold).
    """
    shape = (unit.stop - unit.start, unit.columns)
    if bits in FLOAT_BITS:
        return {f"{unit.name}.values": (np.dtype(np.float16 if bits == 16 else np.float32), shape)}
    return {
        f"{unit.name}.codes": (np.dtype(np.uint8), (packed_bytes(unit.count, bits),)),
        f"{unit.name}.scales": (np.dtype(np.float32 if wide_scales else np.float16), granularity.shape(*shape)),
    }


def bounded_stamp(made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Return what made a file in at most `STAMP_BYTES`: long strings (paths) keep their ends only."""
    shortened: Any = dict(made_by)
    for longest in (400, 100, 40):
        if _encoded_bytes(shortened) <= STAMP_BYTES:
            return shortened
        shortened = _ends_only(shortened, longest)
    if _encoded_bytes(shortened) <= STAMP_BYTES:
        return shortened
    return {"verb": str(made_by.get("verb", ""))[:40]}


def _may_leave_float16(magnitudes: Tensor, bits: int) -> bool:
    """Whether scales of (G, m) groups are near the ends of float16's range, judged without searching the best ones."""
    scale = magnitudes.mean(dim=1) if bits <= 2 else magnitudes.amax(dim=1) / largest_code(bits)
    used = scale[scale > 0]
    return bool(torch.any((used < _SMALL_SCALE) | (used > _LARGE_SCALE)))


def _encoded_bytes(value: Any) -> int:
    return len(json.dumps(json.dumps(value, ensure_ascii=True, separators=(",", ":"))))


def _ends_only(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= longest else "..." + value[-longest:]
    if isinstance(value, Mapping):
        return {_ends_only(key, longest): _ends_only(inner, longest) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_ends_only(inner, longest) for inner in value]
    return value
