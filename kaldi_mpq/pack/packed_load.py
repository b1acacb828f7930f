# SPDX-License-Identifier: Apache-2.0
"""A packed file as a model that is computed from its packed weights: they are never unpacked as a whole.

Everything that the file says is checked, as in `read`. Not here: the models (`packed_lstm`, `packed_transformer`), how
single matrices come out of a file (`packed_parts`), models in floats (`read`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kaldi_mpq.errors import ConfigError, ModelFileError, PrecisionError
from kaldi_mpq.lm.lstm import LstmLm
from kaldi_mpq.lm.model import LanguageModel, ModelConfig, units_of
from kaldi_mpq.lm.transformer import TransformerLm
from kaldi_mpq.native import packed
from kaldi_mpq.pack.format import read_file
from kaldi_mpq.pack.packed_lstm import PackedLstm
from kaldi_mpq.pack.packed_model import PackedModel
from kaldi_mpq.pack.packed_parts import Grid, PackedParts
from kaldi_mpq.pack.packed_transformer import PackedTransformer
from kaldi_mpq.pack.read import StoredTensors, read_precision
from kaldi_mpq.pack.units import matching_units
from kaldi_mpq.precision import Unit

__all__ = ["has_packed_kernels", "load_packed_weights"]


def has_packed_kernels(path: str | Path) -> bool:
    """Return whether there are kernels for the model in a packed file: one with parts of 8 bits or less.

    Raises:
      MissingInputError, ModelFileError: no such file, or a damaged one.
    """
    contents = read_file(path)
    low = any(bits <= 8 for bits in read_precision(contents, path).bits.values())
    return contents.header.get("config", {}).get("model") in _ARCHITECTURES and low


def load_packed_weights(path: str | Path, activation_bits: int = 16, kernels: str = "") -> PackedModel:
    """Return the model in a file that ``mpq pack`` wrote, its weights packed.

    Args:
      activation_bits: of vectors that are multiplied: 4, 8, 16, or 32, floats. Where the model was trained with grids
        for these, the grids count.
      kernels: see `native.packed.Matrix`.
    Raises:
      MissingInputError: no such file.
      ModelFileError: damaged, of another version, not fitting its own configuration, or with NaN or infinity.
    """
    contents = read_file(path)
    precision = read_precision(contents, path)
    try:
        config = ModelConfig.from_dict(contents.header["config"])
        if config.model not in _ARCHITECTURES:
            raise ModelFileError("no such architecture", where=path, found=config.model)
        shapes = _Shapes(config)
        units = matching_units(shapes, precision)
    except (KeyError, TypeError, ValueError, ConfigError, PrecisionError) as error:
        raise ModelFileError("the header does not describe a model", where=path, found=str(error)) from error
    stored = StoredTensors(contents, precision, path)
    parts = PackedParts(stored, precision, units, kernels, path)
    model = _ARCHITECTURES[config.model].assemble(parts, config, {"clip": 0.0, "activation_bits": activation_bits})
    stored.check_all_used()
    return model


class _Shapes:
    """What `matching_units` asks of a model, without the model's memory."""

    def __init__(self, config: ModelConfig) -> None:
        self._architecture = _ARCHITECTURES[config.model]
        words = {"embedding.weight": (config.vocab_size, config.embedding_dim)}
        if not config.tied:
            words["output.weight"] = words["embedding.weight"]
        self._matrices = words | self._architecture.matrices(config)

    def units(self, split: str = "gate") -> list[Unit]:
        """See LanguageModel.units."""
        return units_of(self._matrices, lambda name: self._architecture.model.row_parts(self, name), split)


