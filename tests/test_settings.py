# SPDX-License-Identifier: Apache-2.0
"""Settings: conversion, checks, and the way there and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaldi_mpq.errors import ConfigError, MissingInputError
from kaldi_mpq.settings import as_plain, build, convert, read_yaml, setting


@dataclass(frozen=True)
class Example:
    """One of each type."""

    count: int = setting(3, help="a whole number")
    rate: float = setting(0.1, help="a number")
    good: bool = setting(True, help="true or false")
    name: str = setting("a", help="a word", choices=("a", "b"))
    file: Path | None = setting(None, help="a file")
    parts: tuple[float, ...] = setting((0.0, 1.0), help="numbers")


@given(
    st.builds(
        Example,
        count=st.integers(-(10**12), 10**12),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        good=st.booleans(),
        name=st.sampled_from(["a", "b"]),
        file=st.none() | st.just(Path("x/y.json")),
        parts=st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
    )
)
def test_plain_values_build_the_same_settings(example):
    """What is stamped into an artefact gives the settings back."""
    assert build(Example, as_plain(example)) == example


@given(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_words_of_the_command_line_mean_what_yaml_values_mean(count, rate, good):
    """A number as text and as a number is the same setting."""
    words = {"count": str(count), "rate": repr(rate), "good": str(good).lower()}
    assert build(Example, words) == build(Example, {"count": count, "rate": rate, "good": good})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 1}, "count"),
        ({"count": 1.5}, "count"),
        ({"count": True}, "count"),
        ({"count": "three"}, "three"),
        ({"rate": "fast"}, "rate"),
        ({"rate": False}, "rate"),
        ({"good": 1}, "true or false"),
        ({"name": "c"}, "a, b"),
        ({"name": {"x": 1}}, "name"),
        ({"parts": "1,x"}, "parts"),
    ],
)
def test_a_wrong_value_is_refused(values, message):
    """Unknown names, wrong types and wrong choices are errors that say what would be right."""
    with pytest.raises(ConfigError, match=message):
        build(Example, values, where="x.yaml")


def test_an_error_names_its_file():
    """Who has several configurations learns which one is wrong."""
    with pytest.raises(ConfigError, match=r"^conf/x\.yaml: "):
        build(Example, {"count": "three"}, where="conf/x.yaml")


def test_an_empty_word_is_none_where_none_is_allowed():
    """--file '' takes a default away."""
    assert convert("", Path | None, name="file") is None


def test_required_settings_are_named_together():
    """All that are missing are told at once."""

    @dataclass(frozen=True)
    class Required:
        """Two settings without a default."""

        one: int = setting(help="needed")
        two: int = setting(help="needed")

    # Annotations are looked up by name, which a class inside a function does not have.
    Required.__annotations__.update(one=int, two=int)
    with pytest.raises(ConfigError, match="one, two"):
        build(Required, {})


@pytest.mark.parametrize(("text", "message"), [("- 1\n", "mapping"), ("a: [1\n", "YAML"), ("word\n", "mapping")])
def test_yaml_that_is_no_mapping_is_refused(tmp_path, text, message):
    """A list, a word or broken YAML is an error with the file's name."""
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_yaml_may_be_empty_but_not_missing(tmp_path):
    """No settings are no fault; no file is."""
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "empty.yaml") == {}
    with pytest.raises(MissingInputError):
        read_yaml(tmp_path / "absent.yaml")
