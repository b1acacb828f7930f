# SPDX-License-Identifier: Apache-2.0
"""Where bytes come from: they arrive unchanged, and whatever goes wrong outside is raised with its name."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kaldi_mpq.errors import LatticeError, MissingInputError
from kaldi_mpq.native import LatticeReader
from kaldi_mpq.native.sources import open_source, split_offset

DATA = random.Random(1).randbytes(700_000)


def everything(name: str, size: int = 1 << 16) -> bytes:
    """Return all bytes of a source, and close it at its end."""
    source = open_source(name)
    out = b""
    while piece := source.read(size):
        out += piece
    source.close(at_end=True)
    return out


def test_files_and_pipes_give_their_bytes(tmp_path: Path):
    """Plain, compressed (by content, whatever the name), through a command, with an offset."""
    (tmp_path / "plain").write_bytes(DATA)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(DATA))
    (tmp_path / "packed").write_bytes(gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:]))
    for name in ("plain", "packed.gz", "packed"):
        assert everything(f"{tmp_path}/{name}") == DATA
    assert everything(f"gunzip -c {tmp_path}/packed.gz |") == DATA
    assert everything(f"{tmp_path}/plain:123456") == DATA[123456:]


def test_highly_compressed_data_comes_in_pieces(tmp_path: Path):
    """A few bytes that decompress to many do not arrive at once."""
    (tmp_path / "zeros.gz").write_bytes(gzip.compress(bytes(20_000_000)))
    source = open_source(f"{tmp_path}/zeros.gz")
    sizes = []
    while piece := source.read(1 << 16):
        sizes.append(len(piece))
    assert sum(sizes) == 20_000_000 and max(sizes) <= 1 << 16


def test_named_pipes_are_read(tmp_path: Path):
    """A file that is no regular one is read once, from its beginning."""
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(DATA[:1000],))
    writer.start()
    assert everything(f"{tmp_path}/fifo") == DATA[:1000]
    writer.join()


def test_offset_or_name(tmp_path: Path):
    """path:123 is an offset unless there is a file of that name."""
    assert split_offset("a.ark:12") == ("a.ark", 12)
    assert split_offset("a:b") == ("a:b", 0)
    assert split_offset("cat a.ark:12 |") == ("cat a.ark:12 |", 0)
    (tmp_path / "a:12").write_bytes(b"abc")
    assert everything(f"{tmp_path}/a:12") == b"abc"
    assert everything(f"{tmp_path}/a:12:1") == b"bc"


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("exit 3", "exit status 3"),
        ("printf 'a \\n\\n'; exit 4", "exit status 4"),
        ("false | cat", "exit status 1"),
        ("gunzip -c /nonexistent.gz 2>/dev/null", "exit status 1"),
        ("kill -9 $$", "killed by signal 9|exit status 137"),
        ("no_such_program_at_all 2>/dev/null", "exit status 127"),
    ],
)
def test_a_failing_command_is_noticed(command: str, found: str):
    """Its name and status are told at the end of its output, also when it is not the last of its pipe."""
    with pytest.raises(LatticeError, match="the command failed") as caught, LatticeReader(f"ark:{command} |") as reader:
        list(reader.batches())
    assert str(caught.value).startswith(f"{command} |: ")
    assert any(each in str(caught.value) for each in found.split("|"))


def test_a_damaged_gz_file_in_a_pipe_is_noticed(tmp_path: Path):
    """`gunzip -c bad.gz |` ends early and with a status; the whole records before do not hide that."""
    data = gzip.compress(b"a \n\n" * 30000)
    (tmp_path / "bad.gz").write_bytes(data[:-9])
    reader = LatticeReader(f"ark:gunzip -c {tmp_path}/bad.gz 2>/dev/null |")
    with reader, pytest.raises(LatticeError, match=r"the command failed|the archive ends"):
        list(reader.batches())


def test_who_wants_no_more_is_no_failure():
    """Programs that are stopped because nobody reads on, here or in `| head`, are fine; and nobody waits for them."""
    with LatticeReader("ark:while true; do printf 'a \\n\\n'; done |") as reader:
        assert len(next(reader.batches(max_lattices=3))) == 3
    with LatticeReader("ark:while true; do printf 'a \\n\\n'; done | head -n 20 |") as reader:
        assert sum(map(len, reader.batches())) == 10


def test_commands_that_cannot_be_read_from(tmp_path: Path):
    """A missing file, a directory, a command to write into, an offset into compressed data."""
    with pytest.raises(MissingInputError, match="none"):
        open_source(f"{tmp_path}/none")
    with pytest.raises(MissingInputError, match="none"):
        open_source(f"{tmp_path}/none:5")
    with pytest.raises(LatticeError, match="cannot read"):
        everything(str(tmp_path))
    with pytest.raises(LatticeError, match="a command to write into"):
        open_source("| cat")
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"abc"))
    with pytest.raises(LatticeError, match="cannot be read from the middle"):
        open_source(f"{tmp_path}/a.gz:1")


def test_standard_input_arrives_as_it_comes():
    """Records are read while the writer is still there; a pipe need not be full."""
    code = (
        "from kaldi_mpq.native import LatticeReader\n"
        "for lattices in LatticeReader('ark:-').batches(max_lattices=1): print(lattices.keys, flush=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for key in ("first", "second"):
        child.stdin.write(f"{key} \n\n".encode())
        child.stdin.flush()
        assert key in child.stdout.readline().decode()
    child.stdin.close()
    assert child.stdout.read() == b"" and child.wait(timeout=30) == 0
