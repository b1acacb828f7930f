# SPDX-License-Identifier: Apache-2.0
"""``mpq pack``: what `fit` wrote becomes one file, bit for bit the same weights.

Not here: the bytes of the file (`format`) and how weights came onto their grids (`fit`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kaldi_mpq.artefact import require, sha256_of, stamp, write_json, writing
from kaldi_mpq.errors import ModelFileError, VocabularyError
from kaldi_mpq.lm.checkpoint import check_finite, load_lm
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.pack.bits import pack_codes
from kaldi_mpq.pack.format import write_file
from kaldi_mpq.pack.settings import PackSettings
from kaldi_mpq.pack.size import bounded_stamp
from kaldi_mpq.pack.units import matching_units
from kaldi_mpq.precision import PrecisionMap, Unit
from kaldi_mpq.quant.quantized import Quantized, leftover_dtype, load_quantized, tensors_on_grid
from kaldi_mpq.settings import as_plain

__all__ = ["pack_lm", "packed_tensors", "write_packed"]


def pack_lm(settings: PackSettings) -> str:
    """Write ``settings.out`` with ``size.json`` and ``words.txt`` beside it; return the sizes in one line.

    Raises:
      MissingInputError: naming every file that is not there.
      ModelFileError: weights that are not finite, or not the ones that the codes stand for.
      VocabularyError: another words.txt lies beside ``settings.out``.
    """
    fit, out = settings.fit, settings.out
    names = ("config.json", "model.safetensors", "precision.json", "quant.safetensors", "words.txt")
    require([fit / name for name in names], hint="mpq fit writes them")
    model = load_lm(fit)
    precision = PrecisionMap.read(fit / "precision.json")
    quantized = load_quantized(fit / "quant.safetensors")
    words = fit / "words.txt"
    beside = out.parent / "words.txt"
    if beside.exists() and sha256_of(beside) != sha256_of(words):
        raise VocabularyError(
            "another words.txt is beside the packed model", where=beside, hint="pack into another directory"
        )
    made_by = stamp("pack", as_plain(settings), [fit / "model.safetensors"])
    write_packed(out, model, precision, quantized, sha256_of(words), made_by, where=fit)
    if not beside.exists():
        with writing(beside) as temporary:
            temporary.write_bytes(words.read_bytes())
    sizes = _sizes(out, model, matching_units(model, precision), precision)
    write_json(out.parent / "size.json", sizes)
    return (
        f"{out}: {sizes['bytes']} bytes, {sizes['ratio']:.2f} times smaller than float32, "
        f"{sizes['mean_bits']:.2f} bits per parameter ({sizes['nominal_mean_bits']:.2f} nominal)"
    )


def write_packed(
    path: str | Path,
    model: LanguageModel,
    precision: PrecisionMap,
    quantized: Mapping[str, Quantized],
    words_sha256: str,
    made_by: Mapping[str, Any],
    *,
    where: object = "the model",
) -> None:
    """Write a model whose weights lie on their grids.

    Args:
      model: weights as ``quantized`` and float16 give them.
      precision: bits of every unit.
      quantized: codes and scales of the units of 1 to 8 bits.
      words_sha256: hash of the words.txt whose ids the model uses.
      made_by: a stamp.
      where: named in errors.
    Raises:
      ModelFileError: something is not finite, or ``model`` and ``quantized`` differ.
    """
    units = matching_units(model, precision)
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    check_finite(tensors, where=str(where))
    check_finite({f"{name}.scales": unit.scales for name, unit in quantized.items()}, where=str(where))
    _check_on_grid(tensors, units, precision, quantized, where)
    header = {
        "config": model.config.to_dict(),
        "precision": dict(precision.bits),
        "granularity": _granularity(quantized),
        "words_sha256": words_sha256,
        "made_by": bounded_stamp(made_by),
    }
    write_file(path, header, packed_tensors(tensors, units, precision, quantized))


def packed_tensors(
    tensors: Mapping[str, Tensor], units: list[Unit], precision: PrecisionMap, quantized: Mapping[str, Quantized]
) -> dict[str, np.ndarray]:
    """Return what is stored: ``UNIT.codes`` and ``UNIT.scales``, ``UNIT.values`` at 16 or 32 bits, the rest by name."""
    stored: dict[str, np.ndarray] = {}
    for unit in units:
        bits = precision[unit.name]
        if unit.name in quantized:
            stored[f"{unit.name}.codes"] = pack_codes(quantized[unit.name].codes.numpy(), bits)
            stored[f"{unit.name}.scales"] = quantized[unit.name].scales.numpy()
        else:
            values = tensors[unit.parameter][unit.start : unit.stop]
            stored[f"{unit.name}.values"] = values.to(torch.float16 if bits == 16 else torch.float32).numpy()
    matrices = {unit.parameter for unit in units}
    for name, tensor in tensors.items():
        if name not in matrices:
            stored[name] = tensor.to(leftover_dtype(precision)).numpy()
    return stored


def _check_on_grid(
    tensors: Mapping[str, Tensor],
    units: list[Unit],
    precision: PrecisionMap,
    quantized: Mapping[str, Quantized],
    where: object,
) -> None:
    wanted = {unit.name: precision[unit.name] for unit in units if precision[unit.name] <= 8}
    found = {name: unit.bits for name, unit in quantized.items()}
    if wanted != found:
        raise ModelFileError(
            "codes and precision map differ", where=where, expected=json.dumps(wanted), found=json.dumps(found)
        )
    for name, tensor in tensors_on_grid(tensors, units, precision, quantized).items():
        if not torch.equal(tensor, tensors[name].to(torch.float32)):
            raise ModelFileError(
                f"the weights {name} are not the ones that its codes stand for",
                where=where,
                hint="make them again with mpq fit",
            )


def _granularity(quantized: Mapping[str, Quantized]) -> dict[str, Any]:
    """Return the granularity that all units share, as JSON-ready values."""
    kinds = {(unit.granularity.kind, unit.granularity.block) for unit in quantized.values()} or {("row", 0)}
    if len(kinds) > 1:
        raise ModelFileError("units with different granularities", found=sorted(kinds))
    kind, block = kinds.pop()
    return {"kind": kind, "block": block}


def _sizes(out: Path, model: LanguageModel, units: list[Unit], precision: PrecisionMap) -> dict[str, Any]:
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    size = out.stat().st_size
    weights = sum(unit.count for unit in units)
    return {
        "file": out.name,
        "bytes": size,
        "float32_bytes": 4 * parameters,
        "ratio": 4 * parameters / size,
        "parameters": parameters,
        "mean_bits": 8 * size / parameters,
        "nominal_mean_bits": sum(unit.count * precision[unit.name] for unit in units) / weights,
    }
