# SPDX-License-Identifier: Apache-2.0
"""Precision maps: data, checked on the way in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaldi_mpq.errors import MissingInputError, PrecisionError
from kaldi_mpq.precision import CANDIDATE_BITS, PrecisionMap, Unit

MAPS = st.dictionaries(st.text(min_size=1, max_size=8), st.sampled_from(CANDIDATE_BITS), max_size=6)


@given(MAPS)
def test_a_written_map_reads_back(tmp_path_factory, bits):
    """Names and widths survive, whatever the names are, and so does their order."""
    path = tmp_path_factory.mktemp("map") / "precision.json"
    PrecisionMap(bits).write(path)
    assert list(PrecisionMap.read(path).bits.items()) == list(bits.items())


@pytest.mark.parametrize("width", [0, 3, -1, 64, 4.5, "4", True, None])
def test_a_width_that_is_no_candidate_is_refused(tmp_path, width):
    """In a file as in code, with the unit's name."""
    path = tmp_path / "precision.json"
    path.write_text(json.dumps({"output": width}))
    with pytest.raises(PrecisionError, match="output"):
        PrecisionMap.read(path)


@pytest.mark.parametrize("content", ["[8, 4]", "8", '"8"'])
def test_json_that_is_no_map_is_refused(tmp_path, content):
    """A list, a number or a word of JSON is an error with the file's name."""
    path = tmp_path / "precision.json"
    path.write_text(content)
    with pytest.raises(PrecisionError, match=r"precision\.json"):
        PrecisionMap.read(path)


def test_a_missing_map_is_named(tmp_path):
    """No file, no default."""
    with pytest.raises(MissingInputError, match="absent"):
        PrecisionMap.read(tmp_path / "absent.json")


def test_a_uniform_map_covers_its_units():
    """Every unit, once, at that width."""
    uniform = PrecisionMap.uniform(["a", "b"], 2)
    uniform.check_covers(["a", "b"])
    assert dict(uniform.bits) == {"a": 2, "b": 2}


@pytest.mark.parametrize(("units", "named"), [(["a"], "unknown: b"), (["a", "b", "c"], "missing: c")])
def test_a_map_that_does_not_fit_says_where(units, named):
    """Units too many and units too few are told by name."""
    with pytest.raises(PrecisionError, match=named):
        PrecisionMap({"a": 8, "b": 4}).check_covers(units)


def test_a_unit_counts_its_weights():
    """Rows times columns."""
    assert Unit("x", "weight", 10, 30, 7).count == 140
