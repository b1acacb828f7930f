# SPDX-License-Identifier: Apache-2.0
"""Damaged G.fst and G.carpa files are refused with the place of the fault; no byte that is lost or wrong is a crash."""

from __future__ import annotations

import math
import re
import struct

import numpy as np
import pytest

from kaldi_mpq.errors import MissingInputError, OldLmError
from kaldi_mpq.native.old_lm import open_old_lm
from tests.native.old_lm_files import CarpaLayout, Sentences, carpa_bytes, fst_bytes

STATES = [
    {"final": math.inf, "arcs": [(9, 0, 0.5, 1), (1, 1, 0.25, 0)]},
    {"final": 2.0, "arcs": [(1, 1, 1.0, 0), (2, 2, 1.0, 1)]},
]
HEADER = 66  # bytes of an OpenFst header with arc type "standard"
FST = fst_bytes(STATES)


def replaced(data, offset, form, value):
    """Return ``data`` with a number written over it."""
    return data[:offset] + struct.pack(form, value) + data[offset + struct.calcsize(form) :]


FST_DAMAGE = {
    "const FST": (fst_bytes(STATES, fst_type="const"), "byte 4: wrong FST type, expected 'vector', found 'const'"),
    "lattice arcs": (fst_bytes(STATES, arc_type="lattice4"), "wrong arc type, expected 'standard', found 'lattice4'"),
    "version 1": (fst_bytes(STATES, version=1), "wrong version of the format, expected 2, found 1"),
    "no states": (fst_bytes([], -1), "the automaton is empty"),
    "no start state": (fst_bytes(STATES, -1), "the automaton is empty"),
    "start beyond the states": (fst_bytes(STATES, 2), "byte 42: bad start state, expected 0 to 1, found 2"),
    "too many states": (fst_bytes(STATES, num_states=1000), "byte 50: bad number of states, expected at most 7"),
    "one state more": (fst_bytes(STATES, num_states=3), "byte 154: truncated, expected 4 bytes of a final cost"),
    "one state less": (fst_bytes(STATES, num_states=1), "byte 110: more after the last state, .*found 44 bytes"),
    "negative states": (fst_bytes(STATES, num_states=-2), "bad number of states, .*found -2"),
    "too many arcs": (replaced(FST, HEADER + 4, "<q", 9), "byte 70: bad number of arcs of state 0, .*at most 4"),
    "negative arcs": (replaced(FST, HEADER + 4, "<q", -1), "bad number of arcs of state 0, .*found -1"),
    "NaN cost": (replaced(FST, HEADER + 20, "<f", math.nan), "byte 86: bad arc cost, expected a cost, found nan"),
    "NaN final cost": (replaced(FST, HEADER, "<f", math.nan), "byte 66: bad final cost"),
    "negative label": (replaced(FST, HEADER + 16, "<i", -5), "byte 82: bad label, expected 0 or more, found -5"),
    "arc to nowhere": (replaced(FST, HEADER + 24, "<i", 2), "arc to no state, expected destinations 0 to 1, found 2"),
    "arc to -1": (replaced(FST, HEADER + 24, "<i", -1), "byte 90: arc to no state"),
    "backoff to itself": (replaced(FST, HEADER + 24, "<i", 0), "epsilon arcs form a cycle, .*state 0"),
    "bad symbol table": (replaced(fst_bytes(STATES, symbols=["a"]), 66, "<i", 1), "byte 66: bad symbol table"),
}


@pytest.mark.parametrize("name", FST_DAMAGE)
def test_damaged_fst_is_named_with_its_byte(lm_files, name):
    """Each fault is one line: file, byte, what was expected, what was found."""
    data, message = FST_DAMAGE[name]
    path = lm_files.folder / "G.fst"
    path.write_bytes(data)
    with pytest.raises(OldLmError, match=rf"^{re.escape(str(path))}:? ?.*?{message}"):
        open_old_lm(path)


def test_cycle_of_backoff_arcs_is_found_wherever_it_is(lm_files):
    """Three states that back off to each other, reached only from a fourth, behind a long chain without a cycle."""
    chain = [{"final": 0.0, "arcs": [(9, 0, 0.0, i + 1)]} for i in range(50_000)]
    ring = [{"final": 0.0, "arcs": [(9, 0, 0.0, 50_000 + (i + 1) % 3)]} for i in range(3)]
    open_old_lm(lm_files.write_fst([*chain, {"final": 0.0, "arcs": []}]))
    with pytest.raises(OldLmError, match="epsilon arcs form a cycle"):
        open_old_lm(lm_files.write_fst([*chain, *ring]))


