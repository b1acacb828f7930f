# SPDX-License-Identifier: Apache-2.0
"""Transformers that stay packed against the same file unpacked: scores, states, searches, damage."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from kaldi_mpq import native
from kaldi_mpq.errors import ModelFileError, NumericalError
from kaldi_mpq.lm.arena import make_arena
from kaldi_mpq.lm.carried import carried
from kaldi_mpq.lm.normalizer import make_normalizer
from kaldi_mpq.native.packed import has_fast_kernels, kernel_names
from kaldi_mpq.pack.format import read_file, write_file
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.pack.packed_load import has_packed_kernels, load_packed_weights
from kaldi_mpq.pack.packed_transformer import PackedTransformer
from kaldi_mpq.pack.read import load_packed
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.rescore.automata import NeuralAutomaton
from kaldi_mpq.rescore.lattice_run import rescore_lattices
from kaldi_mpq.rescore.lattice_settings import LatticeSettings
from kaldi_mpq.rescore.run import rescore_nbest
from kaldi_mpq.rescore.settings import NbestSettings
from kaldi_mpq.rescore.tree_scores import score_hypotheses
from kaldi_mpq.text.vocab import Vocabulary
from tests.pack.random_models import sentences, write_random

BASE = {"model": "transformer", "layers": 2, "embedding_dim": 24, "hidden_dim": 40, "heads": 3}
KINDS = {
    "tied": {},
    "untied": {"tied": False},
    "post-norm": {"norm": "post"},
    "unscaled": {"scaled_embedding": False, "heads": 2, "layers": 1},
    "grids": {"activation_bits": 4},
}
WIDTHS = (2, 4, 8, 16, 1, 32, 4)


@pytest.fixture
def make_file(tmp_path):
    """Return a function (kind, bits of units in turn, granularity, split) -> a packed file of random weights."""

    def make(kind="tied", bits=WIDTHS, granularity=None, split="gate"):
        return write_random(tmp_path / f"{kind}.mpq", {**BASE, **KINDS[kind]}, bits, granularity, split)

    return make


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "grids"])
@pytest.mark.parametrize(("activation_bits", "tolerance"), [(32, 1e-4), (16, 1e-3)])
@pytest.mark.parametrize("kernels", kernel_names())
def test_scores_are_those_of_the_unpacked_model(make_file, kind, activation_bits, tolerance, kernels):
    """Every word and sentence end, by the prefix tree: within rounding with float activations, else within 1e-3."""
    path = make_file(kind)
    expected = score_hypotheses(load_packed(path), *sentences(), 8192)
    found = score_hypotheses(load_packed_weights(path, activation_bits, kernels), *sentences(), 8192)
    assert np.std(expected.word) > 0.2
    np.testing.assert_allclose(found.word, expected.word, atol=tolerance)
    np.testing.assert_allclose(found.final, expected.final, atol=tolerance)


def test_eight_bits_are_right_on_average(make_file):
    """With 8-bit activations the mean over a text hardly moves, though words do."""
    path = make_file()
    expected = score_hypotheses(load_packed(path), *sentences(), 8192).word
    found = score_hypotheses(load_packed_weights(path, 8), *sentences(), 8192).word
    assert 1e-4 < np.abs(found - expected).mean() < 3e-2
    assert abs((found - expected).mean()) < 5e-3


@pytest.mark.parametrize("granularity", [Granularity("tensor"), Granularity("block", 10), Granularity("row")])
@pytest.mark.parametrize("split", ["gate", "matrix", "rows10"])
def test_every_granularity_and_split(make_file, granularity, split):
    """Scales per tensor, row or block; units that are matrices, or some of their rows."""
    path = make_file("tied", (4, 2, 8), granularity, split)
    expected = score_hypotheses(load_packed(path), *sentences(), 8192)
    found = score_hypotheses(load_packed_weights(path), *sentences(), 8192)
    np.testing.assert_allclose(found.word, expected.word, atol=1e-3)


@pytest.mark.parametrize("kind", ["tied", "post-norm"])
def test_states_are_advanced_and_carried(make_file, kind):
    """States in rows of an arena or of their own, of different lengths, carried on, or fed as a batch."""
    path = make_file(kind)
    words = torch.tensor([[1, 5, 6], [1, 7, 8]])
    found = []
    for model in (load_packed(path), load_packed_weights(path)):
        hidden, _ = model(words)
        arena = make_arena(model, 9)
        first = arena.advance(torch.tensor([0, 0]), torch.tensor([5, 6]), torch.tensor([3, 4]))
        second = arena.advance(torch.tensor([4, 0, 4]), torch.tensor([7, 7, 8]), torch.tensor([5, 6, 7]))
        context = carried(model, 2, 70)
        context.feed(np.array([1]), [np.array([9, 10])])
        before = context.states(np.array([1, 0]), np.array([3, 3]))
        third, state = model.advance(before, torch.tensor([1, 0, 0]), torch.tensor([5, 6, 7]))
        last, _ = model.advance(state, torch.tensor([2, 0]), torch.tensor([8, 9]))
        levels = model.advance_levels(
            before, [(torch.tensor([1, 0, 0]), torch.tensor([5, 6, 7])), (torch.tensor([2, 0]), torch.tensor([8, 9]))]
        )
        assert torch.allclose(levels, torch.cat([third, last]), atol=1e-5)
        found.append([hidden, first, second, before.keys[:, :3], before.values[:, :3], third, last, model.embed(words)])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-3)


def test_conversations_go_on_in_the_tree(make_file):
    """Hypotheses that start from what was said before have the float model's costs."""
    path = make_file()
    offsets = np.array([0, 2, 3])
    words, ends = np.array([5, 6, 5, 7, 8]), np.array([0, 2, 4, 5])
    found = []
    for model in (load_packed(path), load_packed_weights(path)):
        context = carried(model, 2, 70)
        context.feed(np.array([1]), [np.array([9, 10])])
        start = context.states(np.arange(2), np.array([4, 4]))
        found.append(score_hypotheses(model, offsets, ends, words, 8192, start).word)
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)


