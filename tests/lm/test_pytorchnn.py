# SPDX-License-Identifier: Apache-2.0
"""A pytorchnn model gives the same log-probabilities after it is imported, and nothing else is imported."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kaldi_mpq.errors import ConfigError, MissingInputError, ModelFileError, VocabularyError
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.lm.normalizer import next_word_logps
from kaldi_mpq.lm.pytorchnn import import_pytorchnn
from kaldi_mpq.lm.settings import ImportSettings

WORDS = ("<eps>", "<s>", "yeah", "<unk>", *(f"w{i}" for i in range(13)))
BOUNDARY = 1
HEADS = 2


class Recurrent(nn.Module):
    """Embedding, torch's recurrent layers, output layer: as the contract describes pytorchnn's."""

    def __init__(self, width: int, cells: int, layers: int, tied: bool, kind: type = nn.LSTM) -> None:
        super().__init__()
        self.encoder = nn.Embedding(len(WORDS), width)
        self.rnn = kind(width, cells, layers)
        self.decoder = nn.Linear(cells, len(WORDS))
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, words: Tensor) -> Tensor:
        """Return (T, N, V) logits of (T, N) words."""
        return self.decoder(self.rnn(self.encoder(words))[0])


class Positions(nn.Module):
    """The table of sines and cosines, (5000, 1, E), as a buffer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        angle = torch.arange(5000.0)[:, None] / 10000 ** (torch.arange(0, dim, 2) / dim)
        table = torch.zeros(5000, 1, dim)
        table[:, 0, 0::2], table[:, 0, 1::2] = angle.sin(), angle.cos()
        self.register_buffer("pe", table)


class Encoder(nn.Module):
    """Scaled embedding, positions, post-norm layers with GELU under a causal mask, output layer."""

    def __init__(self, dim: int, feed: int, layers: int, tied: bool) -> None:
        super().__init__()
        self.pos_encoder = Positions(dim)
        layer = nn.TransformerEncoderLayer(dim, HEADS, feed, 0.0, "gelu")
        self.transformer_encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.encoder = nn.Embedding(len(WORDS), dim)
        self.decoder = nn.Linear(dim, len(WORDS))
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, words: Tensor) -> Tensor:
        """Return (T, N, V) logits of (T, N) words."""
        mask = torch.full((len(words), len(words)), -math.inf).triu(1)
        x = self.encoder(words) * math.sqrt(self.encoder.embedding_dim) + self.pos_encoder.pe[: len(words)]
        return self.decoder(self.transformer_encoder(x, mask))


MODELS = {
    "lstm": lambda: Recurrent(8, 8, 2, tied=True),
    "lstm-untied": lambda: Recurrent(8, 8, 1, tied=False),
    "lstm-wide": lambda: Recurrent(6, 10, 2, tied=False),
    "lstm-narrow": lambda: Recurrent(10, 6, 2, tied=False),
    "transformer": lambda: Encoder(8, 8, 2, tied=True),
    "transformer-untied": lambda: Encoder(8, 12, 3, tied=False),
}