def _lstm_matrices(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Return name -> shape of the matrices between embedding and output layer."""
    cells, found = config.hidden_dim, {}
    for k in range(config.layers):
        found[f"layers.{k}.ih"] = (4 * cells, cells if k else config.embedding_dim)
        found[f"layers.{k}.hh"] = (4 * cells, cells)
    if config.projected or cells != config.embedding_dim:
        found["projection.weight"] = (config.embedding_dim, cells)
    return found


def _lstm(parts: PackedParts, config: ModelConfig, grid: Grid) -> PackedLstm:
    grids = [grid] * (config.layers + 1)  # of what goes into layer k, and of hidden vectors
    if config.activation_bits:
        own = {"clip": 1.0, "activation_bits": config.activation_bits}
        grids = [{**own, "clip": parts.number("see.clip")}, *[own] * config.layers]
    cells = config.hidden_dim
    layers = [
        packed.LayerWeights(
            input=parts.matrix([f"layers.{k}.ih"], grids[k]),
            recurrent=parts.matrix([f"layers.{k}.hh"], grids[-1]),
            bias=parts.vector(f"layers.{k}.bias", 4 * cells),
            peephole=parts.vector(f"layers.{k}.peephole", 3 * cells) if config.peephole else None,
        )
        for k in range(config.layers)
    ]
    projected = config.projected or cells != config.embedding_dim
    projection = parts.matrix(["projection.weight"], grid) if projected else None
    embedding, words, bias = _embedding_and_words(parts, config, grid)
    return PackedLstm(config, embedding, layers, projection, words, bias)


def _transformer_matrices(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Return name -> shape of the matrices between embedding and output layer."""
    dim, inner, found = config.embedding_dim, config.hidden_dim, {}
    for k in range(config.layers):
        found |= {f"blocks.{k}.attention.{name}.weight": (dim, dim) for name in ("query", "key", "value", "out")}
        found |= {f"blocks.{k}.up.weight": (inner, dim), f"blocks.{k}.down.weight": (dim, inner)}
    return found


def _transformer(parts: PackedParts, config: ModelConfig, grid: Grid) -> PackedTransformer:
    dim, inner = config.embedding_dim, config.hidden_dim

    def linear(names: list[str], rows: int, see: str) -> packed.Linear:
        bits = config.activation_bits
        seen = {"clip": parts.number(f"{see}.clip"), "activation_bits": bits} if bits else grid
        biases = [parts.vector(f"{name}.bias", rows) for name in names]
        return parts.matrix([f"{name}.weight" for name in names], seen), np.concatenate(biases)

    def norm(name: str) -> packed.Norm:
        return parts.vector(f"{name}.weight", dim), parts.vector(f"{name}.bias", dim)

    def block(name: str) -> packed.BlockWeights:
        attention = f"{name}.attention"
        return packed.BlockWeights(
            project=linear([f"{attention}.{part}" for part in ("query", "key", "value")], dim, f"{attention}.see"),
            out=linear([f"{attention}.out"], dim, f"{attention}.see_mixed"),
            up=linear([f"{name}.up"], inner, f"{name}.see_up"),
            down=linear([f"{name}.down"], dim, f"{name}.see_down"),
            first=norm(f"{name}.norm1"),
            second=norm(f"{name}.norm2"),
        )

    if dim % config.heads or dim % 2:
        raise parts.misfit("embedding_dim", f"an even multiple of {config.heads} heads", dim)
    blocks = [block(f"blocks.{k}") for k in range(config.layers)]
    last = norm("norm") if config.norm == "pre" else None
    embedding, words, bias = _embedding_and_words(parts, config, grid)
    return PackedTransformer(config, embedding, blocks, last, words, bias)


def _embedding_and_words(
    parts: PackedParts, config: ModelConfig, grid: Grid
) -> tuple[packed.Matrix, packed.Matrix, torch.Tensor]:
    """Return the embedding, the output matrix, and its biases."""
    embedding = parts.matrix(["embedding.weight"], grid)
    words = embedding if config.tied else parts.matrix(["output.weight"], grid)
    return embedding, words, torch.from_numpy(parts.vector("output.bias", config.vocab_size))


@dataclass(frozen=True)
class _Architecture:
    """How models of a kind are made of what is in a file."""

    model: type[LanguageModel]
    matrices: Callable[[ModelConfig], dict[str, tuple[int, int]]]
    assemble: Callable[[PackedParts, ModelConfig, Grid], PackedModel]


_ARCHITECTURES = {
    "lstm": _Architecture(LstmLm, _lstm_matrices, _lstm),
    "transformer": _Architecture(TransformerLm, _transformer_matrices, _transformer),
}