@pytest.mark.parametrize("order", [4, 0])
def test_the_lattice_search_reads_it(make_file, order):
    """An automaton over the packed model gives the costs of one over the float model."""
    path = make_file()
    owners, words = np.zeros(6, np.int32), np.array([5, 6, 7, 8, 9, -1], np.int32)
    costs = []
    for model in (load_packed(path), load_packed_weights(path)):
        automaton = NeuralAutomaton(model, order, max_rows=4)
        states, first = automaton.read(owners, np.full(6, automaton.start(0), np.int32), words)
        states, second = automaton.read(owners[:5], states[:5], words[1:])
        _, third = automaton.read(owners[:4], states[:4], words[:4])
        costs.append(np.concatenate([first, second, third]))
    np.testing.assert_allclose(costs[1], costs[0], atol=1e-3)


def test_grids_of_activations_are_kept(make_file):
    """A model trained with activations on 4-bit grids is multiplied on these grids, not on rows' own."""
    path = make_file("grids", (4,))
    float_model, packed_model = load_packed(path), load_packed_weights(path)
    words = torch.tensor([[1, 5, 6, 7, 8, 9]])
    expected, found = float_model(words)[0], packed_model(words)[0]
    for block in float_model.blocks:
        block.see_up = block.see_down = block.attention.see = block.attention.see_mixed = torch.nn.Identity()
    without = float_model(words)[0]
    near = torch.isclose(found, expected, atol=1e-4).all(dim=2).double().mean()
    assert near > 0.6  # a number may be rounded to the other side, of which there are few here
    assert not torch.isclose(found, without, atol=1e-2).all(dim=2).any()


def test_weights_stay_packed(make_file):
    """The model holds about as many bytes as the file, and no float matrix."""
    path = make_file("tied", (2,))
    model = load_packed_weights(path)
    assert sum(parameter.numel() for parameter in model.parameters()) == 0
    assert model.packed_bytes < 3 * path.stat().st_size  # rows are filled up to 32 columns and panels of 16
    assert torch.equal(model.output_weight, load_packed(path).output_weight)
    assert model.to("cpu") is model


def test_bad_states_are_named(make_file):
    """NaN is an error, not a score."""
    model = load_packed_weights(make_file())
    _, state = model.advance(model.start(3), torch.arange(3), torch.tensor([4, 5, 6]))
    state.keys[0, 1] = float("nan")
    with pytest.raises(NumericalError, match="not finite"):
        model.advance(state, torch.arange(3), torch.tensor([4, 5, 6]))
    with pytest.raises(NumericalError, match="not finite"):
        make_normalizer(model).log_normalizer(torch.full((2, 24), float("inf")))


