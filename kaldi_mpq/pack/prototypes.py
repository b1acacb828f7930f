# SPDX-License-Identifier: Apache-2.0
"""Quantized weights of a unit at each width: rounded now, or those of a model that was trained at that width.

A search measures them, a fit may start from them. Not here: the training (`fit`), known by the files that it leaves.

Paper: Xu et al., TASLP 2021, section V: units are taken from uniform-precision models trained by ADMM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kaldi_mpq.artefact import read_json, require, sha256_of
from kaldi_mpq.errors import ConfigError, ModelFileError
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.precision import CANDIDATE_BITS, FLOAT_BITS, PrecisionMap, Unit
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.quantized import quantize

__all__ = ["Prototypes", "prototype_places", "start_from_prototypes", "swapped"]


class Prototypes:
    """Weights of the units of a model at each width.

    Args:
      model: the float model.
      granularity: of rounding.
      places: ``BITS=DIR``, directories of ``mpq fit --bits BITS``; other widths are rounded with best scales.
    Raises:
      ConfigError: not such a pair, or a model of another shape or other widths.
      MissingInputError: a directory lacks a file.
    """

    def __init__(self, model: LanguageModel, granularity: Granularity, places: Sequence[str] = ()) -> None:
        # A copy: while a part is measured beside quantized ones, the model's own weights are not the float ones.
        self._parameters = {name: each.detach().clone() for name, each in model.named_parameters() if each.dim() == 2}
        self.granularity = granularity
        self._files = {bits: _model_file(model, bits, path) for bits, path in prototype_places(places).items()}

    @property
    def widths(self) -> set[int]:
        """Widths for which there is a trained model."""
        return set(self._files)

    def values(self, unit: Unit, bits: int) -> Tensor:
        """Return the (rows, columns) float32 weights of a unit at a width, on the model's device."""
        rows = self.float_values(unit)
        if bits in self._files:
            return _rows_in_file(self._files[bits], unit).to(rows.device)
        if bits in FLOAT_BITS:
            return rows.to(torch.float16).to(rows.dtype) if bits == 16 else rows
        return quantize(rows, bits, self.granularity).values()

    def float_values(self, unit: Unit) -> Tensor:
        """Return the (rows, columns) weights of a unit in the float model."""
        return self._parameters[unit.parameter][unit.start : unit.stop]

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each given model's weights, by width."""
        return {str(bits): sha256_of(path) for bits, path in sorted(self._files.items())}


def prototype_places(texts: Sequence[str]) -> dict[int, Path]:
    """Return width -> directory of ``BITS=DIR`` texts.

    Raises:
      ConfigError: not such a pair.
    """
    return dict(map(_pair, texts))


@torch.no_grad()
def start_from_prototypes(
    model: LanguageModel,
    units: Sequence[Unit],
    precision: PrecisionMap,
    granularity: Granularity,
    places: Sequence[str],
) -> None:
    """Give every unit that is to have a width for which there is a trained model that model's weights, in place."""
    prototypes = Prototypes(model, granularity, places)
    parameters = dict(model.named_parameters())
    for unit in units:
        if precision[unit.name] in prototypes.widths:
            rows = parameters[unit.parameter][unit.start : unit.stop]
            rows.copy_(prototypes.values(unit, precision[unit.name]))


@contextmanager
def swapped(model: LanguageModel, values: Mapping[Unit, Tensor]) -> Iterator[None]:
    """Give some units of a model other weights in the block."""
    parameters = dict(model.named_parameters())
    places = [(parameters[unit.parameter].data[unit.start : unit.stop], new) for unit, new in values.items()]
    kept = [place.clone() for place, _ in places]
    try:
        for place, new in places:
            place.copy_(new)
        yield
    finally:
        for (place, _), old in zip(places, kept):
            place.copy_(old)


def _pair(text: str) -> tuple[int, Path]:
    bits, equals, path = text.partition("=")
    if not equals or bits not in map(str, CANDIDATE_BITS):
        raise ConfigError("bad value for prototypes", expected=f"BITS=DIR, BITS of {CANDIDATE_BITS}", found=text)
    return int(bits), Path(path)


def _model_file(model: LanguageModel, bits: int, path: Path) -> Path:
    """Return the weights' file of a directory, once it is known to be what it should be."""
    names = ("config.json", "model.safetensors", "precision.json")
    require([path / name for name in names], hint="mpq fit --bits N writes them")
    config = read_json(path / "config.json")
    theirs = {key: config.get(key) for key in model.config.to_dict() if key != "dropout"}
    ours = {key: value for key, value in model.config.to_dict().items() if key != "dropout"}
    if theirs != ours:
        raise ConfigError("a prototype of another shape", where=path, expected=ours, found=theirs)
    widths = set(PrecisionMap.read(path / "precision.json").bits.values())
    if widths != {bits}:
        raise ConfigError("a prototype of other widths", where=path, expected=f"{bits} bits", found=sorted(widths))
    return path / "model.safetensors"


def _rows_in_file(path: Path, unit: Unit) -> Tensor:
    """Return a unit's rows; no more of the file is read."""
    try:
        with safe_open(path, framework="pt") as stream:
            return stream.get_slice(unit.parameter)[unit.start : unit.stop].to(torch.float32)
    except SafetensorError as error:
        raise ModelFileError("damaged model file", where=path, found=str(error)) from error
