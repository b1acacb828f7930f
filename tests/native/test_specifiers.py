# SPDX-License-Identifier: Apache-2.0
"""Kaldi's specifiers mean what they mean in Kaldi."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaldi_mpq.errors import LatticeError
from kaldi_mpq.native.specifiers import (
    ScpEntry,
    SourceSpecifier,
    TargetSpecifier,
    parse_source,
    parse_target,
    scp_entries,
)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("lat.1.gz", SourceSpecifier("ark", "lat.1.gz")),
        ("dir/lat.scp", SourceSpecifier("scp", "dir/lat.scp")),
        (Path("ark:lat.scp"), SourceSpecifier("scp", "ark:lat.scp")),
        ("a:b", SourceSpecifier("ark", "a:b")),
        ("ark:-", SourceSpecifier("ark", "-")),
        ("ark:", SourceSpecifier("ark", "")),
        ("ark:gunzip -c a.gz|", SourceSpecifier("ark", "gunzip -c a.gz|")),
        ("ark,s,cs:echo a:b,c |", SourceSpecifier("ark", "echo a:b,c |")),
        ("b,ark,t,o,ns,ncs,bg,no,np:x", SourceSpecifier("ark", "x")),
        ("scp,p:x", SourceSpecifier("scp", "x", permissive=True)),
        ("ark: x ", SourceSpecifier("ark", "x")),
    ],
)
def test_sources(source: str | Path, expected: SourceSpecifier):
    """Table, name and options; a path is a path whatever it looks like."""
    assert parse_source(source) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("lat.1.gz", TargetSpecifier("lat.1.gz")),
        ("ark,t:-", TargetSpecifier("-", text=True)),
        ("ark,b,nf:| gzip -c > a,b.gz", TargetSpecifier("| gzip -c > a,b.gz")),
        ("ark,f:a", TargetSpecifier("a", flush=True)),
        ("ark,scp:a.ark,b.scp", TargetSpecifier("a.ark", "b.scp")),
        ("ark,scp,t:a.ark,-", TargetSpecifier("a.ark", "-", text=True)),
        (Path("ark,t:x"), TargetSpecifier("ark,t:x")),
    ],
)
def test_targets(target: str | Path, expected: TargetSpecifier):
    """Archive, script file and options."""
    assert parse_target(target) == expected


@pytest.mark.parametrize("source", ["ark,scp:a,b", "ark,x:a", "ark,,s:a", "scp,f:a", "ark,ark:a"])
def test_bad_sources_are_refused(source: str):
    """Unknown options, and what Kaldi only writes."""
    with pytest.raises(LatticeError, match=r"unknown option|not something to read"):
        parse_source(source)


@pytest.mark.parametrize(
    "target", ["scp:a", "scp,ark:a,b", "ark,scp:a", "ark,s:a", "ark,scp:-,b", "ark,scp:a.gz,b", "ark,scp:|x,b"]
)
def test_bad_targets_are_refused(target: str):
    """Unknown options, orders that Kaldi does not know, archives that no offset can point into."""
    with pytest.raises(LatticeError, match=r"unknown option|not something to write|no script file can point"):
        parse_target(target)


def test_lines_of_a_script_file(tmp_path: Path):
    """Key, then everything to the end of the line, spaces within it; CRLF, empty lines and a missing last newline."""
    path = tmp_path / "s"
    path.write_bytes(b"a x.ark:12\r\n\n  b\tgunzip -c y.gz |  \n\xff\xe9 z z")
    assert list(scp_entries(str(path))) == [
        ScpEntry("a", "x.ark:12", f"{path}:1"),
        ScpEntry("b", "gunzip -c y.gz |", f"{path}:3"),
        ScpEntry("\udcff\udce9", "z z", f"{path}:4"),
    ]
    for line in ("a\n", "a b.ark:12[0:3]\n"):
        path.write_text("x y\n" + line)
        with pytest.raises(LatticeError, match=f"{path}:2: bad line"):
            list(scp_entries(str(path)))


def test_a_script_file_may_come_from_a_command(tmp_path: Path):
    """scp:command | is read to its end, and its exit status counts."""
    assert [entry.key for entry in scp_entries("printf 'a x\\nb y\\n' |")] == ["a", "b"]
    with pytest.raises(LatticeError, match="the command failed"):
        list(scp_entries("echo a x; false |"))