def randomised(model: nn.Module) -> nn.Module:
    """Return the model with every parameter moved, those that start at 0 or 1 too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


@pytest.fixture
def words_txt(tmp_path) -> Path:
    """The vocabulary that the models belong to."""
    path = tmp_path / "words.txt"
    path.write_text("".join(f"{word} {number}\n" for number, word in enumerate(WORDS)))
    return path


@pytest.fixture
def imported(tmp_path, words_txt):
    """Return a function that saves tensors as model.pt, imports them, and returns our model."""

    def run(tensors: dict[str, Tensor] | nn.Module, heads: int | None = HEADS):
        torch.save(tensors, tmp_path / "model.pt")
        import_pytorchnn(ImportSettings(tmp_path / "model.pt", tmp_path / "lm", words_txt, heads=heads))
        return load_lm(tmp_path / "lm")

    return run


@torch.no_grad()
def assert_same_logps(ours, theirs: nn.Module, words: Tensor) -> None:
    """Assert equal log-probabilities of the next word after (N, T) words, at once and word by word."""
    expected = torch.log_softmax(theirs(words.t()).transpose(0, 1).double(), dim=-1)  # (N, T, V)
    whole = torch.log_softmax(ours.logits(ours(words)[0]).double(), dim=-1)
    assert (whole - expected).abs().max() < 1e-4
    state, rows = ours.start(len(words)), torch.arange(len(words))
    for position in range(words.shape[1] - 1):
        hidden, state = ours.advance(state, rows, words[:, position])
        target = words[:, position + 1]
        found = next_word_logps(hidden, rows, target, ours.output_weight, ours.output.bias)
        assert (found.double() - expected[rows, position, target]).abs().max() < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_log_probabilities_stay_the_same(name, imported):
    """Every kind of model scores every word as before, in whole sentences and incrementally."""
    torch.manual_seed(5)
    theirs = randomised(MODELS[name]()).train()  # evaluation takes fast paths, training the plain one; no dropout here
    ours = imported(theirs.state_dict())
    words = torch.cat([torch.full((4, 1), BOUNDARY), torch.randint(0, len(WORDS), (4, 11))], dim=1)
    assert_same_logps(ours, theirs, words)
    assert ours.config.tied == (not name.endswith(("untied", "wide", "narrow")))
    assert (ours.config.bos, ours.config.eos, ours.config.unk) == (BOUNDARY, BOUNDARY, 3)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
@pytest.mark.parametrize("name", ["LSTM", "Transformer"])
def test_kaldis_own_model_scores_the_same(name, imported):
    """The class that Kaldi trains with, saved as Kaldi saves it, agrees with what is imported."""
    root = os.environ.get("KALDI_ROOT")
    source = Path(root or ".", "egs/wsj/s5/steps/pytorchnn/model.py")
    if not root or not source.exists():
        pytest.skip("no KALDI_ROOT with steps/pytorchnn")
    spec = importlib.util.spec_from_file_location("pytorchnn_model", source)
    kaldi = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kaldi)
    torch.manual_seed(6)
    words = torch.cat([torch.full((3, 1), BOUNDARY), torch.randint(0, len(WORDS), (3, 9))], dim=1)
    if name == "LSTM":
        theirs = randomised(kaldi.RNNModel("LSTM", len(WORDS), 8, 8, 2, 0.0, tie_weights=True))
        logits = lambda x: theirs(x, theirs.init_hidden(x.shape[1]))[0]  # noqa: E731
    else:
        theirs = randomised(kaldi.TransformerModel(len(WORDS), 8, HEADS, 8, 2, 0.0, "gelu", tie_weights=True))
        logits = theirs
    assert_same_logps(imported(theirs.train().state_dict()), lambda x: logits(x).view(*x.shape, -1), words)


def test_the_directory_says_what_it_is(imported, tmp_path, words_txt):
    """Shape, words and what made it are there; a perplexity is not, for none was measured."""
    imported(MODELS["transformer-untied"]().state_dict())
    config = json.loads((tmp_path / "lm" / "config.json").read_text())
    expected = {"model": "transformer", "embedding_dim": 8, "hidden_dim": 12, "layers": 3, "heads": 2, "norm": "post"}
    assert config.items() >= expected.items()
    assert config["made_by"]["verb"] == "lm import"
    assert (tmp_path / "lm" / "words.txt").read_bytes() == words_txt.read_bytes()
    names = sorted(path.name for path in (tmp_path / "lm").iterdir())
    assert names == ["config.json", "model.safetensors", "words.txt"]


def test_half_precision_is_read(imported):
    """Weights saved as float16 become float32."""
    halves = {name: tensor.half() for name, tensor in MODELS["lstm"]().state_dict().items()}
    ours = imported(halves)
    assert torch.equal(ours.embedding.weight, halves["encoder.weight"].float())


@pytest.mark.parametrize("heads", [None, 3, 0, 16])
def test_heads_must_divide_the_dimension(imported, heads):
    """Without a possible number of heads the error names the option and the numbers that are possible."""
    with pytest.raises(ConfigError, match=r"--heads is needed.*expected one of 1, 2, 4, 8"):
        imported(MODELS["transformer"]().state_dict(), heads)


@pytest.mark.parametrize(
    ("kind", "message"), [(nn.GRU, "found a GRU"), (nn.RNN, "found a plain RNN")], ids=["gru", "rnn"]
)
def test_other_recurrent_models_are_refused(imported, kind, message):
    """A GRU or plain RNN is named, and so is what is supported."""
    with pytest.raises(ModelFileError, match=rf"LSTM or Transformer.*{message}"):
        imported(Recurrent(8, 8, 1, tied=True, kind=kind).state_dict())


def damaged(name: str, **changed: Tensor | None) -> dict[str, Tensor]:
    """Return a model's tensors, some replaced or (None) removed; ``__`` stands for a dot."""
    tensors = dict(MODELS[name]().state_dict())
    for key, value in changed.items():
        tensors[key.replace("__", ".")] = value
    return {key: value for key, value in tensors.items() if value is not None}


