# SPDX-License-Identifier: Apache-2.0
"""Small models for packing: a directory as ``mpq fit`` leaves it, without training."""

import pytest
import torch

from kaldi_mpq.lm.checkpoint import load_weights, save_lm
from kaldi_mpq.lm.model import build
from kaldi_mpq.pack.units import matching_units
from kaldi_mpq.precision import PrecisionMap
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.quantized import quantize_units, save_quantized, tensors_on_grid

SHAPES = {
    "lstm": {"model": "lstm", "embedding_dim": 10, "hidden_dim": 7, "layers": 2, "tied": True},
    "wide": {"model": "lstm", "embedding_dim": 9, "hidden_dim": 9, "layers": 1, "tied": False},
    "transformer": {
        "model": "transformer",
        "embedding_dim": 12,
        "hidden_dim": 17,
        "layers": 2,
        "heads": 3,
        "tied": True,
    },
}
WORDS = "".join(
    f"{word} {i}\n" for i, word in enumerate(["<eps>", "<s>", "</s>", "<unk>", "süß", *(f"w{i}" for i in range(28))])
)


@pytest.fixture
def make_fit(tmp_path):
    """Return a function (shape, bits per unit or one width, granularity) -> directory."""

    def make(shape="lstm", bits=4, granularity=None, split="gate"):
        torch.manual_seed(1)
        config = {"vocab_size": 33, "bos": 1, "eos": 2, "unk": 3, **SHAPES[shape]}
        model = build(config)
        names = [unit.name for unit in model.units(split)]
        precision = (
            PrecisionMap.uniform(names, bits)
            if isinstance(bits, int)
            else PrecisionMap(dict(zip(names, bits * len(names))))
        )
        units = matching_units(model, precision)
        quantized = quantize_units(model.state_dict(), units, precision, granularity or Granularity())
        load_weights(model, tensors_on_grid(model.state_dict(), units, precision, quantized), where="test")
        out = tmp_path / f"fit_{shape}"
        save_lm(out, model, {"verb": "test"})
        precision.write(out / "precision.json")
        save_quantized(out / "quant.safetensors", quantized)
        (out / "words.txt").write_text(WORDS, encoding="utf-8")
        return out

    return make
