# SPDX-License-Identifier: Apache-2.0
"""A packed file as a model that is computed from its packed weights: they are never unpacked as a whole.

Everything that the file says is checked, as in `read`. Not here: the model (`packed_lstm`), models in floats (`read`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kaldi_mpq.errors import ConfigError, ModelFileError, MpqError, PrecisionError
from kaldi_mpq.lm.lstm import LstmLm
from kaldi_mpq.lm.model import ModelConfig, units_of
from kaldi_mpq.native import packed
from kaldi_mpq.pack.format import Contents, read_file
from kaldi_mpq.pack.packed_lstm import PackedLstm
from kaldi_mpq.pack.read import StoredTensors, read_precision
from kaldi_mpq.pack.units import matching_units
from kaldi_mpq.precision import FLOAT_BITS, PrecisionMap, Unit

__all__ = ["has_packed_kernels", "load_packed_lstm"]

Grid = Mapping[str, Any]  # how a matrix sees what it is multiplied with: arguments of `native.packed.Matrix`


def has_packed_kernels(path: str | Path) -> bool:
    """Return whether there are kernels for the model in a packed file: an LSTM with parts of 8 bits or less.

    Raises:
      MissingInputError, ModelFileError: no such file, or a damaged one.
    """
    contents = read_file(path)
    low = any(bits <= 8 for bits in read_precision(contents, path).bits.values())
    return contents.header.get("config", {}).get("model") == "lstm" and low


def load_packed_lstm(path: str | Path, activation_bits: int = 16, kernels: str = "") -> PackedLstm:
    """Return the LSTM in a file that ``mpq pack`` wrote, its weights packed.

    Args:
      activation_bits: of vectors that are multiplied: 4, 8, 16, or 32, floats. Where the model was trained with grids
        for these, the grids count.
      kernels: see `native.packed.Matrix`.
    Raises:
      MissingInputError: no such file.
      ModelFileError: damaged, of another version, no LSTM, not fitting its own configuration, or with NaN or infinity.
    """
    contents = read_file(path)
    precision = read_precision(contents, path)
    try:
        config = ModelConfig.from_dict(contents.header["config"])
        if config.model != "lstm":
            raise ModelFileError("not an LSTM", where=path, found=config.model)
        units = matching_units(_Shapes(config), precision)
    except (KeyError, TypeError, ValueError, ConfigError, PrecisionError) as error:
        raise ModelFileError("the header does not describe a model", where=path, found=str(error)) from error
    return _Loader(contents, config, precision, units, path, activation_bits, kernels).load()


class _Shapes:
    """What `matching_units` asks of a model, without the model's memory."""

    row_parts = LstmLm.row_parts

    def __init__(self, config: ModelConfig) -> None:
        self._matrices = _matrices(config)

    def units(self, split: str = "gate") -> list[Unit]:
        """See LanguageModel.units."""
        return units_of(self._matrices, self.row_parts, split)


def _matrices(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Return name -> shape of the matrices of an LSTM of that configuration."""
    words, cells = (config.vocab_size, config.embedding_dim), config.hidden_dim
    found = {"embedding.weight": words}
    if not config.tied:
        found["output.weight"] = words
    for k in range(config.layers):
        found[f"layers.{k}.ih"] = (4 * cells, cells if k else config.embedding_dim)
        found[f"layers.{k}.hh"] = (4 * cells, cells)
    if config.projected or cells != config.embedding_dim:
        found["projection.weight"] = (config.embedding_dim, cells)
    return found


class _Loader:
    """One file on its way into matrices."""

    def __init__(
        self,
        contents: Contents,
        config: ModelConfig,
        precision: PrecisionMap,
        units: list[Unit],
        path: str | Path,
        activation_bits: int,
        kernels: str,
    ) -> None:
        self._stored = StoredTensors(contents, precision, path)
        self._config, self._precision, self._path = config, precision, path
        self._activation_bits, self._kernels = activation_bits, kernels
        self._units = {
            name: sorted((unit for unit in units if unit.parameter == name), key=lambda unit: unit.start)
            for name in _matrices(config)
        }

    def load(self) -> PackedLstm:
        """Return the model; every tensor of the file is used."""
        config = self._config
        grid = {"clip": 0.0, "activation_bits": self._activation_bits}
        grids = [grid] * (config.layers + 1)  # of what goes into layer k, and of hidden vectors
        if config.activation_bits:
            first = float(self._stored.rest("see.clip", (1,))[0])
            bits = config.activation_bits
            grids = [{"clip": clip, "activation_bits": bits} for clip in (first, *[1.0] * config.layers)]
        embedding = self._matrix("embedding.weight", grid)
        words = embedding if config.tied else self._matrix("output.weight", grid)
        layers = [self._layer(f"layers.{k}", grids[k], grids[-1]) for k in range(config.layers)]
        projection = self._matrix("projection.weight", grid) if "projection.weight" in self._units else None
        bias = torch.from_numpy(self._stored.rest("output.bias", (config.vocab_size,)))
        self._stored.check_all_used()
        return PackedLstm(config, embedding, layers, projection, words, bias)

    def _layer(self, name: str, below: Grid, before: Grid) -> packed.LayerWeights:
        cells = self._config.hidden_dim
        return packed.LayerWeights(
            input=self._matrix(f"{name}.ih", below),
            recurrent=self._matrix(f"{name}.hh", before),
            bias=self._stored.rest(f"{name}.bias", (4 * cells,)),
            peephole=self._stored.rest(f"{name}.peephole", (3 * cells,)) if self._config.peephole else None,
        )

    def _matrix(self, name: str, grid: Grid) -> packed.Matrix:
        units = self._units[name]
        granularity = self._stored.granularity()
        block = granularity.block if granularity.kind == "block" else 0
        matrix = packed.Matrix(units[0].columns, block=block, kernels=self._kernels, **grid)
        for unit in units:
            try:
                self._add(matrix, unit)
            except ModelFileError:
                raise
            except MpqError as error:
                raise ModelFileError(f"unit {unit.name} is damaged", where=self._path, found=str(error)) from error
        return matrix

    def _add(self, matrix: packed.Matrix, unit: Unit) -> None:
        bits = self._precision[unit.name]
        if bits in FLOAT_BITS:
            matrix.add_values(self._stored.values(unit, bits))
            return
        codes, scales = self._stored.codes(unit)
        rows = np.broadcast_to(scales.astype(np.float32), (unit.stop - unit.start, scales.shape[1]))
        matrix.add_codes(bits, codes, np.ascontiguousarray(rows))
