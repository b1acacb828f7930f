# SPDX-License-Identifier: Apache-2.0
"""Models that stay packed against the same file unpacked: scores, states, searches, damage."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kaldi_mpq.errors import ConfigError, ModelFileError, NumericalError
from kaldi_mpq.lm.arena import make_arena
from kaldi_mpq.lm.carried import carried
from kaldi_mpq.lm.lstm import LstmState
from kaldi_mpq.lm.normalizer import make_normalizer
from kaldi_mpq.native.packed import has_fast_kernels
from kaldi_mpq.pack.format import read_file, write_file
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.pack.packed_load import has_packed_kernels, load_packed_weights
from kaldi_mpq.pack.packed_lstm import PackedLstm
from kaldi_mpq.pack.read import load_packed
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.rescore.automata import NeuralAutomaton
from kaldi_mpq.rescore.fusion import Fusion
from kaldi_mpq.rescore.terms import open_terms
from kaldi_mpq.rescore.tree_scores import score_hypotheses
from tests.pack.random_models import sentences, write_random

BASE = {"model": "lstm", "layers": 2, "embedding_dim": 24, "hidden_dim": 24}
KINDS = {
    "tied": {},
    "projected": {"hidden_dim": 37, "projected": True, "layers": 1},
    "untied": {"tied": False},
    "peepholes": {"peephole": True, "layers": 1},
    "grids": {"activation_bits": 4},
}
WIDTHS = (2, 4, 8, 16, 1, 32, 4)


@pytest.fixture
def make_file(tmp_path):
    """Return a function (kind, bits of units in turn, granularity, split) -> a packed file of random weights."""

    def make(kind="tied", bits=WIDTHS, granularity=None, split="gate"):
        return write_random(tmp_path / f"{kind}.mpq", {**BASE, **KINDS[kind]}, bits, granularity, split)

    return make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("activation_bits", "tolerance"), [(32, 2e-5), (16, 1e-3)])
def test_scores_are_those_of_the_unpacked_model(make_file, kind, activation_bits, tolerance):
    """Every word and sentence end, by the prefix tree: within rounding with float activations, else within 1e-3."""
    path = make_file(kind)
    expected = score_hypotheses(load_packed(path), *sentences(), 8192)
    found = score_hypotheses(load_packed_weights(path, activation_bits), *sentences(), 8192)
    assert np.std(expected.word) > 0.2
    np.testing.assert_allclose(found.word, expected.word, atol=tolerance)
    np.testing.assert_allclose(found.final, expected.final, atol=tolerance)


@pytest.mark.parametrize("granularity", [Granularity("tensor"), Granularity("block", 10), Granularity("row")])
@pytest.mark.parametrize("split", ["gate", "matrix", "rows10"])
def test_every_granularity_and_split(make_file, granularity, split):
    """Scales per tensor, row or block; units that are gates, matrices, or some of their rows."""
    path = make_file("projected", (4, 2, 8), granularity, split)
    expected = score_hypotheses(load_packed(path), *sentences(), 8192)
    found = score_hypotheses(load_packed_weights(path), *sentences(), 8192)
    np.testing.assert_allclose(found.word, expected.word, atol=1e-3)


def test_states_are_advanced_and_carried(make_file):
    """States in rows of an arena, carried across utterances, or fed as a batch are the float model's."""
    path = make_file()
    models = load_packed(path), load_packed_weights(path)
    words = torch.tensor([[1, 5, 6], [1, 7, 8]])
    found = []
    for model in models:
        hidden, state = model(words)
        arena = make_arena(model, 9)
        first = arena.advance(torch.tensor([0, 0]), torch.tensor([5, 6]), torch.tensor([3, 4]))
        second = arena.advance(torch.tensor([4, 3, 4]), torch.tensor([7, 7, 8]), torch.tensor([5, 6, 7]))
        context = carried(model, 2, 70)
        context.feed(np.array([1]), [np.array([9, 10])])
        before = context.states(np.array([1]), np.array([3]))
        found.append([hidden, state.hidden, state.cell, first, second, before.hidden, model.embed(words)])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_lattice_search_reads_it(make_file, normalize):
    """An automaton over the packed model gives the costs of one over the float model."""
    path = make_file("projected")
    owners, words = np.zeros(6, np.int32), np.array([5, 6, 7, 8, 9, -1], np.int32)
    costs = []
    for model in (load_packed(path), load_packed_weights(path)):
        automaton = NeuralAutomaton(model, 4, normalize)
        states, first = automaton.read(owners, np.full(6, automaton.start(0), np.int32), words)
        _, second = automaton.read(owners[:5], states[:5], words[1:])
        costs.append(np.concatenate([first, second]))
    np.testing.assert_allclose(costs[1], costs[0], atol=1e-3)


