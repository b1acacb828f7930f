# SPDX-License-Identifier: Apache-2.0
"""Kaldi lattice archives: what is read is what was written, in every form."""

from __future__ import annotations

import gzip
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import LatticeError, MissingInputError
from kaldi_mpq.native import LatticeReader, Lattices, LatticeWriter
from tests.native.archives import (
    ARRAYS,
    MAGIC,
    arrays_of,
    as_text_tells,
    assert_same,
    compact_weight,
    header,
    read,
    six_digits,
    symbol_table,
    write,
)
from tests.native.random_lattices import Arc, Spec, batches, build, parse

# Contract 3.5, written by Kaldi: 0 -7/(1.5,-20.25)/[3 4 4]-> 1, ...
KALDI_EXAMPLE = bytes.fromhex(
    "7574744120"
    "d6fdb27e 06000000 766563746f72 10000000 636f6d706163746c61747469636534340200000000000000 0300815a69000000"
    "0000000000000000 0300000000000000 0000000000000000"
    "0000807f 0000807f 00000000 0200000000000000"
    "07000000 07000000 0000c03f 0000a2c1 03000000 030000000400000004000000 01000000"
    "09000000 09000000 00000040 000098c1 03000000 050000000600000006000000 01000000"
    "0000807f 0000807f 00000000 0100000000000000"
    "08000000 08000000 0000003f 000070c0 01000000 0a000000 02000000"
    "0000803e 00000000 02000000 0c0000000c000000 0000000000000000"
)
EXAMPLE = parse(
    """
    0 1 7 1.5,-20.25,3_4_4
    0 1 9 2,-19,5_6_6
    1 2 8 0.5,-3.75,10
    2 0.25,0,12_12
    """,
    key="uttA",
)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_example_of_the_contract_is_read_byte_by_byte(tmp_path: Path):
    """The 247 bytes that Kaldi wrote give the lattice beside them, and nothing else."""
    assert len(KALDI_EXAMPLE) == 247
    path = tmp_path / "lat.ark"
    path.write_bytes(KALDI_EXAMPLE)
    assert_same(read(path), build(EXAMPLE))


def test_written_bytes_are_the_example_but_for_the_properties(tmp_path: Path):
    """Version 2, flags 0, properties 3, numarcs 0: Kaldi's own bytes with only the safe property bits."""
    write(tmp_path / "lat.ark", build(EXAMPLE))
    expected = KALDI_EXAMPLE[:0x2F] + (3).to_bytes(8, "little") + KALDI_EXAMPLE[0x37:]
    assert (tmp_path / "lat.ark").read_bytes() == expected


def test_text_is_written_as_kaldi_writes_it(tmp_path: Path):
    """Tabs, a trailing comma without transition-ids, One left out, Infinity, an empty line; contract 3.6."""
    arcs = (Arc(0, 1, 5, 0.0, 0.0, (3,)), Arc(0, 1, 6, 1e-7, -123456.789, ()))
    plain = Spec("b", 2, arcs, {1: (0.0, 0.0, ())}, compact=False)
    dead_end = Spec("c", 2, (Arc(1, 0, 5, 2.25, -24.0),), {}, start=1)
    write(tmp_path / "t", build(EXAMPLE, plain, dead_end, Spec("d", 0, (), {})), text=True)
    assert (tmp_path / "t").read_text() == (
        "uttA \n0\t1\t7\t1.5,-20.25,3_4_4\n0\t1\t9\t2,-19,5_6_6\n1\t2\t8\t0.5,-3.75,10\n2\t0.25,0,12_12\n\n"
        "b \n0\t1\t3\t5\n0\t1\t0\t6\t1e-07,-123457\n1\n\n"
        "c \n1\t0\t5\t2.25,-24,\n0\tInfinity,Infinity,\n\n"
        "d \n\n"
    )


