# SPDX-License-Identifier: Apache-2.0
"""``mpq lm import RNNLM_DIR OUT``: the RNNLM that a Kaldi user has as an LM directory of ours.

Not here: reading its files (`nnet3`, `files`), what its network is made of (`graph`, `cells`) and becomes (`convert`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from kaldi_mpq.artefact import stamp, writing
from kaldi_mpq.errors import ModelFileError, VocabularyError
from kaldi_mpq.lm.checkpoint import load_weights, save_lm
from kaldi_mpq.lm.kaldi_rnnlm.cells import stacked_cells
from kaldi_mpq.lm.kaldi_rnnlm.convert import NO_PROBABILITY, lm_tensors, without_break
from kaldi_mpq.lm.kaldi_rnnlm.files import BREAK, check_complete, read_embedding, read_oov, read_symbols
from kaldi_mpq.lm.kaldi_rnnlm.graph import Graph
from kaldi_mpq.lm.kaldi_rnnlm.nnet3 import read_network
from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.lm.settings import ImportSettings
from kaldi_mpq.settings import as_plain
from kaldi_mpq.text.vocab import Vocabulary, read_words

__all__ = ["import_kaldi_rnnlm"]


def import_kaldi_rnnlm(settings: ImportSettings) -> str:
    """Write ``OUT/{config.json,model.safetensors,words.txt}`` of an RNNLM directory; return its shape in one line.

    Raises:
      MissingInputError: naming every file that is not there.
      ModelFileError: a file is damaged or not finite, dimensions do not fit, or the network is not a stack of LSTM
        layers (what was found and what is supported are named).
      VocabularyError: words.txt or special_symbol_opts.txt is malformed or does not fit the embeddings.
    """
    directory = settings.model
    words_txt = settings.words or directory / "config" / "words.txt"
    check_complete(directory, words_txt)
    words = read_words(words_txt)
    bos, eos = read_symbols(directory / "special_symbol_opts.txt", words)
    unk = Vocabulary.read(
        words_txt, bos=words[bos], eos=words[eos], unk=settings.unk or read_oov(directory) or "<unk>"
    ).unk
    embedding, source = read_embedding(directory)
    if len(embedding) != len(words):
        found, expected = f"{len(words)} words", f"{len(embedding)} as in {source}"
        raise VocabularyError("words.txt does not fit the embeddings", where=words_txt, expected=expected, found=found)
    shape, tensors = _read_layers(directory / "final.raw", embedding)
    kept = words_txt.read_bytes()
    if words[-1].lower() == BREAK:
        without_break(tensors)
        kept = _without_line(kept, f"{words.pop()} {len(words)}")
    else:
        tensors["output.bias"][0] = NO_PROBABILITY  # Kaldi gives <eps> none
    model = build(ModelConfig(vocab_size=len(words), bos=bos, eos=eos, unk=unk, backward=settings.backward, **shape))
    load_weights(model, tensors, where=directory)
    save_lm(settings.out, model, stamp("lm import", as_plain(settings), [directory / "final.raw", source, words_txt]))
    with writing(settings.out / "words.txt") as temporary:
        temporary.write_bytes(kept)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    shown = ", ".join(f"{name} {value}" for name, value in shape.items())
    return f"{settings.out}: {shown}, {len(words)} words, {parameters} parameters"


def _read_layers(path: Path, embedding: np.ndarray) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Return configuration and tensors of a network, as `lm_tensors` does, once it is known to fit the embeddings."""
    graph = Graph(read_network(path), path)
    cells, matrix, bias = stacked_cells(graph)
    if len({cell.hh.shape[1] for cell in cells}) > 1:
        listed = ", ".join(str(cell.hh.shape[1]) for cell in cells)
        raise graph.refuse(f"layers of {listed} cells: they must have the same number")
    for what, dim in (("input", cells[0].ih.shape[1]), ("output", len(matrix))):
        if dim != embedding.shape[1]:
            raise ModelFileError(
                f"the network's {what} does not fit the embeddings",
                where=path,
                expected=f"dimension {embedding.shape[1]}",
                found=dim,
            )
    return lm_tensors(cells, matrix, bias, embedding)


def _without_line(content: bytes, line: str) -> bytes:
    """Return a words.txt without one of its lines, the others byte for byte as they were."""
    return b"".join(kept for kept in content.splitlines(keepends=True) if kept.rstrip(b"\n") != line.encode())