BAD = {
    "nothing known": ({"weight": torch.zeros(2)}, "no tensor encoder.weight"),
    "no layers": (damaged("lstm", rnn__weight_hh_l0=None), "no recurrent or transformer layers"),
    "odd gates": (damaged("lstm", rnn__weight_hh_l0=torch.zeros(40, 8)), r"rnn\.weight_hh_l0 of shape \(40, 8\)"),
    "no bias": (damaged("lstm", rnn__bias_hh_l1=None), r"no tensor rnn\.bias_hh_l1"),
    "bidirectional": (damaged("lstm", rnn__weight_hh_l0_reverse=torch.zeros(32, 8)), r"unknown tensors.*_reverse"),
    "layer left out": (damaged("lstm", rnn__weight_ih_l0=None), r"no tensor rnn\.weight_ih_l0"),
    "other output": (damaged("lstm", decoder__bias=torch.zeros(16)), r"bad tensor decoder\.bias.*\(17\).*\(16,\)"),
    "whole numbers": (damaged("lstm", decoder__bias=torch.zeros(17, dtype=torch.int64)), r"bad tensor.*torch\.int64"),
    "not finite": (damaged("lstm", decoder__bias=torch.full((17,), math.nan)), r"output\.bias is not finite"),
    "no positions": (damaged("transformer", pos_encoder__pe=None), r"no tensor pos_encoder\.pe"),
    "learned positions": (
        damaged("transformer", pos_encoder__pe=torch.randn(50, 1, 8)),
        r"positions are not sinusoidal.*pos_encoder\.pe off by",
    ),
    "final norm": (damaged("transformer", transformer_encoder__norm__weight=torch.ones(8)), r"unknown.*encoder\.norm"),
    "no feed-forward": (
        {key: value for key, value in damaged("transformer").items() if "linear" not in key},
        r"no tensor transformer_encoder\.layers\.0\.linear1\.weight",
    ),
}


@pytest.mark.parametrize(("tensors", "message"), BAD.values(), ids=BAD)
def test_tensors_that_are_not_pytorchnns_are_refused(imported, tmp_path, tensors, message):
    """A state_dict that does not fit is an error that names the tensor, and nothing is written."""
    with pytest.raises(ModelFileError, match=message):
        imported(tensors)
    assert not (tmp_path / "lm").exists()


class Evil:
    """Pickled, it makes a directory when it is read carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_is_never_run(imported, tmp_path):
    """A file that would run code is refused by name, and the code is not run."""
    with pytest.raises(ModelFileError, match=r"model\.pt: it would run code \(.*mkdir\).*state_dict"):
        imported({"encoder.weight": Evil(tmp_path / "ran")})
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert (tmp_path / "ran").exists()  # read carelessly, it does run


def test_a_whole_module_is_refused(imported):
    """torch.save(model) needs its class to be imported: the error says what to save instead."""
    with pytest.raises(ModelFileError, match=r"would run code.*save model\.state_dict\(\)"):
        imported(nn.LSTM(2, 2))


@pytest.mark.parametrize("content", ["empty", "garbage", "half", "list"])
def test_damaged_files_are_refused(imported, tmp_path, words_txt, content):
    """What is no file of tensors is an error that names the file."""
    path = tmp_path / "model.pt"
    torch.save([torch.zeros(2)] if content == "list" else MODELS["lstm"]().state_dict(), path)
    whole = path.read_bytes()
    files = {"empty": b"", "garbage": b"hello\n" * 50, "half": whole[: len(whole) // 2], "list": whole}
    path.write_bytes(files[content])
    with pytest.raises(ModelFileError, match=r"model\.pt: (damaged|not a state_dict)"):
        import_pytorchnn(ImportSettings(path, tmp_path / "lm", words_txt))


def test_words_must_be_as_many_as_the_models(imported, words_txt):
    """A vocabulary of another size is refused with both sizes."""
    words_txt.write_text(words_txt.read_text() + f"more {len(WORDS)}\n")
    with pytest.raises(VocabularyError, match=rf"expected {len(WORDS)} words.*found {len(WORDS) + 1}"):
        imported(MODELS["lstm"]().state_dict())


def test_lines_must_be_in_the_order_of_their_ids(imported, words_txt):
    """pytorchnn numbers words by line: where the ids say something else, words would be mixed up."""
    lines = words_txt.read_text().splitlines(keepends=True)
    lines[2], lines[4] = lines[4], lines[2]
    words_txt.write_text("".join(lines))
    with pytest.raises(VocabularyError, match=r"words\.txt:3: lines are not in the order.*'yeah'.*id 2.*found 'w0'"):
        imported(MODELS["lstm"]().state_dict())


def test_the_boundary_symbol_must_be_a_word(imported, words_txt):
    """Kaldi would silently take an absent boundary for an unknown word; here it is an error."""
    words_txt.write_text(words_txt.read_text().replace("<s> ", "<S> "))
    with pytest.raises(VocabularyError, match=r"no symbol '<s>'.*--bos '<S>'"):
        imported(MODELS["lstm"]().state_dict())


def test_missing_files_are_named_at_once(tmp_path):
    """Both inputs are named in one message."""
    with pytest.raises(MissingInputError, match=r"missing 2.*model\.pt.*words\.txt"):
        import_pytorchnn(ImportSettings(tmp_path / "model.pt", tmp_path / "lm", tmp_path / "words.txt"))
