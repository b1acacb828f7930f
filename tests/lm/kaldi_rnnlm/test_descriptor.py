# SPDX-License-Identifier: Apache-2.0
"""Descriptors become trees."""

from __future__ import annotations

import pytest

from kaldi_mpq.lm.kaldi_rnnlm.descriptor import Call, parse


def test_nested_calls_are_trees():
    """Names, numbers and calls nest as they are written."""
    offset = Call("Offset", ("lstm1.m_trunc", "-1"))
    assert parse("Append(input, IfDefined(Offset(lstm1.m_trunc, -1)))") == Call(
        "Append", ("input", Call("IfDefined", (offset,)))
    )
    assert parse("a-b.c_1") == "a-b.c_1"
    assert parse("Scale(-1.5e-3,x)") == Call("Scale", ("-1.5e-3", "x"))


@pytest.mark.parametrize("text", ["", "Append(a", "Append(a,)", "a b", "Append(a))", "(a)", "Append(,a)", "a;b"])
def test_malformed_descriptors_are_refused(text):
    """What is no descriptor is a ValueError, not half a tree."""
    with pytest.raises(ValueError, match="bad descriptor"):
        parse(text)
