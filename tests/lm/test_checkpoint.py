# SPDX-License-Identifier: Apache-2.0
"""Models and checkpoints on disk: what is read back, and what is refused."""

from __future__ import annotations

import json
import math
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from kaldi_mpq.errors import ConfigError, MissingInputError, ModelFileError, MpqError
from kaldi_mpq.lm.checkpoint import load_lm, read_checkpoint, save_lm, write_checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def saved(make_model, tmp_path):
    """The directory of a small LSTM."""
    save_lm(tmp_path / "lm", make_model("lstm"), {"verb": "test"})
    return tmp_path / "lm"


def test_a_model_survives_its_directory(kind, make_model, tmp_path):
    """Every kind of model is read back with the same configuration and weights, ready to evaluate."""
    model = make_model(kind)
    save_lm(tmp_path, model, {"verb": "test"})
    back = load_lm(tmp_path)
    assert back.config == model.config
    assert not back.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name])
    assert json.loads((tmp_path / "config.json").read_text())["made_by"] == {"verb": "test"}


def test_both_missing_files_are_named(tmp_path):
    """A directory that holds no model is an error that lists what it lacks."""
    with pytest.raises(MissingInputError, match=r"missing 2.*config\.json.*model\.safetensors"):
        load_lm(tmp_path)


@pytest.mark.parametrize("size", [0, 5, 300, -1])
def test_a_truncated_model_is_refused(saved, size):
    """A file that ends early is named, wherever it ends."""
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelFileError, match=r"model\.safetensors: damaged"):
        load_lm(saved)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_refused(saved, value):
    """The tensor, the value and its place are named."""
    tensors = load_file(saved / "model.safetensors")
    tensors["layers.1.hh"][3, 2] = value
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(ModelFileError, match=rf"model\.safetensors: tensor layers\.1\.hh.*{value} at \[3, 2\]"):
        load_lm(saved)


def test_missing_added_and_misshapen_tensors_are_refused(saved):
    """A file whose tensors are not those of its configuration is refused with the name of the first."""
    path = saved / "model.safetensors"
    good = load_file(path)
    bad = {
        r"layers\.0\.ih.*found nothing": {name: value for name, value in good.items() if name != "layers.0.ih"},
        r"extra.*expected no such tensor": {**good, "extra": torch.zeros(2)},
        r"output\.bias.*expected \(23,\).*found \(24,\)": {**good, "output.bias": torch.zeros(24)},
    }
    for message, tensors in bad.items():
        save_file(tensors, path)
        with pytest.raises(ModelFileError, match=message):
            load_lm(saved)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ('{"model": "lstm"', MpqError, "not valid JSON"),
        ("[1, 2]", ModelFileError, "not a configuration"),
        ('{"model": "lstm"}', ConfigError, "vocab_size"),
    ],
)
def test_a_bad_configuration_is_refused(saved, content, error, message):
    """config.json is checked before it is used."""
    (saved / "config.json").write_text(content)
    with pytest.raises(error, match=message):
        load_lm(saved)


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch, make_model):
    """When the disk is full the model that was there is still there, and no rest of the new one."""
    before = (saved / "model.safetensors").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MpqError, match=r"model\.safetensors: cannot write: No space left"):
        save_lm(saved, make_model("lstm-projected"), {})
    assert (saved / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]


def test_a_checkpoint_keeps_values_of_every_kind(tmp_path):
    """Tensors, floats without loss, infinity, None, nested and numbered entries come back as they were."""
    state = {
        "tensors": {"a": torch.randn(3, 2), "b": torch.tensor([1, 2], dtype=torch.uint8)},
        "numbered": {0: {"step": torch.tensor(4.0)}, 1: {}},
        "values": [0.1, 1e-300, math.inf, None, True, "text", 7],
        "many": [torch.tensor(float(i)) for i in range(700)],
    }
    write_checkpoint(tmp_path / "checkpoint.pt", state)
    back = read_checkpoint(tmp_path / "checkpoint.pt", CPU)
    assert back["values"] == state["values"]
    assert list(back["numbered"]) == [0, 1]
    assert back["numbered"][0]["step"].item() == 4.0
    assert [tensor.item() for tensor in back["many"]] == list(range(700))
    for name, tensor in state["tensors"].items():
        assert torch.equal(tensor, back["tensors"][name])
        assert back["tensors"][name].dtype == tensor.dtype


class Evil:
    """Pickled, it makes a file when it is read carelessly."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_never_runs_code(tmp_path):
    """A checkpoint with code in it is refused, and the code is not run."""
    torch.save({"plain": "{}", "tensors": [Evil(tmp_path / "ran")]}, tmp_path / "checkpoint.pt")
    with pytest.raises(MpqError, match=r"checkpoint\.pt: damaged checkpoint"):
        read_checkpoint(tmp_path / "checkpoint.pt", CPU)
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "checkpoint.pt", weights_only=False)
    assert (tmp_path / "ran").exists()  # read carelessly, it does run


@pytest.mark.parametrize("size", [0, 10, 500, -10])
def test_a_damaged_checkpoint_is_refused(tmp_path, size):
    """A checkpoint that ends early says what to do."""
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"a": torch.randn(100)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(MpqError, match=r"damaged checkpoint.*remove it to start anew"):
        read_checkpoint(path, CPU)
