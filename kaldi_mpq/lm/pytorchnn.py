# SPDX-License-Identifier: Apache-2.0
"""``mpq lm import MODEL.PT``: the ``model.pt`` of Kaldi's steps/pytorchnn as a language model of ours.

Not here: scoring; an imported model is one like any other. Only tensors are read, no pickled code is ever run. Kaldi
keeps no dimensions in the file: they follow from the tensors' shapes, all but the number of attention heads.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kaldi_mpq.artefact import require, stamp, writing
from kaldi_mpq.errors import ConfigError, ModelFileError, VocabularyError
from kaldi_mpq.lm.checkpoint import load_weights, save_lm
from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.lm.settings import ImportSettings
from kaldi_mpq.lm.transformer import positions
from kaldi_mpq.settings import as_plain
from kaldi_mpq.text.vocab import Vocabulary

__all__ = ["import_pytorchnn"]

_SUPPORTED = "the state_dict of pytorchnn's LSTM or Transformer"
_CODE = re.compile(r"(?:Unsupported class|GLOBAL) ([\w.]+)")  # how torch 1.13 and 2 name what they refuse to run


def import_pytorchnn(settings: ImportSettings) -> str:
    """Write ``OUT/{config.json,model.safetensors,words.txt}`` of a pytorchnn model; return its shape in one line.

    Raises:
      MissingInputError: naming every input that is not there.
      ModelFileError: the file is damaged, needs code to be run, or is no LSTM or Transformer of pytorchnn.
      VocabularyError: words.txt is malformed, its lines are not in the order of its ids, or not as many as the model's.
      ConfigError: no words.txt was named, or no number of heads that divides a Transformer's dimension.
    """
    if settings.words is None:
        raise ConfigError("--words is needed, the words.txt of the model", where=settings.model)
    require([settings.model, settings.words])
    source = _Source(settings.model, _read(settings.model))
    vocabulary = _read_words(settings)
    embedding = source.take("encoder.weight", None, None)
    if len(embedding) != len(vocabulary):
        raise VocabularyError(
            "words.txt does not fit the model",
            where=settings.words,
            expected=f"{len(embedding)} words as in {settings.model}",
            found=len(vocabulary),
        )
    convert = _architecture(source)
    shape, tensors = convert(source, embedding, settings.heads)
    source.check_all_taken()
    symbols = {"bos": vocabulary.bos, "eos": vocabulary.eos, "unk": vocabulary.unk}
    model = build(ModelConfig(vocab_size=len(vocabulary), backward=settings.backward, **symbols, **shape))
    load_weights(model, tensors, where=settings.model)
    save_lm(settings.out, model, stamp("lm import", as_plain(settings), [settings.model, settings.words]))
    with writing(settings.out / "words.txt") as temporary:
        temporary.write_bytes(vocabulary.to_bytes())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    shown = ", ".join(f"{name} {value}" for name, value in shape.items())
    return f"{settings.out}: {shown}, {len(vocabulary)} words, {parameters} parameters"


@dataclass(frozen=True)
class _Source:
    """The tensors of a file, each to be taken once, with its shape checked."""

    path: Path
    tensors: dict[str, Tensor]

    def take(self, name: str, *shape: int | None) -> Tensor:
        """Remove and return a tensor in float32; None in ``shape`` stands for any size."""
        if name not in self.tensors:
            raise ModelFileError(f"no tensor {name}", where=self.path, expected=_SUPPORTED)
        tensor = self.tensors.pop(name)
        fits = tensor.dim() == len(shape) and all(
            want in (None, size) for want, size in zip(shape, tensor.shape, strict=True)
        )
        if not fits or not tensor.is_floating_point():
            expected = f"floating point ({', '.join('any' if size is None else str(size) for size in shape)})"
            found = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ModelFileError(f"bad tensor {name}", where=self.path, expected=expected, found=found)
        return tensor.float()

    def layers(self, pattern: str) -> int:
        """Return how many layers there are, given a pattern with the layer's number as its group."""
        found = {int(match.group(1)) for name in self.tensors if (match := re.fullmatch(pattern, name))}
        return max(found, default=-1) + 1

    def check_all_taken(self) -> None:
        """Raise ModelFileError naming what was not understood."""
        if self.tensors:
            names = ", ".join(list(self.tensors)[:5])
            raise ModelFileError("unknown tensors", where=self.path, expected=_SUPPORTED, found=names)


