# SPDX-License-Identifier: Apache-2.0
"""What all engines are measured on: untrained LMs of 30,000 words on the grid of a width, and N-best lists.

Random weights take the time that trained ones take. Each LM is written packed, for ours, and as an archive of float32
arrays of the same values, for peers. The vocabulary is the decode's own, filled up with words that nobody says, so that
`mpq rescore` takes the LMs too. Not here: what is measured (`workloads`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kaldi_mpq import native
from kaldi_mpq.artefact import sha256_of
from kaldi_mpq.lm.checkpoint import load_weights
from kaldi_mpq.lm.model import LanguageModel, ModelConfig, build
from kaldi_mpq.pack.units import matching_units
from kaldi_mpq.pack.write import write_packed
from kaldi_mpq.precision import PrecisionMap
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.quantized import quantize_units, tensors_on_grid
from kaldi_mpq.text.vocab import read_words

__all__ = ["LSTM", "TRANSFORMER", "Materials", "Shape"]

MAX_ARCS = 1_000_000


@dataclass(frozen=True)
class Shape:
    """An LM's architecture: a tied LSTM of as many cells as its embeddings have, or a pre-norm Transformer."""

    model: str
    embedding_dim: int
    hidden_dim: int
    layers: int
    heads: int = 1

    def macs_per_word(self, vocabulary: int) -> int:
        """Return multiplications of a history, its normalisation included; attention among words not counted."""
        e, h = self.embedding_dim, self.hidden_dim
        layer = 4 * h * (e + h) if self.model == "lstm" else 4 * e * e + 2 * e * h
        return self.layers * layer + vocabulary * e


LSTM = Shape("lstm", 650, 650, 2)  # Kaldi's steps/pytorchnn, Switchboard
TRANSFORMER = Shape("transformer", 512, 2048, 6, 8)


class Materials:
    """Files in an empty folder, each made when it is first asked for; the folder is a lang directory too.

    Args:
      folder: where to.
      decode: a Kaldi decode directory.
      lang: the lang directory of its lattices, words.txt and G.fst.
      vocabulary: words of the LMs, as many as in words.txt at least.
    """

    def __init__(self, folder: Path, decode: Path, lang: Path, vocabulary: int) -> None:
        self.folder, self.decode, self.vocabulary = folder, decode, vocabulary
        known = read_words(lang / "words.txt")
        if len(known) > vocabulary:
            raise SystemExit(f"{lang}/words.txt has {len(known)} words, more than {vocabulary}")
        self.bos, self.eos = (known.index(word) for word in ("<s>", "</s>"))
        self.words, self.lang = folder / "words.txt", folder
        (folder / "G.fst").symlink_to((lang / "G.fst").resolve())
        names = [*known, *(f"unsaid{i}" for i in range(len(known), vocabulary))]
        self.words.write_text("".join(f"{word} {i}\n" for i, word in enumerate(names)), encoding="utf-8")

    def lists(self, n: int, every: int) -> Path:
        """Return the file of the N-best lists of every so-manieth utterance."""
        path = self.folder / f"lists_{n}_{every}.npz"
        if not path.exists():
            lattices = self.lattices(every)
            paths = native.nbest(lattices, n, 0.1)
            word_offsets, words = paths.words(lattices)
            offsets = {"lattice_offsets": paths.lattice_offsets, "word_offsets": word_offsets}
            np.savez(path, **offsets, words=words, bos=self.bos, eos=self.eos)
        return path

    def lattices(self, every: int) -> native.Lattices:
        """Return every so-manieth utterance's lattice."""
        found = []
        for archive in sorted(self.decode.glob("lat.*.gz")):
            with native.LatticeReader(str(archive)) as reader:
                found += list(reader.batches(max_arcs=MAX_ARCS))
        everything = native.Lattices.concat(found)
        return everything.select(np.arange(0, len(everything), every))

    def archive(self, every: int) -> Path:
        """Return an archive of every so-manieth utterance's lattice."""
        path = self.folder / f"lat_{every}.ark"
        if not path.exists():
            with native.LatticeWriter(str(path)) as writer:
                writer.write(self.lattices(every))
        return path

    def lm(self, shape: Shape, bits: int) -> tuple[Path, Path]:
        """Return the packed LM and the archive of its weights in float32."""
        packed = self.folder / f"{shape.model}_{bits}bit.mpq"
        floats = packed.with_suffix(".npz")
        if not packed.exists():
            torch.manual_seed(1)
            model = build(self._config(shape)).eval()
            self._write(model, bits, packed)
            np.savez(floats, **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
        return packed, floats

    def _config(self, shape: Shape) -> ModelConfig:
        symbols: dict[str, Any] = {"bos": self.bos, "eos": self.eos, "unk": 0}
        return ModelConfig(vocab_size=self.vocabulary, **symbols, **vars(shape))

    def _write(self, model: LanguageModel, bits: int, path: Path) -> None:
        precision = PrecisionMap.uniform([unit.name for unit in model.units()], bits)
        units = matching_units(model, precision)
        quantized = quantize_units(model.state_dict(), units, precision, Granularity())
        load_weights(model, tensors_on_grid(model.state_dict(), units, precision, quantized), where="benchmark")
        write_packed(path, model, precision, quantized, sha256_of(self.words), {"verb": "benchmark"})
