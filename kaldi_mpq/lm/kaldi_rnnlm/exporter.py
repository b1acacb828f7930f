# SPDX-License-Identifier: Apache-2.0
"""``mpq lm export-kaldi``: an LSTM LM of ours as a Kaldi RNNLM directory that Kaldi's programs and scripts read.

Kaldi's logit of a word is a dot product alone, of the one embedding that is also the network's input. What that cannot
say goes into more dimensions of the embedding:

    ours      h = projection . m          logit(w) = out_w . h + bias_w       input: emb_w
    Kaldi's   [0 | h | 1] = A m + b       logit(w) = [emb_w | out_w | bias_w] . [0 | h | 1]

and the first layer reads nothing but emb_w. Where input and output share the embedding, it is there once. ``<brk>``
gets the probability that ours gives to ``<eps>``, so that the normalisers agree (see `convert.without_break`).

Not here: the bytes (`network_file`), reading such a directory (`importer`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kaldi_mpq.artefact import require, stamp, write_json, writing
from kaldi_mpq.errors import ConfigError, VocabularyError
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.lm.kaldi_rnnlm.cells import Cell
from kaldi_mpq.lm.kaldi_rnnlm.files import BREAK
from kaldi_mpq.lm.kaldi_rnnlm.graph import Atom
from kaldi_mpq.lm.kaldi_rnnlm.network_file import network_bytes
from kaldi_mpq.lm.kaldi_rnnlm.objects import matrix_bytes
from kaldi_mpq.lm.lstm import LstmLm
from kaldi_mpq.lm.settings import ExportSettings
from kaldi_mpq.settings import as_plain
from kaldi_mpq.text.vocab import read_words

__all__ = ["export_kaldi_rnnlm"]


def export_kaldi_rnnlm(settings: ExportSettings) -> str:
    """Write the RNNLM directory and return its shape in one line.

    Raises:
      MissingInputError: naming every file of the LM that is not there.
      ConfigError: the LM is no LSTM, or a packed file.
      ModelFileError: it is damaged or not finite.
      VocabularyError: its words.txt does not fit it, or has ``<brk>`` already.
    """
    lm, out = settings.lm, settings.out
    if lm.is_file():
        raise ConfigError("a packed model", where=lm, expected="an LM directory", hint="name what it was packed from")
    require([lm / name for name in ("config.json", "model.safetensors", "words.txt")], hint="is this an LM directory?")
    model = load_lm(lm)
    if not isinstance(model, LstmLm):
        raise ConfigError("not an LSTM", where=lm / "config.json", expected="model lstm", found=model.config.model)
    config = model.config
    if config.activation_bits:
        raise ConfigError("activations on a grid, which Kaldi's networks have not", where=lm / "config.json",
                          expected="activation_bits 0", found=config.activation_bits)  # fmt: skip
    words = _check_words(lm / "words.txt", config.vocab_size)
    cells, matrix, bias, embedding = _kaldi_layers(model)
    _write(out / "word_embedding.final.mat", b"\0B" + matrix_bytes(embedding))
    _write(out / "config" / "words.txt", _with_break(lm / "words.txt", len(words)))
    _write(out / "config" / "oov.txt", f"{words[config.unk]}\n".encode())
    # All three, though Kaldi's script would leave out ids of 1, 2 and 3: its programs do not run with an empty file.
    options = f"--bos-symbol={config.bos} --eos-symbol={config.eos} --brk-symbol={len(words)} \n"
    _write(out / "special_symbol_opts.txt", options.encode())
    write_json(out / "made_by.json", stamp("lm export-kaldi", as_plain(settings), [lm / "model.safetensors"]))
    _write(out / "final.raw", network_bytes(cells, matrix, bias, text=settings.text))  # last: scripts look for it
    return f"{out}: {len(cells)} layers of {matrix.shape[1]} cells, embeddings of {len(matrix)}, {len(words) + 1} words"


def _check_words(path: Path, size: int) -> list[str]:
    """Return the words of a model of that size, to which Kaldi's break symbol can be added."""
    words = read_words(path)
    if len(words) != size:
        what = "words.txt does not fit the model"
        raise VocabularyError(what, where=path, expected=f"{size} words", found=len(words))
    clash = next((word for word in words if word.lower() == BREAK), None)
    if clash:
        found = f"id {words.index(clash)}"
        raise VocabularyError(f"{clash} is a word already", where=path, expected="Kaldi's to be the last", found=found)
    return words


@torch.no_grad()
def _kaldi_layers(model: LstmLm) -> tuple[list[Cell], np.ndarray, np.ndarray, np.ndarray]:
    """Return layers, output matrix and bias, and embeddings of the network for Kaldi."""
    config = model.config
    parts = [model.embedding.weight] + ([] if config.tied else [model.output_weight]) + [model.output.bias[:, None]]
    rows = torch.cat(parts, dim=1)
    embedding = torch.cat([torch.zeros_like(rows[:1]), rows[1:], rows[:1]])
    width = embedding.shape[1]
    top = torch.eye(config.hidden_dim) if model.projection is None else model.projection.weight
    matrix = torch.zeros(width, config.hidden_dim)
    matrix[width - 1 - config.embedding_dim : width - 1] = top
    bias = torch.zeros(width)
    bias[-1] = 1.0
    cells = []
    for layer in model.layers:
        peephole = torch.zeros(3 * config.hidden_dim) if layer.peephole is None else layer.peephole
        tensors = {"ih": layer.ih, "hh": layer.hh, "bias": layer.bias, "peephole": peephole}
        cells.append(Cell(Atom(""), **{name: _array(tensor) for name, tensor in tensors.items()}))
    cells[0] = replace(cells[0], ih=np.pad(cells[0].ih, ((0, 0), (0, width - config.embedding_dim))))
    return cells, _array(matrix), _array(bias), _array(embedding)


def _with_break(words: Path, number: int) -> bytes:
    """Return words.txt, byte for byte, and one more line."""
    content = words.read_bytes()
    return content + (b"" if content.endswith(b"\n") else b"\n") + f"{BREAK} {number}\n".encode()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().numpy()


def _write(path: Path, content: bytes) -> None:
    with writing(path) as temporary:
        temporary.write_bytes(content)
