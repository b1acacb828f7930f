# SPDX-License-Identifier: Apache-2.0
"""An RNNLM of Kaldi's gives the same scores after it is imported, and nothing else is imported."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from kaldi_mpq.errors import ConfigError, MissingInputError, ModelFileError, VocabularyError
from kaldi_mpq.fit.run import fit_lm
from kaldi_mpq.fit.settings import FitSettings
from kaldi_mpq.lm.imports import import_lm
from kaldi_mpq.lm.settings import ImportSettings
from kaldi_mpq.pack.read import load_packed
from kaldi_mpq.pack.settings import PackSettings
from kaldi_mpq.pack.write import pack_lm
from kaldi_mpq.text.prepare import prepare_text
from kaldi_mpq.text.settings import TextSettings
from tests.lm.kaldi_rnnlm.networks import BOS, EOS, TOYS, UNK, WORDS, Toy, component, text_of

SENTENCE = [BOS, 3, 1, 4, 1, 5, UNK, 2, 6]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities over all words but <eps>, as Kaldi normalises."""
    return logits - np.logaddexp.reduce(logits[:, 1:], axis=1, keepdims=True)


@pytest.mark.parametrize("kind", TOYS)
def test_scores_are_those_of_the_equations(kind, imported, tmp_path):
    """Every word's logit and probability, over all words but <eps>, is what the network's equations give."""
    toy = TOYS[kind]()
    model = imported(toy.write(tmp_path / "rnnlm"))
    expected = toy.logits(SENTENCE)
    with torch.no_grad():
        logits = model.logits(model(torch.tensor([SENTENCE]))[0][0]).double()
    words = slice(1, len(WORDS) - 1)
    assert np.abs(logits.numpy()[:, words] - expected[:, words]).max() < 1e-4
    logps = torch.log_softmax(logits, dim=1).numpy()
    assert np.abs(logps[:, words] - log_softmax(expected)[:, words]).max() < 1e-4


@pytest.mark.parametrize("kind", TOYS)
@torch.no_grad()
def test_word_by_word_is_as_all_at_once(kind, imported, tmp_path):
    """States advanced one word at a time give the hidden vectors of whole sentences, peepholes and all."""
    model = imported(TOYS[kind]().write(tmp_path / "rnnlm"))
    whole, last = model(torch.tensor([SENTENCE]))
    state = model.start(1)
    for position, word in enumerate(SENTENCE):
        hidden, state = model.advance(state, torch.zeros(1, dtype=torch.int64), torch.tensor([word]))
        assert torch.allclose(hidden, whole[:, position], atol=1e-5)
    assert torch.allclose(state.cell, last.cell, atol=1e-5)


def test_the_words_are_those_of_the_lattices(imported, tmp_path):
    """words.txt is Kaldi's byte for byte without <brk>, and the special symbols have their ids."""
    directory = TOYS["fast"]().write(tmp_path / "rnnlm")
    model = imported(directory)
    lines = (directory / "config" / "words.txt").read_bytes().splitlines(keepends=True)
    assert (tmp_path / "lm" / "words.txt").read_bytes() == b"".join(lines[:-1])
    config = json.loads((tmp_path / "lm" / "config.json").read_text())
    assert (config["vocab_size"], config["bos"], config["eos"], config["unk"]) == (len(WORDS) - 1, BOS, EOS, UNK)
    assert config["peephole"] and not config["projected"] and model.projection.weight.shape == (5, 6)
    assert config["made_by"]["verb"] == "lm import"


def test_without_a_break_symbol_eps_has_no_probability(imported, tmp_path):
    """An RNNLM whose last word is not <brk> keeps all its words, and <eps> stays out of the normaliser."""
    toy = TOYS["fast"]()
    directory = toy.write(tmp_path / "rnnlm")
    words = directory / "config" / "words.txt"
    words.write_text(words.read_text().replace("<brk>", "last"))
    model = imported(directory)
    assert model.config.vocab_size == len(WORDS)
    with torch.no_grad():
        logps = torch.log_softmax(model.logits(model(torch.tensor([SENTENCE]))[0][0]).double(), dim=1).numpy()
    assert np.abs(logps - log_softmax(toy.logits(SENTENCE)))[:, 1:].max() < 1e-4


