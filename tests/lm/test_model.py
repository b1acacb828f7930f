# SPDX-License-Identifier: Apache-2.0
"""What every model promises: whole batches and single steps agree, and its parts tile its matrices."""

from __future__ import annotations

import pytest
import torch

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.model import ModelConfig, build

BOS = 21


def test_advancing_word_by_word_gives_what_forward_gives(kind, make_model):
    """Hidden vectors of a tree of histories, fed one word each, are those of whole sentences."""
    model = make_model(kind)
    sentences = torch.tensor([[BOS, 1, 2, 3, 4], [BOS, 1, 2, 7, 7], [BOS, 5, 5, 5, 1]])
    with torch.no_grad():
        whole, _ = model(sentences)
        hidden, state = model.advance(model.start(1), torch.tensor([0]), sentences[:1, 0])
        assert torch.allclose(hidden[0], whole[0, 0], atol=1e-5)
        parents = [[0, 0], [0, 1], [0, 0, 1], [0, 1, 2]]  # the first two sentences share their first three words
        rows = [[0, 2], [0, 2], [0, 1, 2], [0, 1, 2]]
        for position, (parent, row) in enumerate(zip(parents, rows, strict=True), start=1):
            hidden, state = model.advance(state, torch.tensor(parent), sentences[row, position])
            assert torch.allclose(hidden, whole[row, position], atol=1e-5)


def test_histories_may_be_extended_in_any_order(kind, make_model):
    """Parents need not be sorted, and may be left out."""
    model = make_model(kind)
    with torch.no_grad():
        _, state = model.advance(model.start(1), torch.tensor([0]), torch.tensor([BOS]))
        _, state = model.advance(state, torch.tensor([0, 0, 0]), torch.tensor([3, 1, 2]))
        parents, words = torch.tensor([2, 0, 2, 0]), torch.tensor([9, 8, 7, 9])
        hidden, _ = model.advance(state, parents, words)
        whole, _ = model(torch.tensor([[BOS, 2, 9], [BOS, 3, 8], [BOS, 2, 7], [BOS, 3, 9]]))
    assert torch.allclose(hidden, whole[:, -1], atol=1e-5)


def test_what_follows_a_position_does_not_matter(kind, make_model):
    """Padding after the end of a row leaves the positions before it as they are: the models are causal."""
    model = make_model(kind)
    with torch.no_grad():
        short, _ = model(torch.tensor([[BOS, 1, 2]]))
        long, _ = model(torch.tensor([[BOS, 1, 2, 9, 9, 9], [BOS, 4, 4, 4, 4, 4]]))
    assert torch.allclose(short[0], long[0, :3], atol=1e-6)


@pytest.mark.parametrize("split", ["gate", "matrix", "rows5"])
def test_units_tile_every_matrix(kind, split, make_model):
    """Each row of each matrix is in one unit, vectors are in none, and names are unique."""
    model = make_model(kind)
    matrices = {name: parameter.shape for name, parameter in model.named_parameters() if parameter.dim() == 2}
    rows = {name: [] for name in matrices}
    units = model.units(split)
    for unit in units:
        rows[unit.parameter] += range(unit.start, unit.stop)
        assert unit.columns == matrices[unit.parameter][1]
    assert rows == {name: list(range(shape[0])) for name, shape in matrices.items()}
    assert len({unit.name for unit in units}) == len(units)
    assert sum(unit.count for unit in units) == sum(shape.numel() for shape in matrices.values())


def test_gates_are_units_of_their_own(make_model):
    """By default the four gates of an LSTM matrix are apart, whole matrices are not."""
    model = make_model("lstm")
    gates = [f"layers.0.ih.{gate}" for gate in ("input", "forget", "cell", "output")]
    assert [unit.name for unit in model.units() if unit.parameter == "layers.0.ih"] == gates
    assert [unit.name for unit in model.units("matrix") if unit.parameter == "layers.0.ih"] == ["layers.0.ih"]


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_output_layer_is_the_embedding(kind, tied, make_model):
    """Tied, the output matrix is the embedding itself and is counted once; else it is another matrix."""
    model = make_model(kind, tied=tied)
    assert (model.output_weight is model.embedding.weight) == tied
    assert ("output" in [unit.name for unit in model.units("matrix")]) != tied


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "gru"}, "one of lstm, transformer"),
        ({"layers": 0}, "bad value for layers"),
        ({"embedding_dim": -4}, "bad value for embedding_dim"),
        ({"heads": 0}, "bad value for heads"),
        ({"dropout": 1.0}, "bad value for dropout"),
        ({"norm": "middle"}, "bad value for norm"),
        ({"eos": 23}, "bad value for eos.*below 23"),
        ({"layers": "two"}, "bad value for layers"),
        ({"layer": 2}, "unknown setting 'layer'; did you mean 'layers'"),
        ({"model": "transformer", "heads": 5}, "even multiple of 5 heads"),
    ],
)
def test_bad_configurations_are_refused(changed, message):
    """A configuration that no model has is an error that names the setting."""
    good = ModelConfig("lstm", vocab_size=23, bos=21, eos=22, unk=20, embedding_dim=8, hidden_dim=8, layers=1)
    with pytest.raises(ConfigError, match=message):
        build({**good.to_dict(), **changed})


def test_an_incomplete_configuration_names_what_is_missing():
    """A missing key is named."""
    with pytest.raises(ConfigError, match="vocab_size"):
        ModelConfig.from_dict({"model": "lstm"})