_Converted = tuple[dict[str, object], dict[str, Tensor]]


def _architecture(source: _Source) -> Callable[[_Source, Tensor, int | None], _Converted]:
    """Return the function that converts the file's kind of model."""
    if any(name.startswith("transformer_encoder.") for name in source.tensors):
        return _transformer
    gates = {1: "a plain RNN", 3: "a GRU", 4: "an LSTM"}
    hidden = source.tensors.get("rnn.weight_hh_l0")
    kind = "no recurrent or transformer layers"
    if hidden is not None and hidden.dim() == 2 and hidden.shape[1]:
        kind = gates.get(hidden.shape[0] // hidden.shape[1], f"rnn.weight_hh_l0 of shape {tuple(hidden.shape)}")
    if kind != "an LSTM":
        raise ModelFileError("not a supported model", where=source.path, expected=_SUPPORTED, found=kind)
    return _lstm


def _lstm(source: _Source, embedding: Tensor, heads: int | None) -> _Converted:
    """Return shape and tensors of an LSTM.

    Its decoder reads hidden vectors, ours vectors as wide as embeddings: zeros widen the narrower of the two.
    """
    del heads
    count = source.layers(r"rnn\.weight_hh_l(\d+)")
    cells = source.tensors["rnn.weight_hh_l0"].shape[1]
    tensors = {}
    below = embedding.shape[1]
    for k in range(count):
        biases = [source.take(f"rnn.bias_{side}_l{k}", 4 * cells) for side in ("ih", "hh")]
        tensors[f"layers.{k}.ih"] = source.take(f"rnn.weight_ih_l{k}", 4 * cells, below)
        tensors[f"layers.{k}.hh"] = source.take(f"rnn.weight_hh_l{k}", 4 * cells, cells)
        tensors[f"layers.{k}.bias"] = biases[0] + biases[1]
        below = cells
    decoder = source.take("decoder.weight", len(embedding), cells)
    width = max(cells, embedding.shape[1])
    if width > cells:
        tensors["projection.weight"] = torch.eye(width, cells)
    tensors["layers.0.ih"] = _widened(tensors["layers.0.ih"], width)
    tied = _output(source, tensors, _widened(embedding, width), _widened(decoder, width))
    shape = {"model": "lstm", "embedding_dim": width, "hidden_dim": cells, "layers": count, "tied": tied}
    return shape, tensors


def _transformer(source: _Source, embedding: Tensor, heads: int | None) -> _Converted:
    """Return shape and tensors of a post-norm transformer."""
    dim = embedding.shape[1]
    divisors = [number for number in range(1, dim + 1) if dim % number == 0]
    if heads not in divisors:
        raise ConfigError(
            "--heads is needed, which the file does not hold",
            where=source.path,
            expected=f"one of {', '.join(map(str, divisors))}",
            found="none" if heads is None else heads,
            hint="it is what --nhead was in training",
        )
    _check_positions(source, dim)
    prefix = "transformer_encoder.layers"
    count = source.layers(r"transformer_encoder\.layers\.(\d+)\.linear1\.weight")
    if not count:
        raise ModelFileError(f"no tensor {prefix}.0.linear1.weight", where=source.path, expected=_SUPPORTED)
    feed = source.tensors[f"{prefix}.0.linear1.weight"].shape[0]
    tensors = {}
    for k in range(count):
        old, new = f"{prefix}.{k}", f"blocks.{k}"
        weights = source.take(f"{old}.self_attn.in_proj_weight", 3 * dim, dim).chunk(3)
        biases = source.take(f"{old}.self_attn.in_proj_bias", 3 * dim).chunk(3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            tensors[f"{new}.attention.{name}.weight"], tensors[f"{new}.attention.{name}.bias"] = weight, bias
        rest = {
            "self_attn.out_proj": ("attention.out", (dim, dim)),
            "linear1": ("up", (feed, dim)),
            "linear2": ("down", (dim, feed)),
            "norm1": ("norm1", (dim,)),
            "norm2": ("norm2", (dim,)),
        }
        for theirs, (ours, size) in rest.items():
            tensors[f"{new}.{ours}.weight"] = source.take(f"{old}.{theirs}.weight", *size)
            tensors[f"{new}.{ours}.bias"] = source.take(f"{old}.{theirs}.bias", size[0])
    tied = _output(source, tensors, embedding, source.take("decoder.weight", len(embedding), dim))
    size = {"embedding_dim": dim, "hidden_dim": feed, "layers": count, "heads": heads}
    return {"model": "transformer", **size, "norm": "post", "scaled_embedding": True, "tied": tied}, tensors


def _output(source: _Source, tensors: dict[str, Tensor], embedding: Tensor, decoder: Tensor) -> bool:
    """Add embedding and output layer to ``tensors``; return whether the two are tied."""
    tensors["embedding.weight"] = embedding
    tensors["output.bias"] = source.take("decoder.bias", len(embedding))
    tied = torch.equal(embedding, decoder)
    if not tied:
        tensors["output.weight"] = decoder
    return tied


def _widened(matrix: Tensor, columns: int) -> Tensor:
    """Return a matrix with columns of zeros added."""
    return torch.nn.functional.pad(matrix, (0, columns - matrix.shape[1]))


def _check_positions(source: _Source, dim: int) -> None:
    """Raise ModelFileError unless the file's position encoding is the one that ours computes."""
    table = source.take("pos_encoder.pe", None, 1, dim)[:, 0]
    ours = positions(torch.arange(len(table)), dim)
    # A float32 angle of up to 5,000 radians is known to a few ten-thousandths.
    if not torch.allclose(table, ours, rtol=0.0, atol=2e-3):
        found = f"pos_encoder.pe off by {float((table - ours).abs().max()):.3g}"
        raise ModelFileError("positions are not sinusoidal", where=source.path, found=found)


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name."""
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = _CODE.search(str(error))
        what = f"it would run code ({code.group(1)})" if code else "damaged, or not a file of torch.save"
        hint = "save model.state_dict() instead of the model" if code else None
        raise ModelFileError(what, where=path, expected=_SUPPORTED, hint=hint) from error
    except Exception as error:  # torch raises many kinds for a damaged file, some of them without a word
        found = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelFileError("damaged, or not a file of torch.save", where=path, found=found) from error
    if not isinstance(value, dict) or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise ModelFileError("not a state_dict", where=path, expected=_SUPPORTED, found=type(value).__name__)
    return dict(value)


def _read_words(settings: ImportSettings) -> Vocabulary:
    """Return the vocabulary; pytorchnn counts its lines and ignores its ids, so that the two must agree."""
    vocabulary = Vocabulary.read(settings.words, bos=settings.bos, eos=settings.bos, unk=settings.unk or "<unk>")
    lines = [line.split(b" ")[0].decode("utf-8") for line in settings.words.read_bytes().split(b"\n") if line]
    for number, (found, expected) in enumerate(zip(lines, vocabulary.words, strict=True)):
        if found != expected:
            raise VocabularyError(
                "lines are not in the order of their ids, and pytorchnn goes by lines",
                where=f"{settings.words}:{number + 1}",
                expected=f"{expected!r}, which has id {number}",
                found=repr(found),
            )
    return vocabulary