def test_embeddings_from_features_are_their_sums(imported, tmp_path):
    """feat_embedding.final.mat and word_feats.txt are read where there is no word_embedding.final.mat."""
    toy = TOYS["fast"]()
    directory = toy.write(tmp_path / "rnnlm")
    before = imported(directory).embedding.weight[1:].clone()
    sparse = np.zeros((len(WORDS), 7))
    lines = []
    for number in range(len(WORDS)):
        features = toy.random.choice(7, size=number % 4, replace=False)
        sparse[number, features] = toy.random.integers(1, 5, len(features)) / 4
        lines.append(f"{number}\t{' '.join(f'{k} {sparse[number, k]:g}' for k in features)}\n")
    features = toy.matrix(7, toy.dim)
    (directory / "word_embedding.final.mat").unlink()
    (directory / "word_feats.txt").write_text("".join(lines))
    (directory / "feat_embedding.final.mat").write_text(text_of(features))
    after = imported(directory).embedding.weight[1:]
    expected = torch.from_numpy((sparse @ features).astype(np.float32))[1:-1]
    assert torch.allclose(after, expected, atol=1e-6)
    assert not torch.allclose(before, after, atol=1e-2)


def test_default_ids_need_no_options(imported, tmp_path):
    """Kaldi leaves special_symbol_opts.txt empty where the ids are 1, 2 and 3: these are taken, if they are right."""
    directory = TOYS["fast"]().write(tmp_path / "rnnlm")
    (directory / "special_symbol_opts.txt").write_text("")
    with pytest.raises(VocabularyError, match=r"opts\.txt: no --bos-symbol.*<s>.*found 1, which is 'w1'"):
        imported(directory)
    order = ["<eps>", "<s>", "</s>", *(word for word in WORDS[1:] if word not in ("<s>", "</s>"))]
    (directory / "config" / "words.txt").write_text("".join(f"{word} {i}\n" for i, word in enumerate(order)))
    assert (imported(directory).config.bos, imported(directory).config.eos) == (1, 2)


def test_an_imported_model_is_fitted_and_packed(imported, tmp_path, our_scores):
    """Peepholes and projection go through rounding to 8 bits and packing; the packed file scores nearly as before."""
    model = imported(TOYS["slow"]().write(tmp_path / "rnnlm"))
    (tmp_path / "text").write_text("".join(f"u{i} w1 w2 w3 w{1 + i % 8}\n" for i in range(20)))
    text = tmp_path / "text"
    prepare_text(TextSettings(tmp_path / "data", tmp_path / "lm" / "words.txt", text, text))
    options = {"data": tmp_path / "data", "method": "round", "bits": 8, "device": "cpu", "threads": 1}
    fit_lm(FitSettings(out=tmp_path / "fit", lm=tmp_path / "lm", **options))
    pack_lm(PackSettings(fit=tmp_path / "fit", out=tmp_path / "fit" / "model.mpq"))
    packed = load_packed(tmp_path / "fit" / "model.mpq")
    assert torch.equal(packed.layers[0].peephole, model.layers[0].peephole.half().float())
    floats, bytes_ = (our_scores(each, [SENTENCE[1:]], True)[0] for each in (model, packed))
    assert 1e-5 < np.abs(floats - bytes_).max() < 0.2


def test_an_imported_model_can_be_trained_on(imported, tmp_path):
    """Gradients reach every parameter, peepholes too."""
    model = imported(TOYS["mixed"]().write(tmp_path / "rnnlm")).train()
    hidden, _ = model(torch.tensor([SENTENCE]))
    torch.nn.functional.cross_entropy(model.logits(hidden[0, :-1]), torch.tensor(SENTENCE[1:])).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def replaced(directory, name: str, old: str, new: str) -> None:
    """Change a file of a directory; the old text must be in it."""
    content = (directory / name).read_text()
    assert re.search(old, content)
    (directory / name).write_text(re.sub(old, new, content, count=1))


