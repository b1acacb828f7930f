# SPDX-License-Identifier: Apache-2.0
"""Damaged archives: an error that says where, never a crash, a hang, gigabytes, or a lattice not in the file."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kaldi_mpq.errors import LatticeError
from kaldi_mpq.native import LatticeWriter
from tests.native.archives import (
    COSTS,
    MAGIC,
    as_text_tells,
    assert_same,
    compact_weight,
    header,
    read,
    symbol_table,
    write,
)
from tests.native.random_lattices import Arc, Spec, build

LATTICES = build(
    Spec("a", 2, (Arc(0, 1, 7, 1.5, -2.0, (3, 4)), Arc(0, 1, 9, 0.5, 4.0, ())), {1: (0.25, 0.0, (5,))}),
    Spec("b", 2, (Arc(1, 0, 7, 1.5, -2.0, (3,)),), {0: (0.0, 0.0, ())}, start=1, compact=False),
    Spec("c", 1, (), {0: (1.0, 2.0, ())}),
)
NOT_FINAL = compact_weight(np.inf, np.inf)
ARC = struct.pack("<ii", 7, 7) + compact_weight(1.0, 2.0, (3,)) + struct.pack("<i", 0)
ONE_STATE = compact_weight(0.0, 0.0) + struct.pack("<q", 1) + ARC
# Fields that readers ignore: properties and number of arcs, counted from the magic number, for each arc type.
IGNORED = {b"compactlattice44": ((42, 50), (66, 74)), b"lattice4": ((34, 42), (58, 66))}


def read_bytes(folder: Path, data: bytes):
    """Return the lattices of an archive with these contents."""
    (folder / "lat.ark").write_bytes(data)
    return read(folder / "lat.ark")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0B" + ONE_STATE, r"no lattice, .*found \\x00; a \\0B marker"),
        (b"x", "no lattice, expected a newline .text. or bytes d6 fd b2 7e .binary., found x"),
        (MAGIC[:1] + b"\0\0\0", "not an OpenFst header"),
        (header(fst_type="const"), "wrong FST type, expected vector, found const"),
        (header("compactlattice48"), "wrong arc type, expected lattice4, lattice8, .*, found compactlattice48"),
        (header("standard"), "wrong arc type.*found standard; this is a plain FST"),
        (MAGIC + struct.pack("<i", 2**30), "bad length of the FST type, expected 0 to 256, found 1073741824"),
        (MAGIC + struct.pack("<i", -1), "bad length of the FST type"),
        (header(version=1), "wrong FST version, expected 2, found 1"),
        (header(flags=8), "unknown FST flags"),
        (header(num_states=-1), r"number of states is not recorded \(-1\)"),
        (header(num_states=-2), "bad number of states, expected 0 to 2147483647, found -2"),
        (header(num_states=2**31), "bad number of states"),
        (header(start=1), "start state out of range, expected -1 to 0, found 1"),
        (header(start=-2), "start state out of range"),
        (header(start=0, num_states=0), "start state out of range, expected -1 to -1, found 0"),
        (header() + compact_weight(0.0, 0.0) + struct.pack("<q", -1), "negative number of arcs"),
        (header() + struct.pack("<ffi", 0.0, 0.0, -1), "negative number of transition-ids"),
        (header() + ONE_STATE[:-4] + struct.pack("<i", 1), "a state that is not there, expected 0 to 0, found 1"),
        (header() + ONE_STATE[:-4] + struct.pack("<i", -1), "leads to a state that is not there"),
        (header() + ONE_STATE.replace(struct.pack("<ii", 7, 7), struct.pack("<ii", 7, 8)), "two labels.*found 7 and 8"),
        (header(flags=1) + symbol_table("a")[1:], "bad symbol table"),
        (header(flags=1) + symbol_table("a")[:-1], "ends in the middle of a symbol table"),
        (header(flags=2) + symbol_table()[:4] + struct.pack("<i", -4), "negative length in a symbol table"),
    ],
)
def test_binary_faults_are_named(tmp_path: Path, data: bytes, message: str):
    """File, byte, key, expected, found; lattices before the fault are not given either."""
    good = header() + ONE_STATE
    with pytest.raises(LatticeError, match=message) as caught:
        read_bytes(tmp_path, b"good " + good + b"utt-1 " + data)
    assert str(caught.value).startswith(f"{tmp_path}/lat.ark:byte ")
    offset = int(str(caught.value).split(":byte ")[1].split(",")[0])
    assert len(good) + 11 <= offset <= len(good) + 11 + len(data)
    assert ", key utt-1: " in str(caught.value)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (gzip.compress(bytes(70000), 0, mtime=0), "is it compressed"),
        (gzip.compress(bytes(70000), 0, mtime=0x200A0A20), "is it compressed"),  # spaces and newlines by chance
        (MAGIC + b"x" * 70000, "an FST without a key"),
        (b"x" * 70000, ""),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes, hint: str):
    """Bytes without a space for a long time have no key; those that begin like something known are called that."""
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(LatticeError, match=rf"byte 0: no key.*{hint}"):
        read(f"ark:cat {tmp_path}/a |")


@pytest.mark.parametrize(
    "data",
    [
        header(num_states=2**31 - 1) + NOT_FINAL + struct.pack("<q", 0),
        header() + compact_weight(0.0, 0.0) + struct.pack("<q", 2**62),
        header() + struct.pack("<ffi", 0.0, 0.0, 2**31 - 1) + bytes(100),
        header(flags=1) + symbol_table()[:-8] + struct.pack("<q", 2**62) + bytes(100),
        header(flags=1) + symbol_table()[:4] + struct.pack("<i", 2**31 - 1),
        b"\n0 1 2\n1999999999 1\n",
        b"\n" + b"7" * 100000,
    ],
)
def test_bogus_counts_take_no_memory(tmp_path: Path, data: bytes):
    """A count of billions in a file of a few bytes is an error within 64 MB more memory than an empty file takes."""
    (tmp_path / "lat.ark").write_bytes(b"utt " + data)
    code = (
        "import resource, sys\n"
        "from kaldi_mpq.native import LatticeReader\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)\n"
        "from kaldi_mpq.errors import LatticeError\n"
        "try: list(LatticeReader(sys.argv[1]).batches())\n"
        "except LatticeError: sys.exit(42)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lat.ark")], timeout=60, check=False, env=_env())
    assert done.returncode == 42


def test_truncation_anywhere_is_noticed(tmp_path: Path):
    """Every beginning of a binary archive is an error, but for those that end between records."""
    write(tmp_path / "lat.ark", LATTICES)
    data = (tmp_path / "lat.ark").read_bytes()
    ends = {len(read_part) for read_part in _prefixes(tmp_path)}
    for length in range(len(data)):
        if length in ends:
            assert len(read_bytes(tmp_path, data[:length])) < 3
        else:
            with pytest.raises(LatticeError, match=r"lat\.ark:byte \d+.*ends "):
                read_bytes(tmp_path, data[:length])


def test_truncated_gzip_files_are_noticed(tmp_path: Path):
    """A .gz file without its end is an error at every length, even where whole records are in it."""
    write(tmp_path / "whole.gz", LATTICES)
    data = (tmp_path / "whole.gz").read_bytes()
    for length in range(len(data)):
        (tmp_path / "lat.gz").write_bytes(data[:length])
        with pytest.raises(LatticeError, match=r"lat\.gz"):
            read(tmp_path / "lat.gz")


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_any_flipped_byte_is_noticed_or_is_what_is_read(tmp_path: Path, flip: int):
    """Bytes of a binary archive, flipped one by one: an error, or lattices that say exactly what is in the file."""
    write(tmp_path / "lat.ark", LATTICES)
    data = (tmp_path / "lat.ark").read_bytes()
    noticed = 0
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= flip
        try:
            lattices = read_bytes(tmp_path, bytes(damaged))
        except LatticeError:
            noticed += 1
            continue
        if position in _ignored(data):
            assert_same(lattices, LATTICES)
        elif not any(np.isnan(getattr(lattices, name)).any() for name in COSTS):  # a NaN may become a quiet one
            write(tmp_path / "copy", lattices)
            assert _without_ignored((tmp_path / "copy").read_bytes()) == _without_ignored(bytes(damaged))
    assert noticed > len(data) / 4


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_any_flipped_byte_of_a_gzip_file_is_noticed_or_harmless(tmp_path: Path, flip: int):
    """The checksum finds it, or it was a time, a system, an unused bit, and the lattices are the same."""
    write(tmp_path / "whole.gz", LATTICES)
    data = (tmp_path / "whole.gz").read_bytes()
    noticed = 0
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= flip
        (tmp_path / "lat.gz").write_bytes(bytes(damaged))
        try:
            assert_same(read(tmp_path / "lat.gz"), LATTICES)
        except LatticeError as error:
            assert "lat.gz" in str(error)
            noticed += 1
    assert noticed >= len(data) - 20


def test_flipped_bytes_of_text(tmp_path: Path):
    """Text has no redundancy: what is read is either refused or can be written and read again, and nothing crashes."""
    write(tmp_path / "lat.ark", LATTICES, text=True)
    data = (tmp_path / "lat.ark").read_bytes()
    noticed = 0
    for position in range(len(data)):
        for flip in (0x01, 0x10, 0x80):
            damaged = bytearray(data)
            damaged[position] ^= flip
            try:
                lattices = read_bytes(tmp_path, bytes(damaged))
            except LatticeError:
                noticed += 1
                continue
            write(tmp_path / "copy", lattices, text=True, double=True)
            assert_same(read(tmp_path / "copy"), as_text_tells(lattices))
    assert noticed > len(data)


def test_random_bytes_never_crash(tmp_path: Path):
    """Pieces of archives, headers and noise in random order: lattices or an error."""
    write(tmp_path / "a", LATTICES)
    write(tmp_path / "t", LATTICES, text=True)
    whole = (tmp_path / "a").read_bytes() + (tmp_path / "t").read_bytes()
    rng = np.random.default_rng(5)
    for _ in range(400):
        cuts = np.sort(rng.integers(0, len(whole), (3, 2)), axis=1)
        pieces = [whole[a:b] for a, b in cuts] + [rng.bytes(int(rng.integers(1, 30))), b"key ", header()]
        data = b"".join(pieces[i] for i in rng.permutation(len(pieces)))
        try:
            read_bytes(tmp_path, data)
        except LatticeError as error:
            assert "lat.ark:byte" in str(error)


def test_a_fault_of_the_reader_function_comes_through(tmp_path: Path):
    """A damaged gzip member within an archive of several is named with its place in the compressed file."""
    write(tmp_path / "a.gz", LATTICES)
    member = (tmp_path / "a.gz").read_bytes()
    wrong_checksum = member[:-8] + bytes(4) + member[-4:]
    for bad, message in ((wrong_checksum, "incorrect data check"), (b"more", "incorrect header check")):
        (tmp_path / "b.gz").write_bytes(member + bad + member)
        expected = rf"b\.gz:byte {len(member)} or later: a damaged gzip member.*{message}"
        with pytest.raises(LatticeError, match=expected):
            read(tmp_path / "b.gz")
    (tmp_path / "plain.gz").write_bytes(b"a \n\n")
    with pytest.raises(LatticeError, match="not a gzip file, expected bytes 1f 8b first, found 61 20"):
        read(tmp_path / "plain.gz")
    (tmp_path / "empty.gz").write_bytes(b"")
    with pytest.raises(LatticeError, match=r"not a gzip file.*found nothing"):
        read(tmp_path / "empty.gz")


def test_memory_stays_small_for_a_big_archive(tmp_path: Path):
    """Copying an archive of 150 MB in another process takes less than 200 MB."""
    arcs = (Arc(0, 1, 5, 1.0, 2.0, tuple(range(200))),) * 100
    big = build(*[Spec(f"u{i}", 2, arcs, {1: (0.0, 0.0, ())}) for i in range(20)])
    with LatticeWriter(tmp_path / "big.ark") as writer:
        for _ in range(90):
            writer.write(big)
    assert (tmp_path / "big.ark").stat().st_size > 140e6
    code = (
        "import sys\n"
        "from kaldi_mpq.native import LatticeReader, LatticeWriter\n"
        "with LatticeReader(sys.argv[1]) as reader, LatticeWriter('/dev/null') as writer:\n"
        "    for lattices in reader.batches(): writer.write(lattices)\n"
        "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "big.ark")], capture_output=True, check=True, env=_env()
    )
    (tmp_path / "big.ark").unlink()
    assert int(done.stdout) < 200_000  # kilobytes


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OPENBLAS_NUM_THREADS": "1"}


def _prefixes(folder: Path) -> list[bytes]:
    """Return the archives of the first 0, 1 and 2 lattices."""
    out = []
    for count in range(3):
        with LatticeWriter(folder / "part") as writer:
            writer.write(LATTICES, range(count))
        out.append((folder / "part").read_bytes())
    return out


def _ignored(data: bytes) -> set[int]:
    """Return where a binary archive has fields that readers ignore."""
    positions, at = set(), data.find(MAGIC)
    while at >= 0:
        for arc_type, ranges in IGNORED.items():
            if data[at + 18 :].startswith(arc_type):
                positions.update(at + i for begin, end in ranges for i in range(begin, end))
        at = data.find(MAGIC, at + 1)
    return positions


def _without_ignored(data: bytes) -> bytes:
    """Return an archive with the ignored fields set to 0, and flag bit 2 too, which says nothing about the content."""
    out = bytearray(data)
    for position in _ignored(data):
        out[position] = 0
    return bytes(out)
