# SPDX-License-Identifier: Apache-2.0
"""What every language model offers: whole batches for training, and states to advance for rescoring.

Not here: the two architectures (`lstm`, `transformer`).
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kaldi_mpq import settings
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.precision import Unit

__all__ = ["LanguageModel", "ModelConfig", "build", "rows_of_split", "units_of"]


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model, as in ``config.json``.

    Args:
      model: ``lstm`` or ``transformer``.
      vocab_size: V, words of words.txt.
      bos, eos, unk: word ids; bos is fed first, eos predicted last (the same id in Kaldi's pytorchnn).
      embedding_dim: E; the transformer's model dimension.
      hidden_dim: H, LSTM cells per layer; the transformer's feed-forward dimension.
      layers, heads, norm, tied, dropout: as in TrainSettings.
      scaled_embedding: multiply embeddings by sqrt(E) (transformer).
      projected: a matrix between the last LSTM layer and the output layer, which there always is where H is not E.
      peephole: LSTM gates that read the cells, as in Kaldi's nnet3.
      backward: the model was trained on sentences read from their end, and scores only such.
      activation_bits: of what goes into the layers' matrices, 2 to 8; 0: float. Cells, keys, values and what goes into
        the output layer are float.
    Raises:
      ConfigError: a dimension below 1, a symbol that is no word, or a dropout or norm that there is not.
    """

    model: str
    vocab_size: int
    bos: int
    eos: int
    unk: int
    embedding_dim: int
    hidden_dim: int
    layers: int
    heads: int = 1
    norm: str = "pre"
    tied: bool = True
    dropout: float = 0.0
    scaled_embedding: bool = True
    projected: bool = False
    peephole: bool = False
    backward: bool = False
    activation_bits: int = 0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "embedding_dim", "hidden_dim", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"bad value for {name}", expected="a number above 0", found=getattr(self, name))
        for name in ("bos", "eos", "unk"):
            number = getattr(self, name)
            if not 0 <= number < self.vocab_size:
                raise ConfigError(f"bad value for {name}", expected=f"a word id below {self.vocab_size}", found=number)
        if not 0 <= self.dropout < 1:
            raise ConfigError("bad value for dropout", expected="a number in [0, 1)", found=self.dropout)
        if self.activation_bits not in (0, *range(2, 9)):
            raise ConfigError("bad value for activation_bits", expected="0 or 2 to 8", found=self.activation_bits)
        if self.norm not in ("pre", "post"):
            raise ConfigError("bad value for norm", expected="pre or post", found=self.norm)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Return the configuration in ``values``.

        Raises:
          ConfigError: an unknown or missing key, or a bad value.
        """
        return settings.build(cls, values)


class LanguageModel(nn.Module):
    """A word language model: hidden vectors from words, and a distribution over the next word from a hidden vector."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.output = OutputLayer(config)
        self.dropout = nn.Dropout(config.dropout)

    @abstractmethod
    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return hidden vectors of every position and the state after the last one.

        Args:
          inputs: (N, T) int64 word ids; the first is bos. Positions after a row's end may hold anything.
          state: the state to start from; None: the start of a conversation.
        Returns:
          (N, T, E) hidden vectors, input of `logits`; the state after T positions.
        """

    @abstractmethod
    def start(self, count: int) -> Any:
        """Return ``count`` copies of the state before the sentence start is fed."""

    @abstractmethod
    def advance(self, state: Any, parents: Tensor, words: Tensor) -> tuple[Tensor, Any]:
        """Feed one word to each of N states.

        Args:
          state: states of M histories.
          parents: (N,) int64 in 0..M-1, which history each word extends; one history may be extended many times.
          words: (N,) int64 word ids.
        Returns:
          (N, E) hidden vectors and the N new states.
        """

    def advance_levels(self, state: Any, levels: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Feed the words of trees, level by level; nothing is kept but what comes of it.

        Args:
          state: states of M histories.
          levels: of each, at least one, the (N,) parents, in the level above it (in ``state`` for the first), and the
            (N,) words, as `advance` takes them.
        Returns:
          (all N, E) hidden vectors of all levels, one below the other.
        """
        hidden = []
        for parents, words in levels:
            found, state = self.advance(state, parents, words)
            hidden.append(found)
        return torch.cat(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return (..., V) unnormalised log-probabilities of the next word."""
        return functional.linear(hidden, self.output_weight, self.output.bias)

    @property
    def output_weight(self) -> Tensor:
        """(V, E) output matrix: the embedding itself when tied."""
        return self.embedding.weight if self.output.weight is None else self.output.weight

    def own_normalizer(self, normalize: bool) -> Any:
        """Return the only `lm.normalizer.Normalizer` that knows this model's output layer, or None: any does."""
        del normalize

    def embed(self, words: Tensor) -> Tensor:
        """Return the (..., E) embeddings of word ids."""
        return functional.embedding(words, self.embedding.weight)

    def units(self, split: str = "gate") -> list[Unit]:
        """Return the parts that get a bit width of their own, in the model's order; together they tile every matrix.

        Args:
          split: ``gate``: each gate of an LSTM layer, each matrix of a transformer layer; ``matrix``: whole matrices;
            ``rowsN``: as ``gate``, but what has more than N rows in blocks of N (the last block may be shorter).
        Raises:
          ConfigError: another split.
        """
        return units_of(_matrices(self), self.row_parts, split)

    def row_parts(self, parameter: str) -> tuple[str, ...]:
        """Return the names of the equal row ranges that a matrix is made of, or nothing."""
        del parameter
        return ()


def units_of(
    matrices: Mapping[str, Sequence[int]], row_parts: Callable[[str], Sequence[str]], split: str
) -> list[Unit]:
    """Return the units of matrices of those shapes; see `LanguageModel.units` and `LanguageModel.row_parts`."""
    block = rows_of_split(split)
    units = []
    for name, shape in matrices.items():
        parts = () if split == "matrix" else row_parts(name)
        rows = shape[0] // max(len(parts), 1)
        for i, part in enumerate(parts or ("",)):
            unit = f"{name.removesuffix('.weight')}.{part}".rstrip(".")
            units += _cut(Unit(unit, name, i * rows, (i + 1) * rows, shape[1]), block)
    return units


def rows_of_split(split: str) -> int:
    """Return N of the split ``rowsN``, 0 for the other splits.

    Raises:
      ConfigError: there is no such split.
    """
    if split in ("gate", "matrix"):
        return 0
    match = re.fullmatch(r"rows([1-9]\d*)", split)
    if not match:
        raise ConfigError("unknown split into units", expected="gate, matrix or rowsN (rows512)", found=split)
    return int(match[1])


class OutputLayer(nn.Module):
    """Bias of the output layer, and its matrix unless that is the embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        shape = (config.vocab_size, config.embedding_dim)
        self.weight = None if config.tied else nn.Parameter(torch.empty(shape).uniform_(-0.1, 0.1))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))


def build(config: ModelConfig | Mapping[str, Any]) -> LanguageModel:
    """Return a new model of that configuration, with random weights.

    Raises:
      ConfigError: a configuration that no model has.
    """
    from kaldi_mpq.lm.lstm import LstmLm
    from kaldi_mpq.lm.transformer import TransformerLm

    config = config if isinstance(config, ModelConfig) else ModelConfig.from_dict(config)
    architectures = {"lstm": LstmLm, "transformer": TransformerLm}
    if config.model not in architectures:
        raise ConfigError("unknown architecture", expected=f"one of {', '.join(architectures)}", found=config.model)
    return architectures[config.model](config)


def _cut(unit: Unit, block: int) -> list[Unit]:
    """Return the unit, or blocks of its rows named for the rows that they are of it."""
    height = unit.stop - unit.start
    if not block or height <= block:
        return [unit]
    ends = [(start, min(start + block, height)) for start in range(0, height, block)]
    return [
        Unit(f"{unit.name}.rows{start}-{stop}", unit.parameter, unit.start + start, unit.start + stop, unit.columns)
        for start, stop in ends
    ]


def _matrices(model: nn.Module) -> dict[str, torch.Size]:
    """Return name -> shape of every trainable matrix, the name as it is without parametrizations."""
    found = {}
    for name, parameter in model.named_parameters():
        plain = name.replace("parametrizations.", "").removesuffix(".original")
        if parameter.dim() == 2:
            found[plain] = parameter.shape
    return found