NETWORK, EMBEDDING = "final.raw", "word_embedding.final.mat"
TOP = r"input=lstm2\.m$"
CHANGES = {
    "nan": (NETWORK, r"(<LinearParams>  \[\s+)\S+", r"\1nan", r"lstm1\.W_all's <LinearParams> is not finite.*\[0, 0\]"),
    "infinite peephole": (NETWORK, r"(<Params>  \[\s+)\S+", r"\1-inf", r"lstm1\.lstm_nonlin's <Params> is not finite"),
    "other input": (NETWORK, "input dim=5", "input dim=6", r"component lstm1\.W_all takes 11 values, its input has 12"),
    "delay": (NETWORK, r"m_trunc, -1", "m_trunc, -2", r"lstm1\.lstm_nonlin\.output at -2"),
    "future": (NETWORK, r"c_trunc, -1", "c_trunc, 1", r"instead of its own state at -1"),
    "always defined": (
        NETWORK,
        r"IfDefined\(Offset\(lstm1\.m_trunc, -1\)\)",
        "Offset(lstm1.m_trunc, -1)",
        r"Offset\(...\) read by lstm1\.W_all",
    ),
    "a descriptor": (NETWORK, TOP, "input=Round(lstm2.m, 3)", r"Round\(\.\.\.\) read by output\.affine"),
    "skips": (NETWORK, TOP, "input=Append(lstm1.m, lstm2.m)", r"takes 6 values, its input has 12"),
    "sum of layers": (NETWORK, TOP, "input=Sum(lstm1.m, lstm2.m)", r"an output of lstm1\..*, lstm2\..* instead"),
    "bad descriptor": (NETWORK, TOP, "input=Append(lstm2.m", r"node output\.affine: bad descriptor"),
    "no node": (NETWORK, TOP, "input=lstm3.m", r"no node lstm3\.m"),
    "no component": (NETWORK, r"component=output\.affine", "component=output", r"has no component output"),
    "the embedding": (EMBEDDING, r"\n +\S+", "\n", r"rows of different lengths"),
    "rows": (EMBEDDING, r"\n.*\n", "\n", r"words\.txt does not fit the embeddings, expected 13 as in .*found 14 words"),
    "nan embedding": (EMBEDDING, r"\n +\S+", "\n nan", r"the matrix is not finite"),
    "no matrix": (EMBEDDING, r"[\s\S]+", "hello", r"not a matrix of Kaldi's"),
    "two matrices": (EMBEDDING, r"\]", "] [ 1 2 ]", r"more than a matrix"),
    "bos": ("special_symbol_opts.txt", "11", "110", r"bad --bos-symbol.*found 110, which is no word"),
    "option": ("special_symbol_opts.txt", "--bos", "--bossy", r"bad special symbols.*'--bossy-symbol=11'"),
    "oov": ("config/oov.txt", "<unk>", "<UNK>", r"no symbol '<UNK>'.*has '<unk>'"),
    "words": ("config/words.txt", "w3 3", "w3 2", r"id 2 is used twice"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_refused_by_name(change, imported, tmp_path):
    """Each fault is an error that says where it is and what was found, and nothing is written."""
    name, old, new, message = CHANGES[change]
    directory = TOYS["fast"]().write(tmp_path / "rnnlm")
    replaced(directory, name, f"(?m){old}", new)
    with pytest.raises((ModelFileError, VocabularyError), match=message):
        imported(directory)
    assert not (tmp_path / "lm").exists()


def test_unsupported_components_are_named_with_what_is_supported(imported, tmp_path):
    """A network with other components is refused in one error: all of them, and the types that are supported."""
    toy = TOYS["fast"]()
    rest = "<Dim> 5 <ValueAvg>  [ ]\n<DerivAvg>  [ ]\n<Count> 0 "
    toy.components.insert(0, component("tdnn1.relu", "RectifiedLinearComponent", rest))
    toy.components.append(component("tdnn1.renorm", "NormalizeComponent", "<InputDim> 5 <TargetRms> 1 "))
    with pytest.raises(ModelFileError) as error:
        imported(toy.write(tmp_path / "rnnlm"))
    assert "found tdnn1.relu (RectifiedLinearComponent), tdnn1.renorm (NormalizeComponent)" in str(error.value)
    assert "lstm-layer, fast-lstm-layer and affine layers" in str(error.value)
    assert "LstmNonlinearityComponent" in str(error.value)


@pytest.mark.parametrize(
    ("toy", "message"),
    [
        (lambda: Toy(decay=0.95).fast("lstm1", 5), r"lstm1\.cm_trunc with scale=0\.95 \(decay-time\)"),
        (lambda: Toy(decay=0.95).slow("lstm1", 5), r"lstm1\.c with scale=0\.95"),
        (lambda: Toy().fast("lstm1", 5, delay=-3), r"lstm1\.lstm_nonlin\..* at -3"),
        (lambda: Toy().affine("output.affine", 5), r"no LSTM layer"),
        (lambda: Toy().fast("lstm1", 6).fast("lstm2", 5), r"layers of 6, 5 cells"),
        (lambda: Toy().fast("lstm1", 6), r"output does not fit the embeddings, expected dimension 5, found 6"),
    ],
    ids=["decay fast", "decay slow", "delay", "no layer", "sizes", "output"],
)
def test_networks_that_we_have_no_layers_for_are_refused(toy, message, imported, tmp_path):
    """Decay, other delays, layers of different sizes and the like are said, not approximated."""
    with pytest.raises(ModelFileError, match=message):
        imported(toy().write(tmp_path / "rnnlm"))


def test_a_biased_recurrent_projection_is_refused(imported, tmp_path):
    """Before the first word an lstmp-layer's projection is nothing, not its bias: what cannot be folded is not."""
    toy = Toy().fast("lstm1", 5)
    projection = Toy().affine("lstm1.rp", 5)
    toy.components += projection.components
    toy.nodes = [node.replace("Offset(lstm1.m_trunc", "Offset(lstm1.rp") for node in toy.nodes]
    toy.nodes.append("component-node name=lstm1.rp component=lstm1.rp input=lstm1.m")
    with pytest.raises(ModelFileError, match=r"a biased value of the word before, read by lstm1\.W_all"):
        imported(toy.write(tmp_path / "rnnlm"))


def test_missing_files_are_named_at_once(tmp_path):
    """One message names every file that is not there, both kinds of embeddings too."""
    (tmp_path / "rnnlm" / "config").mkdir(parents=True)
    with pytest.raises(MissingInputError) as error:
        import_lm(ImportSettings(tmp_path / "rnnlm", tmp_path / "lm"))
    for name in ("missing 4", "final.raw", "config/words.txt", "special_symbol_opts.txt", "word_embedding.final.mat"):
        assert name in str(error.value)
    (tmp_path / "rnnlm" / "word_feats.txt").touch()
    with pytest.raises(MissingInputError, match=r"missing 4.*feat_embedding\.final\.mat"):
        import_lm(ImportSettings(tmp_path / "rnnlm", tmp_path / "lm"))


def test_kinds_are_told_apart(tmp_path):
    """A network without its directory is refused with a hint; a model.pt needs --words; all missing is named."""
    directory = TOYS["fast"]().write(tmp_path / "rnnlm")
    with pytest.raises(ModelFileError, match=r"an nnet3 network alone; name its directory"):
        import_lm(ImportSettings(directory / "final.raw", tmp_path / "lm"))
    torch.save({}, tmp_path / "model.pt")
    with pytest.raises(ConfigError, match=r"--words is needed"):
        import_lm(ImportSettings(tmp_path / "model.pt", tmp_path / "lm"))
    with pytest.raises(MissingInputError, match=r"nothing.*words\.txt"):
        import_lm(ImportSettings(tmp_path / "nothing", tmp_path / "lm", tmp_path / "words.txt"))


@pytest.mark.parametrize(
    ("line", "found"), [("3\t0 1 2", "3"), ("2\t0 1", "2"), ("3\t9 1", "9"), ("3\t0 x", "x"), ("3\t0 nan", "nan")]
)
def test_bad_word_features_are_refused_by_line(line, found, imported, tmp_path):
    """Odd fields, ids out of order, unknown features and no numbers are errors with file and line."""
    directory = TOYS["fast"]().write(tmp_path / "rnnlm")
    (directory / "word_embedding.final.mat").rename(directory / "feat_embedding.final.mat")
    (directory / "feat_embedding.final.mat").write_text(text_of(np.ones((4, 5))))
    lines = [f"{number}\t0 1" for number in range(len(WORDS))]
    lines[3] = line
    (directory / "word_feats.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(ModelFileError, match=rf"word_feats\.txt:4: bad line.*{found}"):
        imported(directory)