@pytest.mark.parametrize("form", ["plain", "gz", "scp", "pipe"])
@QUICK
@given(lattices=batches(), text=st.booleans(), double=st.booleans())
def test_every_form_is_read_as_it_was_written(tmp_path: Path, form: str, text: bool, double: bool, lattices: Lattices):
    """Random lattices of both types survive every way of writing; float text keeps six digits of a cost."""
    target, source = {
        "plain": (f"{tmp_path}/lat.ark", f"{tmp_path}/lat.ark"),
        "gz": (f"ark:{tmp_path}/lat.gz", f"{tmp_path}/lat.gz"),
        "scp": (f"ark,scp:{tmp_path}/lat.ark,{tmp_path}/lat.scp", f"{tmp_path}/lat.scp"),
        "pipe": (f"ark:| cat > {tmp_path}/lat.ark", f"ark,s,cs:cat {tmp_path}/lat.ark |"),
    }[form]
    write(target, lattices, text=text, double=double)
    kept = six_digits if text and not double else np.asarray
    assert_same(read(source), as_text_tells(lattices) if text else lattices, kept)


@QUICK
@given(lattices=batches(), seed=st.integers(0, 2**32), text=st.booleans())
def test_doubles_lose_nothing(tmp_path: Path, lattices: Lattices, seed: int, text: bool):
    """Costs that no float32 holds come back exactly from float64 archives, binary and text; from float32, rounded."""
    rng = np.random.default_rng(seed)
    lattices.arc_graph[:] = rng.normal(size=lattices.num_arcs) * 10.0 ** rng.integers(-30, 30, lattices.num_arcs)
    write(tmp_path / "lat", lattices, text=text, double=True)
    assert_same(read(tmp_path / "lat"), as_text_tells(lattices) if text else lattices)
    write(tmp_path / "lat", lattices)
    assert_same(read(tmp_path / "lat"), lattices, lambda values: values.astype(np.float32).astype(np.float64))


def test_forms_may_be_mixed_within_an_archive(tmp_path: Path):
    """Each record is read for what it is: binary or text, compact or not, float or double, empty."""
    plain = Spec("b", 2, (Arc(0, 1, 5, 1.5, -2.0, (3,)),), {1: (0.5, 0.0, ())}, compact=False)
    lattices = build(EXAMPLE, plain, Spec("c", 0, (), {}), EXAMPLE)
    data = b""
    text, double = {"text": True}, {"double": True}
    for i, options in enumerate([{}, text, double, text, text | double, {}]):
        write(tmp_path / "one", lattices.select([i % 4]), **options)
        data += (tmp_path / "one").read_bytes() + b"\n" * (i % 2)
    (tmp_path / "mixed").write_bytes(data)
    assert_same(read(tmp_path / "mixed"), lattices.select([0, 1, 2, 3, 0, 1]))


def test_gzip_members_may_follow_each_other(tmp_path: Path):
    """`cat a.gz b.gz` is an archive; so is one with a member that ends within a record, an empty one, and padding."""
    write(tmp_path / "plain", build(EXAMPLE, EXAMPLE))
    data = (tmp_path / "plain").read_bytes()
    pieces = [data[:100], b"", data[100:247], data[247:]]
    (tmp_path / "lat.gz").write_bytes(b"".join(map(gzip.compress, pieces)) + b"\0" * 1000)
    assert_same(read(tmp_path / "lat.gz"), build(EXAMPLE, EXAMPLE))


def test_symbol_tables_and_alignment_flag_are_skipped(tmp_path: Path):
    """Header flags 0 to 7, with the symbol tables that bits 0 and 1 announce, change nothing."""
    table, body = symbol_table("<eps>", "é", ""), compact_weight(1.0, 2.0, (3,)) + bytes(8)
    data = b""
    for flags in range(8):
        tables = table * ((flags & 1) + (flags >> 1 & 1))
        data += b"utt " + header(flags=flags, properties=2**63, num_arcs=77) + tables + body
    (tmp_path / "lat.ark").write_bytes(data)
    found = read(tmp_path / "lat.ark")
    assert len(found) == 8
    assert found.final_tids.tolist() == [3] * 8 and found.final_acoustic.tolist() == [2.0] * 8


