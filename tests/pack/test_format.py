# SPDX-License-Identifier: Apache-2.0
"""The file: safetensors, reproducible, aligned, and any damage noticed."""

import json

import numpy as np
import pytest
import safetensors.numpy

from kaldi_mpq.errors import MissingInputError, ModelFileError
from kaldi_mpq.pack import format as format_module
from kaldi_mpq.pack.format import read_file, write_file

TENSORS = {
    "codes": np.arange(13, dtype=np.uint8),
    "scales": np.linspace(0, 1, 5, dtype=np.float16).reshape(5, 1),
    "bias": np.linspace(-1, 1, 3, dtype=np.float32),
}
HEADER = {"config": {"word": "süß"}, "precision": {"codes": 4}}


@pytest.fixture
def path(tmp_path):
    """A small file."""
    write_file(tmp_path / "model.mpq", HEADER, TENSORS)
    return tmp_path / "model.mpq"


def test_contents_come_back(path):
    """Header and tensors, equal and of the same types."""
    contents = read_file(path)
    assert contents.header == HEADER
    assert contents.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert contents.tensors[name].dtype == tensor.dtype
        assert np.array_equal(contents.tensors[name], tensor)
    assert contents.header_bytes + sum(tensor.nbytes for tensor in TENSORS.values()) == path.stat().st_size


def test_it_is_a_safetensors_file(path):
    """The safetensors package reads the same tensors and metadata."""
    loaded = safetensors.numpy.load_file(path)
    assert all(np.array_equal(loaded[name], tensor) for name, tensor in TENSORS.items())
    with safetensors.safe_open(path, framework="numpy") as stream:
        assert json.loads(stream.metadata()["header"]) == HEADER


def test_the_same_contents_give_the_same_bytes(path, tmp_path):
    """Also when the tensors come in another order."""
    write_file(tmp_path / "again", HEADER, dict(reversed(TENSORS.items())))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_tensors_are_mapped_and_aligned(path):
    """Views of the file, not copies, each at a multiple of its element's size, and not writable."""
    for tensor in read_file(path).tensors.values():
        assert not tensor.flags.owndata and not tensor.flags.writeable and tensor.flags.aligned


def test_any_changed_byte_is_noticed(path):
    """Every byte of the file in turn, changed in one bit and in all: length field, header, checksum, data."""
    good = path.read_bytes()
    for place in range(len(good)):
        for mask in (1 << (place % 8), 0xFF):
            bad = bytearray(good)
            bad[place] ^= mask
            path.write_bytes(bad)
            with pytest.raises(ModelFileError):
                read_file(path)


def test_cut_and_extended_files_are_refused(path):
    """Every shorter file, and one with bytes after its end."""
    good = path.read_bytes()
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with pytest.raises(ModelFileError):
            read_file(path)
    path.write_bytes(good + b"\0")
    with pytest.raises(ModelFileError):
        read_file(path)


def test_an_absent_file_is_a_missing_input(tmp_path):
    """Named as such."""
    with pytest.raises(MissingInputError, match="nothing"):
        read_file(tmp_path / "nothing.mpq")


def test_other_versions_are_refused(path, monkeypatch):
    """A whole file of a later version is no damaged one: the message says what to do."""
    monkeypatch.setattr(format_module, "VERSION", "2")
    write_file(path, HEADER, TENSORS)
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match="format version, expected 1, found 2"):
        read_file(path)


def test_other_safetensors_files_are_refused(tmp_path):
    """A float model is no packed one, and the message says how to make one."""
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match="mpq pack"):
        read_file(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]},
        {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2]},
        7,
    ],
    ids=str,
)
def test_tensors_that_are_not_where_they_say_are_refused(tmp_path, entry):
    """A header that lies, under a checksum that is right."""
    checked = json.dumps(
        {
            "__metadata__": {"format": "kaldi_mpq", "format_version": "1", "checksum": "0" * 64, "header": "{}"},
            "t": entry,
        }
    )
    body = len(checked).to_bytes(8, "little") + checked.encode() + bytes(8)
    digest = format_module.hashlib.sha256(body).hexdigest()
    (tmp_path / "bad.mpq").write_bytes(body.replace(b"0" * 64, digest.encode()))
    with pytest.raises(ModelFileError, match="damaged header"):
        read_file(tmp_path / "bad.mpq")