@pytest.mark.parametrize("kind", ["fst", "fst with symbols", "carpa", "old carpa"])
def test_a_file_cut_off_anywhere_is_refused(lm_files, kind):
    """At every byte but the last one of a carpa, which is a space."""
    whole = {
        "fst": FST,
        "fst with symbols": fst_bytes(STATES, symbols=["<eps>", "é"]),
        "carpa": carpa_bytes(lm_files.arpa, lm_files.words),
        "old carpa": carpa_bytes(lm_files.arpa, lm_files.words, CarpaLayout(old=True)),
    }[kind]
    path = lm_files.folder / "G"
    for size in range(4, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(OldLmError, match="G"):
            open_old_lm(path, lm_files.words)


@pytest.mark.parametrize("kind", ["fst", "carpa", "old carpa"])
def test_any_wrong_byte_is_an_error_or_a_model(lm_files, kind):
    """Never a crash or an endless loop: what is read after all also scores sentences."""
    whole = {
        "fst": FST,
        "carpa": carpa_bytes(lm_files.arpa, lm_files.words),
        "old carpa": carpa_bytes(lm_files.arpa, lm_files.words, CarpaLayout(old=True)),
    }[kind]
    rng = np.random.default_rng(9)
    path = lm_files.folder / "G"
    text = Sentences([[1, 2, 3], [4, 4, 4, 2, 6, 5], []])
    refused = 0
    for at in range(4, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ int(rng.integers(1, 256))]) + whole[at + 1 :])
        try:
            lm = open_old_lm(path)
        except OldLmError:
            refused += 1
            continue
        for reading in ("best", "backoff"):
            assert len(text.totals(lm, reading)) == 3
    assert refused > len(whole) / 10


CARPA_DAMAGE = {
    "a token": (b"<LmStates>", b"<LmStates]", r"byte 45: bad token, .*found .*LmStates\]"),
    "a size byte": (b"<LmStates> \x08", b"<LmStates> \x04", "byte 66: bad size of .*, expected 8, found 4"),
    "the number of words": (b"<LmUnigram> \x04\x0a\0", b"<LmUnigram> \x04\x0a\x7f", "bad number of words, .*at most"),
}


@pytest.mark.parametrize("name", CARPA_DAMAGE)
def test_damaged_carpa_is_named_with_its_byte(lm_files, name):
    """Each fault is one line: file, byte, what was expected, what was found."""
    good, bad, message = CARPA_DAMAGE[name]
    data = carpa_bytes(lm_files.arpa, lm_files.words)
    assert data.count(good) == 1
    path = lm_files.folder / "G.carpa"
    path.write_bytes(data.replace(good, bad))
    with pytest.raises(OldLmError, match=rf"^{re.escape(str(path))}:{message}" if message[:4] == "byte" else message):
        open_old_lm(path)


CARPA_FAULTS = {
    "order 0": ({"order": 0}, "bad order, expected 1 to 32, found 0"),
    "bos beyond the words": ({"bos": 10}, "bad id of the sentence start, expected 1 to 9, found 10"),
    "eos 0": ({"eos": 0}, "bad id of the sentence end, expected 1 to 9, found 0"),
    "unk -2": ({"unk": -2}, "bad id of the unknown word, expected 1 to 9 or -1, found -2"),
    "children not sorted": ({"sort_children": False}, "children are not sorted"),
    "unigram to nowhere": ({"unigram_shift": 1}, "a unigram points to no node"),
    "child to nowhere": ({"child_shift": 1}, "a child points to no node"),
    "overflow missing": ({"overflow_beyond": 0, "drop_overflow": True}, "a child points to no node"),
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", CARPA_FAULTS)
def test_inconsistent_carpa_is_refused_in_both_layouts(lm_files, name, old):
    """Pointers that lead nowhere are found when the file is opened, not in the middle of a job."""
    changes, message = CARPA_FAULTS[name]
    path = lm_files.folder / "G.carpa"
    path.write_bytes(carpa_bytes(lm_files.arpa, lm_files.words, CarpaLayout(old=old, **changes)))
    with pytest.raises(OldLmError, match=message):
        open_old_lm(path)


def test_carpa_of_another_words_txt_is_refused(lm_files):
    """Its sentence boundaries have other ids there."""
    path = lm_files.folder / "G.carpa"
    path.write_bytes(carpa_bytes(lm_files.arpa, lm_files.words))
    with pytest.raises(OldLmError, match=r"another id of </s>, expected 7, found 9"):
        open_old_lm(path, {**lm_files.words, "</s>": 7})


def test_missing_file_is_named(lm_files):
    """Before anything is read."""
    with pytest.raises(MissingInputError, match=r"G\.fst"):
        open_old_lm(lm_files.folder / "G.fst")