def test_threads_change_no_bit(make_file, monkeypatch):
    """The costs of one thread are those of two and of five."""
    model = load_packed_weights(make_file())
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(score_hypotheses(model, *sentences(), 8192).word)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_what_is_opened_how(make_file):
    """auto keeps a packed Transformer packed where there are kernels."""
    path = make_file()
    assert has_packed_kernels(path)
    assert isinstance(open_lm(path, "auto"), PackedTransformer) == has_fast_kernels()
    assert isinstance(open_lm(path, "packed8"), PackedTransformer)
    assert not isinstance(open_lm(path, "torch"), PackedTransformer)


@pytest.mark.parametrize("damage", ["missing", "extra", "pattern", "shape", "norm", "clip", "heads"])
def test_damage_is_refused(make_file, tmp_path, damage):
    """What does not make a Transformer is refused with the file's name."""
    contents = read_file(make_file("grids", (4, 2)))
    tensors = {name: tensor.copy() for name, tensor in contents.tensors.items()}
    header = {**contents.header, "config": dict(contents.header["config"])}
    if damage == "missing":
        del tensors["blocks.1.norm2.bias"]
    elif damage == "extra":
        tensors["more"] = np.zeros(3, np.float16)
    elif damage == "pattern":
        tensors["embedding.codes"][5] = 0x88
    elif damage == "shape":
        tensors["blocks.0.up.bias"] = tensors["blocks.0.up.bias"][:-1]
    elif damage == "norm":
        tensors["norm.weight"][3] = np.nan
    elif damage == "clip":
        tensors["blocks.0.see_up.clip"][0] = 0
    else:
        header["config"]["heads"] = 5
    other = tmp_path / "damaged.mpq"
    write_file(other, header, tensors)
    with pytest.raises(ModelFileError, match=r"damaged\.mpq"):
        load_packed_weights(other)


@pytest.fixture
def sample_lm(sample, tmp_path):
    """A packed Transformer over the words of the sample's lattices, and the lang directory of their LM."""
    lang = sample / "data" / "lang_tg"
    words = Vocabulary.read(lang / "words.txt")
    shutil.copy(lang / "words.txt", tmp_path / "words.txt")
    symbols = {"vocab_size": len(words), "bos": words.bos, "eos": words.eos, "unk": words.unk}
    return write_random(tmp_path / "model.mpq", {**BASE, **symbols}, (4,), words=tmp_path / "words.txt"), lang


def best_paths(directory) -> list[tuple]:
    """Return utterance, words and graph cost of the best path of every lattice."""
    found = []
    for archive in sorted(directory.glob("lat.*.gz")):
        with native.LatticeReader(str(archive)) as reader:
            for lattices in reader.batches():
                best = native.nbest(lattices, 1, 0.1)
                offsets, words = best.words(lattices)
                for i, key in enumerate(lattices.keys):
                    found.append((key, words[offsets[i] : offsets[i + 1]].tolist(), float(best.graph[i])))
    return found


@pytest.mark.parametrize("verb", ["nbest", "lattice"])
def test_both_verbs_rescore_with_it(sample, sample_lm, tmp_path, verb):
    """The sample's lattices get the costs of the unpacked model, to roundings."""
    lm, lang = sample_lm
    decode = sample / "exp" / "chain" / "tdnn" / "decode_dev_tg"
    found = []
    for kernel in ("torch", "packed"):
        out = tmp_path / kernel
        usual = {"in_dir": decode, "out_dir": out, "lm": lm, "old_lang": lang, "kernel": kernel, "threads": 1, "job": 1}
        if verb == "nbest":
            rescore_nbest(NbestSettings(n=5, **usual))
        else:
            rescore_lattices(LatticeSettings(max_arcs=300, lattice_prune_beam=2, **usual))
        found.append(best_paths(out))
    assert len(found[0]) > 3
    for (key, words, cost), (other_key, other_words, other_cost) in zip(*found, strict=True):
        assert (key, words) == (other_key, other_words)
        assert abs(cost - other_cost) < 1e-3 * (len(words) + 1)