def test_batches_are_bounded_and_lose_nothing(tmp_path: Path):
    """Each limit ends batches, none of them cuts a lattice, and together they are the archive."""
    lattices = build(*[Spec(f"u{i}", 2, (Arc(0, 1, i, 0.0, 0.0),) * (i % 4), {1: (0.0, 0.0, ())}) for i in range(30)])
    write(tmp_path / "a", lattices)
    for limits, longest in (({"max_lattices": 7}, 7), ({"max_arcs": 6}, 8), ({"max_bytes": 500}, 6)):
        with LatticeReader(tmp_path / "a") as reader:
            parts = list(reader.batches(**limits))
        assert len(parts) > 3 and max(map(len, parts)) <= longest
        assert_same(Lattices.concat(parts), lattices)


def test_batches_go_on_where_they_stopped(tmp_path: Path):
    """A second loop over a reader continues; after the end there is nothing."""
    write(tmp_path / "a", build(EXAMPLE, EXAMPLE, EXAMPLE))
    with LatticeReader(tmp_path / "a") as reader:
        assert len(next(reader.batches(max_lattices=1))) == 1
        assert [len(part) for part in reader.batches()] == [2]
        assert list(reader.batches()) == []


def test_script_files_name_offsets_pipes_and_whole_files(tmp_path: Path):
    """Entries of any kind in any order: path:offset, a command, a compressed object, standard ones in between."""
    others = [Spec(f"u{i}", 1, (), {0: (float(i), 0.0, (i,))}) for i in range(4)]
    write(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp", build(EXAMPLE, *others))
    lines = (tmp_path / "a.scp").read_text().splitlines()
    assert lines[0] == f"uttA {tmp_path}/a.ark:5"  # the first byte after "uttA "
    (tmp_path / "one.gz").write_bytes(gzip.compress(KALDI_EXAMPLE[5:]))
    (tmp_path / "one").write_bytes(KALDI_EXAMPLE[5:])
    lines += [f"z {tmp_path}/one.gz", f"y\tcat {tmp_path}/one |", f"x {tmp_path}/one", lines[2], lines[1]]
    (tmp_path / "b.scp").write_text("\n".join([lines[4], "", *lines[:4], *lines[5:]]))
    renamed = [Spec(key, EXAMPLE.num_states, EXAMPLE.arcs, EXAMPLE.finals) for key in "zyx"]
    expected = build(others[3], EXAMPLE, *others[:3], *renamed, others[1], others[0])
    assert_same(read(f"scp,p:{tmp_path}/b.scp", max_lattices=2), expected)


def test_script_file_of_a_text_archive(tmp_path: Path):
    """ark,t,scp: offsets point behind the key in the text form too."""
    write(f"ark,t,scp:{tmp_path}/a.ark,{tmp_path}/a.scp", build(EXAMPLE, EXAMPLE))
    assert_same(read(f"scp:{tmp_path}/a.scp"), build(EXAMPLE, EXAMPLE))


def test_standard_streams(tmp_path: Path):
    """ark:- reads standard input and writes standard output, in another process."""
    code = (
        "from kaldi_mpq.native import LatticeReader, LatticeWriter\n"
        "with LatticeReader('ark:-') as reader, LatticeWriter('ark,t:-') as writer:\n"
        "    for lattices in reader.batches(max_lattices=1): writer.write(lattices)\n"
    )
    write(tmp_path / "a", build(EXAMPLE, EXAMPLE))
    write(tmp_path / "t", build(EXAMPLE, EXAMPLE), text=True)
    archive = (tmp_path / "a").read_bytes()
    done = subprocess.run([sys.executable, "-c", code], input=archive, capture_output=True, check=True)
    assert done.stdout == (tmp_path / "t").read_bytes()


def test_keys_are_any_bytes(tmp_path: Path):
    """Keys with umlauts and with bytes that are not UTF-8 come back, through an archive and a script file."""
    keys = ["größe-ü", "caf\udce9", "\udcff\udcfe", "a" * 3000]
    lattices = build(*[Spec(key, 1, (), {0: (0.0, 0.0, ())}) for key in keys])
    write(f"ark,scp:{tmp_path}/a,{tmp_path}/s", lattices)
    assert read(tmp_path / "a").keys == keys
    assert read(f"scp:{tmp_path}/s").keys == keys
    assert b" caf" not in (tmp_path / "a").read_bytes() and b"caf\xe9 " in (tmp_path / "a").read_bytes()


def test_offset_into_an_archive(tmp_path: Path):
    """path:offset starts there; messages count from the beginning of the file."""
    (tmp_path / "a").write_bytes(KALDI_EXAMPLE * 2 + b"utt ")
    with pytest.raises(LatticeError, match="a:byte 494"):
        read(f"ark:{tmp_path}/a:247")
    assert_same(read(f"ark,p:{tmp_path}/a:247"), build(EXAMPLE))


def test_writes_only_what_is_asked_for(tmp_path: Path):
    """`indices` choose and order what is written."""
    lattices = build(*[Spec(f"u{i}", 1, (), {0: (float(i), 0.0, ())}) for i in range(4)])
    with LatticeWriter(tmp_path / "a") as writer:
        writer.write(lattices, [3, 1])
        writer.write(lattices, np.array([], int))
        writer.write(lattices, np.array([1], np.uint8))
    assert_same(read(tmp_path / "a"), lattices.select([3, 1, 1]))


def test_permissive_reading_keeps_what_is_good(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """ark,p: ends at a bad record, scp,p: leaves it out; both say so in the log."""
    (tmp_path / "a").write_bytes(KALDI_EXAMPLE * 2 + KALDI_EXAMPLE[:200])
    with pytest.raises(LatticeError, match="ends in the middle"):
        read(tmp_path / "a")
    assert len(read(f"ark,p:{tmp_path}/a")) == 2
    (tmp_path / "s").write_text(f"x {tmp_path}/a:5\nbad {tmp_path}/a:6\nnone {tmp_path}/b\nlast {tmp_path}/a:252\n")
    assert read(f"scp,p:{tmp_path}/s").keys == ["x", "last"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


def test_missing_files_are_named(tmp_path: Path):
    """At once, before anything is read; one that a script file names when its turn comes, with its line."""
    for source in ("a.ark", "a.gz", "a.scp"):
        with pytest.raises(MissingInputError, match=source):
            LatticeReader(tmp_path / source)
    (tmp_path / "a.scp").write_text(f"utt {tmp_path}/none.ark:5\n")
    with pytest.raises(LatticeError, match=r"a\.scp:1: missing file.*none\.ark:5"):
        read(tmp_path / "a.scp")


def test_lattices_show_their_arrays_without_a_copy():
    """Views are views: what is written to them stays, and they outlive their batch."""
    lattices = build(EXAMPLE, Spec("x", 0, (), {}))
    lattices.arc_graph[0] = 42.0
    assert lattices.arc_graph[0] == 42.0
    view = lattices.arc_graph
    del lattices
    assert view.tolist() == [42.0, 2.0, 0.5]


def test_select_and_concat(tmp_path: Path):
    """They copy lattices whole; select(concat(x, y)) finds x and y again, indices may repeat."""
    lattices = build(EXAMPLE, Spec("e", 0, (), {}), Spec("p", 1, (), {0: (1.0, 2.0, ())}, compact=False))
    twice = Lattices.concat([lattices, Lattices.concat([]), lattices])
    assert len(twice) == 6 and twice.num_states == 2 * lattices.num_states and twice.num_arcs == 6
    assert_same(twice.select([3, 4, 5]), lattices)
    assert_same(lattices.select([2, 0, 2]), Lattices.concat([lattices.select([2]), lattices.select([0, 2])]))
    assert len(lattices.select([])) == 0
    with pytest.raises(IndexError):
        lattices.select([3])
    with pytest.raises(IndexError):
        lattices.select([-1])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("keys", ["only one"], "compact has the wrong length"),
        ("start", [3, 0], "start state out of range"),
        ("start", [-2, 0], "start state out of range"),
        ("start", [0.0, 0.0], "start has the wrong type"),
        ("start", [2**31, 0], "start has a value out of range"),
        ("state_offsets", [0, 3, 5], "state_offsets do not go"),
        ("state_offsets", [0, 5, 4], "state_offsets are not in ascending order"),
        ("state_offsets", [[0, 3, 4]], "not a one-dimensional array"),
        ("arc_offsets", [0, 2, 1, 3, 3], "arc_offsets are not in ascending order"),
        ("arc_dest", [1, 3, 2], "leads to a state that is not there"),
        ("arc_dest", [1, -1, 2], "leads to a state that is not there"),
        ("arc_graph", [1.0, 2.0], "arc_graph has the wrong length"),
        ("arc_graph", ["a", "b", "c"], "arc_graph has the wrong type"),
        ("arc_tid_offsets", [0, 3, 6, 8], "arc_tid_offsets do not go"),
        ("compact", [0, 0], "too many transition-ids|final weight of a Lattice"),
    ],
)
def test_from_arrays_refuses_what_does_not_fit(name: str, value: list, message: str):
    """A wrong length, type or number is an error that names the array, or the lattice."""
    arrays = arrays_of(build(EXAMPLE, Spec("p", 1, (), {0: (1.0, 2.0, ())}, compact=False)))
    assert_same(Lattices.from_arrays(**arrays), Lattices.from_arrays(**{key: list(v) for key, v in arrays.items()}))
    with pytest.raises(LatticeError, match=message):
        Lattices.from_arrays(**{**arrays, name: value})


def test_arrays_spoilt_afterwards_are_noticed(tmp_path: Path):
    """Python may write anything into the arrays; writing and copying them then fails, and no file is left."""
    for name in set(ARRAYS) - {"compact", "final_graph", "final_acoustic", "arc_graph", "arc_acoustic", "arc_word"}:
        if name.endswith("_tids"):
            continue
        for value in (-5, 2**30):
            lattices = build(EXAMPLE, EXAMPLE)
            getattr(lattices, name)[-1 if name.endswith("offsets") else 0] = value
            with pytest.raises(LatticeError):
                write(tmp_path / "a", lattices)
            with pytest.raises(LatticeError):
                Lattices.concat([lattices])
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_named(tmp_path: Path):
    """Keys that Kaldi would cut in two, and costs beyond float32; infinite ones are fine."""
    for key in ("", "a b", "a\n", "\t"):
        with pytest.raises(LatticeError, match="a key that Kaldi cannot read"):
            write(tmp_path / "a", build(Spec(key, 1, (), {0: (0.0, 0.0, ())})))
    lattices = build(EXAMPLE)
    for value, text in ((1e39, False), (-1e39, True)):
        lattices.arc_graph[1] = value
        with pytest.raises(LatticeError, match="lattice uttA: a cost is too large"):
            write(tmp_path / "a", lattices, text=text)
        write(tmp_path / "a", lattices, text=text, double=True)
        assert_same(read(tmp_path / "a"), lattices)
    lattices.arc_graph[:] = [math.inf, -math.inf, math.nan]
    for text in (False, True):
        write(tmp_path / "a", lattices, text=text)
        assert_same(read(tmp_path / "a"), lattices)


def test_real_lattices_round_trip_byte_by_byte(testbed: Path, tmp_path: Path):
    """What Kaldi's decoder wrote is written again with the same bytes, but for the property bits."""
    path = testbed / "exp/chain/tdnn/decode_dev_tg/lat.1.gz"
    with gzip.open(path) as stream:
        data = stream.read()
    write(tmp_path / "a", read(path))
    original, copy = np.frombuffer(data, np.uint8), np.fromfile(tmp_path / "a", np.uint8)
    assert len(copy) == len(original)
    headers = np.array([found.start() for found in re.finditer(re.escape(MAGIC), data)])
    properties = (headers[:, None] + 42 + np.arange(8)).ravel()  # 0x2f - 5 bytes behind the magic number
    assert np.isin(np.flatnonzero(copy != original), properties).all()
