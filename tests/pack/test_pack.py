# SPDX-License-Identifier: Apache-2.0
"""``mpq pack`` and back: the same weights bit for bit, in the bytes that the widths say; nothing bad gets through."""

import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kaldi_mpq.cli.main import main
from kaldi_mpq.errors import MissingInputError, ModelFileError, MpqError, VocabularyError
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.pack.format import read_file, write_file
from kaldi_mpq.pack.load import open_lm, words_of
from kaldi_mpq.pack.settings import PackSettings
from kaldi_mpq.pack.units import matching_units
from kaldi_mpq.pack.write import pack_lm
from kaldi_mpq.precision import PrecisionMap
from kaldi_mpq.quant.granularity import Granularity

GRANULARITIES = [Granularity("row"), Granularity("tensor"), Granularity("block", 4)]


def pack(fit, name="packed"):
    """Pack a directory into a fresh one; return the file."""
    out = fit.parent / name / "model.mpq"
    pack_lm(PackSettings(fit, out))
    return out


@pytest.mark.parametrize("shape", ["lstm", "wide", "transformer"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, [1, 32, 2, 16, 4, 8]], ids=str)
def test_the_packed_model_is_the_fitted_one(make_fit, shape, bits):
    """Every tensor comes back bit for bit, at every width and at mixed ones, without the float model's directory."""
    fit = make_fit(shape, bits)
    expected = load_lm(fit).state_dict()
    out = pack(fit)
    for file in fit.iterdir():
        file.unlink()
    found = open_lm(out)
    assert not found.training
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("split", ["gate", "matrix", "rows5"])
def test_every_granularity_and_split_round_trips(make_fit, granularity, split):
    """Scales per unit, row and (short last) block; maps that name gates and maps that name matrices."""
    fit = make_fit("lstm", [2, 8, 1, 4], granularity, split)
    expected = load_lm(fit).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in open_lm(pack(fit)).state_dict().items())


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, [1, 32, 2, 16, 4, 8]], ids=str)
def test_the_file_is_as_small_as_its_bits_say(make_fit, bits):
    """len(file) = header + sum ceil(count * bits / 8) + scales + what is in no unit; size.json has the size on disk."""
    out = pack(make_fit("lstm", bits))
    contents = read_file(out)
    model = open_lm(out)
    precision = PrecisionMap(contents.header["precision"])
    units = matching_units(model, precision)
    matrices = {unit.parameter for unit in units}
    weights = sum(-(-unit.count * precision[unit.name] // 8) for unit in units)
    scales = sum(2 * (unit.stop - unit.start) for unit in units if precision[unit.name] <= 8)
    rest = sum(tensor.numel() for name, tensor in model.state_dict().items() if name not in matrices) * (
        4 if bits == 32 else 2
    )
    size = out.stat().st_size
    assert size == contents.header_bytes + weights + scales + rest
    report = json.loads((out.parent / "size.json").read_text())
    assert report["bytes"] == size
    assert report["float32_bytes"] == 4 * sum(tensor.numel() for tensor in model.state_dict().values())
    assert report["ratio"] == report["float32_bytes"] / size
    if isinstance(bits, int):
        assert report["nominal_mean_bits"] == bits


def test_words_come_along_and_are_checked(make_fit):
    """words.txt is copied beside the file; another one there is refused, when packing and when asking for it."""
    fit = make_fit()
    out = pack(fit)
    assert words_of(out).read_bytes() == (fit / "words.txt").read_bytes()
    assert words_of(fit) == fit / "words.txt"
    (out.parent / "words.txt").write_text("<eps> 0\n")
    with pytest.raises(VocabularyError):
        words_of(out)
    with pytest.raises(VocabularyError):
        pack(fit)


def test_packing_twice_gives_the_same_bytes_but_for_the_stamp(make_fit):
    """Only ``made_by`` (it has the time) may differ."""
    fit = make_fit()
    first, second = read_file(pack(fit)), read_file(pack(fit, "again"))
    assert {**first.header, "made_by": 0} == {**second.header, "made_by": 0}
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_a_flipped_byte_anywhere_is_refused(make_fit):
    """The first 64 bytes, 200 places all over the file, and the last one."""
    out = pack(make_fit())
    good = out.read_bytes()
    places = [*range(64), *random.Random(0).sample(range(len(good)), 200), len(good) - 1]
    for place in places:
        out.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        with pytest.raises(ModelFileError):
            open_lm(out)


def altered(out, change):
    """Rewrite a packed file with a right checksum after ``change(header, tensors)``."""
    contents = read_file(out)
    header, tensors = (
        json.loads(json.dumps(contents.header)),
        {name: tensor.copy() for name, tensor in contents.tensors.items()},
    )
    change(header, tensors)
    write_file(out, header, tensors)


def _nan_scale(header, tensors):
    tensors["embedding.scales"][3] = np.nan


def _inf_bias(header, tensors):
    tensors["output.bias"][0] = np.inf


def _negative_scale(header, tensors):
    tensors["embedding.scales"][0] = -1.0


def _larger_vocabulary(header, tensors):
    header["config"]["vocab_size"] += 1


def _more_layers(header, tensors):
    header["config"]["layers"] += 1


def _other_width(header, tensors):
    header["precision"]["embedding"] = 8


def _no_width(header, tensors):
    header["precision"]["embedding"] = 3


def _unknown_unit(header, tensors):
    header["precision"]["attention"] = 2


def _other_granularity(header, tensors):
    header["granularity"] = {"kind": "tensor", "block": 0}


def _no_config(header, tensors):
    del header["config"]


def _strange_config(header, tensors):
    header["config"]["embedding_dim"] = "many"


def _extra_tensor(header, tensors):
    tensors["extra"] = np.zeros(3, np.float32)


def _lost_tensor(header, tensors):
    del tensors["embedding.codes"]


def _longer_codes(header, tensors):
    tensors["embedding.codes"] = np.append(tensors["embedding.codes"], np.uint8(0))


def _other_type(header, tensors):
    tensors["output.bias"] = tensors["output.bias"].astype(np.float32)


CHANGES = [
    value
    for name, value in sorted(globals().items())
    if name.startswith("_") and callable(value) and hasattr(value, "__code__")
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_a_good_checksum_does_not_excuse(make_fit, change):
    """NaN, infinity, sizes, widths and names that do not fit the configuration: refused with the file's name."""
    out = pack(make_fit())
    altered(out, change)
    with pytest.raises(ModelFileError, match=r"model\.mpq"):
        open_lm(out)


def test_nan_weights_are_not_packed(make_fit):
    """A NaN in the fitted directory is named, not stored."""
    fit = make_fit()
    tensors = load_file(fit / "model.safetensors")
    tensors["layers.1.bias"][2] = float("nan")
    save_file(tensors, fit / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"layers\.1\.bias"):
        pack(fit)


def test_weights_that_are_not_their_codes_are_refused(make_fit):
    """A directory whose float weights were trained on after rounding."""
    fit = make_fit()
    tensors = load_file(fit / "model.safetensors")
    tensors["embedding.weight"][0, 0] += 1e-3
    save_file(tensors, fit / "model.safetensors")
    with pytest.raises(ModelFileError, match="codes stand for"):
        pack(fit)


def test_missing_inputs_are_all_named(tmp_path):
    """An empty directory lacks five files, and one message says so."""
    with pytest.raises(MissingInputError, match="missing 5 input") as caught:
        pack_lm(PackSettings(tmp_path, tmp_path / "model.mpq"))
    assert "quant.safetensors" in str(caught.value)
    with pytest.raises(MissingInputError):
        open_lm(tmp_path / "nothing")


def test_a_full_disk_leaves_nothing(make_fit, monkeypatch):
    """When writing fails, no file and no temporary file is left, and the error is one line."""
    fit = make_fit()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MpqError, match="No space left"):
        pack(fit)
    assert list((fit.parent / "packed").iterdir()) == []


def test_the_command_prints_the_size(make_fit, capsys):
    """``mpq pack FIT OUT``: one summary line on stdout."""
    fit = make_fit()
    assert main(["pack", str(fit), str(fit.parent / "cli" / "model.mpq")]) == 0
    line = capsys.readouterr().out.strip()
    assert line.count("\n") == 0 and f"{(fit.parent / 'cli' / 'model.mpq').stat().st_size} bytes" in line