def test_grids_of_activations_are_kept(make_file):
    """A model trained with activations on 4-bit grids is multiplied on these grids, not on rows' own."""
    path = make_file("grids", (4,))
    float_model = load_packed(path)
    state = LstmState(torch.randn(2, 5, 24).clamp(-1, 1), torch.randn(2, 5, 24))
    parents, words = torch.arange(5), torch.arange(3, 8)
    expected, _ = float_model.advance(state, parents, words)
    found, _ = load_packed_weights(path).advance(state, parents, words)
    float_model.see = float_model.layers[0].see = float_model.layers[1].see = torch.nn.Identity()
    without, _ = float_model.advance(state, parents, words)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, without, atol=1e-2)


def test_weights_stay_packed(make_file):
    """The model holds about as many bytes as the file, and no float matrix."""
    path = make_file("tied", (2,))
    model = load_packed_weights(path)
    assert sum(parameter.numel() for parameter in model.parameters()) == 0
    assert model.packed_bytes < 3 * path.stat().st_size  # rows are filled up to 32 columns and panels of 16
    assert torch.equal(model.output_weight, load_packed(path).output_weight)
    assert model.to("cpu") is model
    with pytest.raises(NotImplementedError):
        model.half()


def test_bad_states_are_named(make_file):
    """NaN is an error, not a score."""
    model = load_packed_weights(make_file())
    state = model.start(3)
    hidden = state.hidden.clone()
    hidden[0, 1] = float("nan")
    with pytest.raises(NumericalError, match="not finite"):
        model.advance(LstmState(hidden, state.cell), torch.arange(3), torch.tensor([4, 5, 6]))
    with pytest.raises(NumericalError, match="not finite"):
        make_normalizer(model).log_normalizer(torch.full((2, 24), float("inf")))


def test_what_is_opened_how(make_file, make_fit):
    """auto keeps a packed LSTM packed where there are kernels; float units and directories are unpacked."""
    packed, floats = make_file("tied", (4,)), make_file("projected", (16,))
    assert isinstance(open_lm(packed, "auto"), PackedLstm) == has_fast_kernels()
    assert isinstance(open_lm(packed, "packed8"), PackedLstm)
    assert not isinstance(open_lm(packed), PackedLstm)
    assert has_packed_kernels(packed) and not has_packed_kernels(floats)
    assert not isinstance(open_lm(floats, "auto"), PackedLstm)
    assert not isinstance(open_lm(make_fit(), "packed"), PackedLstm)
    with pytest.raises(ConfigError, match="no kernels"):
        open_lm(floats, "packed")


@pytest.mark.parametrize("damage", ["missing", "extra", "pattern", "tail", "shape", "scale", "bias"])
def test_damage_is_refused(make_file, tmp_path, damage):
    """What the reader of float models refuses is refused here too, with the file's name."""
    path = make_file("tied", (4, 2))
    contents = read_file(path)
    tensors = {name: tensor.copy() for name, tensor in contents.tensors.items()}
    if damage == "missing":
        del tensors["layers.0.bias"]
    elif damage == "extra":
        tensors["more"] = np.zeros(3, np.float16)
    elif damage == "pattern":
        tensors["embedding.codes"][5] = 0x88
    elif damage == "tail":
        tensors["embedding.codes"] = np.r_[tensors["embedding.codes"], np.uint8(1)]
    elif damage == "shape":
        tensors["embedding.scales"] = tensors["embedding.scales"][:-1]
    elif damage == "scale":
        tensors["embedding.scales"][3] = -1
    else:
        tensors["output.bias"][3] = np.nan
    other = tmp_path / "damaged.mpq"
    write_file(other, contents.header, tensors)
    for load in (load_packed, load_packed_weights):
        with pytest.raises(ModelFileError, match=r"damaged\.mpq"):
            load(other)


def test_rescoring_opens_it_packed(make_file, tmp_path):
    """By default a packed LSTM is a packed model on the CPU, unpacked where that is asked for, refused on a GPU."""
    path, words = make_file(), tmp_path / "words.txt"
    fusion = Fusion.single(path, 0.5)
    (default,) = open_terms(fusion, words, torch.device("cpu"))
    assert isinstance(default.model, PackedLstm) == has_fast_kernels()
    (unpacked,) = open_terms(fusion, words, torch.device("cpu"), kernel="torch")
    assert not isinstance(unpacked.model, PackedLstm)
    costs = [term.score(*sentences(), 8192).final for term in (default, unpacked)]
    np.testing.assert_allclose(costs[0], costs[1], atol=1e-3)
    with pytest.raises(ConfigError, match="CPU only"):
        open_terms(fusion, words, torch.device("cuda"), kernel="packed8")
