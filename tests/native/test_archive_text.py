# SPDX-License-Identifier: Apache-2.0
"""Kaldi's text form of lattices: everything that Kaldi reads is read, the rest is refused by file, line and key."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

from kaldi_mpq.errors import LatticeError
from kaldi_mpq.native import Lattices
from tests.native.archives import as_text_tells, assert_same, read, six_digits, write
from tests.native.random_lattices import Spec, build, parse

COMPACT = """uttA
0\t1\t7\t1.5,-20.25,3_4_4
0\t1\t9\t2,-19,5_6_6
1\t2\t8\t0.5,-3.75,10
2\t0.25,0,12_12

"""
PLAIN = """uttB
0 1 3 7 1.5,-20.25
0 1 0 9
1 2 4 0 0.5,-3.75
2 0.25,0

"""


def from_text(folder: Path, text: str | bytes) -> Lattices:
    """Return the lattices of an archive with these contents."""
    (folder / "lat.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(folder / "lat.txt")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n").replace("utt", "\r\n utt"),
        lambda text: text.replace("\t", " "),
        lambda text: text.replace("\t", " \t \t"),
        lambda text: text.replace("uttA\n", "uttA \n"),
        lambda text: text.replace("uttA\n", "uttA\t \r\n"),
        lambda text: "\n\n" + text + "\n\n\n",
        lambda text: text.rstrip("\n") + "\n",  # no empty line at the end of the file
        lambda text: text.replace("2\t0.25,0", " 2\t2.5e-1,0e3").replace("-20.25", "-2025E-2").replace("1.5", "+1.5"),
        lambda text: text.replace("\n\n", "\n \r\t\n"),
    ],
)
def test_white_space_and_number_forms_do_not_matter(tmp_path: Path, change):
    """CRLF, tabs or spaces, blank lines around records, a missing last one, scientific notation: the same lattice."""
    for text in (COMPACT, PLAIN + COMPACT):
        assert_same(from_text(tmp_path, change(text)), from_text(tmp_path, text))
    assert_same(from_text(tmp_path, COMPACT), build(parse(COMPACT.split("\n", 1)[1], "uttA")))


def test_lattice_of_the_plain_type(tmp_path: Path):
    """Five fields, or four of which the last is an integer: tid and word; tid 0 is none; missing weights are One."""
    lattices = from_text(tmp_path, PLAIN)
    assert lattices.compact.tolist() == [0]
    assert lattices.arc_word.tolist() == [7, 9, 0]
    assert lattices.arc_tid_offsets.tolist() == [0, 1, 1, 2] and lattices.arc_tids.tolist() == [3, 4]
    assert lattices.arc_graph.tolist() == [1.5, 0.0, 0.5] and lattices.arc_acoustic.tolist() == [-20.25, 0.0, -3.75]
    assert lattices.final_graph.tolist() == [math.inf, math.inf, 0.25]


def test_type_is_known_from_any_line(tmp_path: Path):
    """A final weight alone tells the types apart; bare state numbers are either, and harmless."""
    records = "a \n0 0,0\n\nb \n0 0,0,\n\nc \n0\n\nd \n0 1 5\n1\n\ne \n0 1 5 6\n1\n\nf \n\ng \n1 0 5 0,0\n0\n\n"
    with pytest.raises(LatticeError, match="key g"):
        from_text(tmp_path, records)
    assert from_text(tmp_path, records[: records.index("g ")]).compact.tolist() == [0, 1, 1, 1, 0, 1]


def test_one_is_left_out(tmp_path: Path):
    """Arcs and final weights without a weight have 0,0 and no transition-ids."""
    assert_same(from_text(tmp_path, "u \n0 1 5\n1\n\n"), from_text(tmp_path, "u \n0 1 5 0,0,\n1 0,0,\n\n"))


def test_states_in_any_order(tmp_path: Path):
    """The first state named is the start; arcs come in the order of their states; the last final weight counts."""
    text = "u \n3 1 5 1,0,\n0 2 6 2,0,\n3 0 7 3,0,1\n1 9,9,9\n2 4,0,2\n0 1 8 5,0,\n1 6,0,3\n\n"
    lattices = from_text(tmp_path, text)
    assert lattices.start.tolist() == [3]
    assert lattices.arc_offsets.tolist() == [0, 2, 2, 2, 4]
    assert lattices.arc_word.tolist() == [6, 8, 5, 7] and lattices.arc_dest.tolist() == [2, 1, 1, 0]
    assert lattices.final_graph.tolist() == [math.inf, 6.0, 4.0, math.inf] and lattices.final_tids.tolist() == [3, 2]


def test_unnamed_states_are_dead_ends(tmp_path: Path):
    """States 1 and 2 are nowhere named, but numbers go up to 3: they are there, without arcs, as in Kaldi."""
    lattices = from_text(tmp_path, "u \n0 3 7 1,2,3\n3\n\n")
    assert lattices.num_states == 4 and lattices.arc_offsets.tolist() == [0, 1, 1, 1, 1]


def test_special_numbers(tmp_path: Path):
    """Infinity, -Infinity and BadNumber (NaN) are Kaldi's words; C's are understood too."""
    lattices = from_text(tmp_path, "u \n0 1 5 Infinity,-Infinity,\n0 1 5 inf,-inf,\n0 1 5 BadNumber,nan,\n1\n\n")
    np.testing.assert_array_equal(lattices.arc_graph, [math.inf, math.inf, math.nan])
    np.testing.assert_array_equal(lattices.arc_acoustic, [-math.inf, -math.inf, math.nan])


def test_empty_lattices_and_empty_archives(tmp_path: Path):
    """`key`, newline, newline is an empty lattice; an archive may hold nothing at all."""
    lattices = from_text(tmp_path, "a \n\nb\n\nc \r\n\r\n")
    assert lattices.keys == ["a", "b", "c"] and lattices.start.tolist() == [-1] * 3 and lattices.num_states == 0
    for nothing in ("", "\n \r\n"):
        assert len(from_text(tmp_path, nothing)) == 0


def test_numbers_are_printed_as_c_prints_them(tmp_path: Path):
    """Six digits as %.6g gives them, for float32 of any size; all digits come back with double."""
    rng = random.Random(1)
    values = [rng.choice([-1, 1]) * rng.random() * 10.0 ** rng.randint(-37, 37) for _ in range(2000)]
    values += [0.1, 1e5, 999999.5, 1e6, 123456.5, 0.0001, 0.00001, 99999.95, 3.4e38, 1.5e-45, -1.0, 0.5]
    lattices = build(Spec("u", len(values), (), {i: (value, 1.0, ()) for i, value in enumerate(values)}))
    write(tmp_path / "t", lattices, text=True)
    rows = [line.split("\t")[1] for line in (tmp_path / "t").read_text().splitlines()[1:-1]]
    assert rows == [f"{np.float32(value):.6g},1," for value in values]
    assert_same(read(tmp_path / "t"), lattices, six_digits)
    write(tmp_path / "t", lattices, text=True, double=True)
    assert_same(read(tmp_path / "t"), lattices)


def test_start_of_a_lattice_without_one(tmp_path: Path):
    """States that no path starts in cannot be told in text: it is an empty lattice, as Kaldi prints it."""
    lattices = build(Spec("u", 2, (), {0: (0.0, 0.0, ())}, start=-1))
    write(tmp_path / "b", lattices)
    assert_same(read(tmp_path / "b"), lattices)
    write(tmp_path / "t", lattices, text=True)
    assert (tmp_path / "t").read_text() == "u \n\n"


def test_arcs_that_no_path_can_take_are_left_out(tmp_path: Path):
    """Kaldi refuses a line whose weight is Zero; the states of such arcs are still there."""
    zero = "Infinity,Infinity,"
    lattices = build(parse(f"0 1 5 1,2,3\n0 1 6 {zero}\n0 1 6 {zero}3\n1 2 7 {zero}\n2"))
    write(tmp_path / "t", lattices, text=True)
    rows = ["utt ", "0\t1\t5\t1,2,3", f"0\t1\t6\t{zero}3", f"1\t{zero}", "2", "", ""]
    assert (tmp_path / "t").read_text() == "\n".join(rows)
    assert_same(read(tmp_path / "t"), as_text_tells(lattices))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 1 3 7 1,2 5", "line 3, key u: too many fields"),
        ("0 1 7 1.5", "line 3, key u: bad weight"),
        ("0 1 7 1.5,2,3,4", "bad transition-id, expected an integer, found 3,4"),
        ("0 1 7 1.5,2,3__4", "bad transition-id"),
        ("0 1 7 1.5,2,_3", "bad transition-id"),
        ("0 1 7 1.5,x,3", "line 3, key u: bad cost, expected a number, found x"),
        ("0 1 7 ,2,3", "bad cost"),
        ("0 1 7 1.5.2,2,3", "bad cost"),
        ("0 1 7 1e999,2,3", "bad cost"),
        ("0 1 7 0x10,2,3", "bad cost"),
        ("0 1 7 +-1,2,3", "bad cost"),
        ("0 x 7 1,2,3", "bad state number"),
        ("0 -1 7 1,2,3", "negative state number"),
        ("-1 1 7 1,2,3", "negative state number"),
        ("0 1 99999999999 1,2,3", "bad word"),
        ("0 1 3 7 1,2", "a line of the other lattice type, expected a line of a CompactLattice"),
        ("0 1 3 7", "a line of the other lattice type"),
        ("1 0.5,0", "a line of the other lattice type"),
        ("1 0.5", "bad weight"),
        ("uttB", "bad state number, expected an integer, found uttB"),
        ("0 2000000000 7", "a state number is too high, expected states numbered without gaps, found 2000000000"),
        ("2147483647", "a state number is too high"),
        ("0 1 \x00 1,2,3", "bad word"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str):
    """File, line, key, expected and found; the lines before are fine."""
    with pytest.raises(LatticeError, match=message) as caught:
        from_text(tmp_path, f"u \n0 1 7 1,2,3\n{line}\n1\n\n")
    assert str(caught.value).startswith(f"{tmp_path}/lat.txt:byte ")


def test_lines_are_counted_through_the_archive(tmp_path: Path):
    """The line in a message is the line in the file, after other records and blank lines."""
    before = "\n" + COMPACT + "v \n"
    for line, message in (("x\n", "bad state number, expected an integer, found x"), ("0 1", "the archive ends in")):
        with pytest.raises(LatticeError, match=f"byte {len(before)}, line 9, key v: {message}"):
            from_text(tmp_path, before + line)


@pytest.mark.parametrize("text", [COMPACT * 2, PLAIN * 2, "a \n\n" + PLAIN])
def test_text_cut_off_anywhere_is_noticed(tmp_path: Path, text: str):
    """Any beginning of an archive gives whole lattices that are in it, or an error; never a part of a lattice."""
    whole = from_text(tmp_path, text)
    read_whole = 0
    for length in range(len(text)):
        try:
            found = from_text(tmp_path, text[:length])
        except LatticeError as error:
            assert "lat.txt:byte" in str(error)
        else:
            assert_same(found, whole.select(range(len(found))))
            read_whole += 1
    assert read_whole <= 6  # before a record, and where only its last empty line is missing


def test_key_line(tmp_path: Path):
    """A lattice begins on the line after its key; a key alone is no record."""
    for text, message in (
        ("u 0 1 7\n1\n\n", "no lattice, expected a newline"),
        ("u  0 1 7\n1\n\n", "a text lattice begins on the line of its key"),
        ("u", "ends in the middle of a key"),
        ("u ", "ends after a key"),
        ("u\n", "ends in the middle of a lattice"),
        ("u \n", "ends in the middle of a lattice"),
    ):
        with pytest.raises(LatticeError, match=message):
            from_text(tmp_path, text)


def test_real_lattices_in_text(testbed: Path, tmp_path: Path):
    """A real archive in text has the same lattices, with six digits of their costs, in float and all in double."""
    lattices = read(testbed / "exp/chain/tdnn/decode_eval_tg/lat.1.gz")
    for options, kept in (({}, six_digits), ({"double": True}, np.asarray)):
        write(tmp_path / "t.gz", lattices, text=True, **options)
        assert_same(read(tmp_path / "t.gz"), as_text_tells(lattices), kept)
