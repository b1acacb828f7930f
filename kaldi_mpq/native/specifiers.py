# SPDX-License-Identifier: Apache-2.0
"""Kaldi's table specifiers: ``ark:...`` and ``scp:...``, what to read or write and how.

Not here: opening what they name (`sources`, `sinks`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from kaldi_mpq.errors import LatticeError
from kaldi_mpq.native.sources import open_source

__all__ = ["ScpEntry", "SourceSpecifier", "TargetSpecifier", "parse_source", "parse_target", "scp_entries"]

_TABLES = {"ark", "scp"}
# Those of readers are about random access or, like b and t, do nothing; those of writers are b, t, f, nf, p.
_READ_OPTIONS = {"o", "no", "s", "ns", "cs", "ncs", "p", "np", "bg", "b", "t"}
_WRITE_OPTIONS = {"b", "t", "f", "nf", "p"}
_ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}


@dataclass(frozen=True)
class SourceSpecifier:
    """What to read.

    Args:
      table: ``"ark"`` or ``"scp"``.
      name: of the archive or the script file, as Kaldi names files.
      permissive: a bad record is no error: it ends an archive, and is left out of a script file.
    """

    table: str
    name: str
    permissive: bool = False


@dataclass(frozen=True)
class TargetSpecifier:
    """What to write.

    Args:
      archive: where the archive goes, as Kaldi names files.
      script: where the script file goes that says at what offset each record is.
      text: Kaldi's text form.
      flush: pass on every record at once.
    """

    archive: str
    script: str | None = None
    text: bool = False
    flush: bool = False


@dataclass(frozen=True)
class ScpEntry:
    """A line of a script file: a key, the name of what holds its object, and where the line is, for messages."""

    key: str
    name: str
    where: str


def parse_source(source: str | os.PathLike[str]) -> SourceSpecifier:
    """Return what ``source`` says: a specifier, or the name of an archive or (if it ends in .scp) of a script file.

    Raises:
      LatticeError: it is not a specifier to read from.
    """
    name = os.fspath(source)
    words, rest = _split(name) if isinstance(source, str) else (None, name)
    if words is None:
        return SourceSpecifier("scp" if name.endswith(".scp") else "ark", name)
    tables = [word for word in words if word in _TABLES]
    _refuse_unknown(name, words, _READ_OPTIONS)
    if len(tables) != 1:
        raise LatticeError("not something to read", expected="ark:NAME or scp:NAME", found=repr(name))
    return SourceSpecifier(tables[0], rest, permissive="p" in words)


def parse_target(target: str | os.PathLike[str], text: bool = False) -> TargetSpecifier:
    """Return what ``target`` says: a specifier, or the name of an archive.

    Args:
      text: Kaldi's text form whether or not the specifier asks for it.
    Raises:
      LatticeError: it is not a specifier to write to.
    """
    name = os.fspath(target)
    words, rest = _split(name) if isinstance(target, str) else (None, name)
    if words is None:
        return TargetSpecifier(name, text=text)
    tables = [word for word in words if word in _TABLES]
    _refuse_unknown(name, words, _WRITE_OPTIONS)
    text = text or "t" in words
    if tables == ["ark"]:
        return TargetSpecifier(rest, None, text, "f" in words)
    archive, comma, script = rest.partition(",")
    if tables != ["ark", "scp"] or not comma:
        raise LatticeError("not something to write", expected="ark:NAME or ark,scp:ARCHIVE,SCRIPT", found=repr(name))
    if archive in ("", "-") or archive.startswith("|") or archive.endswith(".gz"):
        raise LatticeError("no script file can point into it", where=archive, expected="a plain file", found=repr(name))
    return TargetSpecifier(archive, script, text, "f" in words)


def scp_entries(name: str) -> Iterator[ScpEntry]:
    """Yield the lines of a script file; empty lines are skipped.

    Raises:
      LatticeError: a line has no file name, or one with a range, which lattices do not have.
    """
    source = open_source(name)
    at_end = False
    try:
        for number, line in enumerate(_lines(source.read), 1):
            words = line.split(None, 1)
            where = f"{source.name}:{number}"
            if not words:
                continue
            if len(words) == 1 or words[1].rstrip().endswith("]"):
                raise LatticeError("bad line", where=where, expected="key file", found=repr(line.strip()))
            yield ScpEntry(words[0], words[1].strip(), where)
        at_end = True
    finally:
        source.close(at_end=at_end)


def _split(name: str) -> tuple[list[str] | None, str]:
    """Return the options and the name of a specifier, (None, name) if it is none."""
    options, colon, rest = name.partition(":")
    words = options.split(",")
    return (words, rest.strip()) if colon and _TABLES.intersection(words) else (None, name)


def _refuse_unknown(name: str, words: list[str], known: set[str]) -> None:
    unknown = [word for word in words if word not in known | _TABLES]
    if unknown:
        expected = ", ".join(sorted(known))
        raise LatticeError("unknown option in a specifier", where=name, expected=expected, found=unknown[0])


def _lines(read) -> Iterator[str]:
    rest = b""
    while piece := read(1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.decode(**_ENCODING) for line in lines)
    if rest:
        yield rest.decode(**_ENCODING)
