# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of archives come from: files, gzip files, standard input and child processes.

A name is what Kaldi calls an extended file name: a path, ``path:offset``, ``-`` or ``command |``. Faults of the outside
world (a damaged gzip member, a program that failed) are raised with that name.
Not here: what the bytes mean (`archive`), and Kaldi's ``ark:`` and ``scp:`` (`specifiers`).
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import zlib
from typing import IO, Protocol

from kaldi_mpq.errors import LatticeError, MissingInputError
from kaldi_mpq.native.shell import failure, shell_command

__all__ = ["Source", "open_source", "split_offset"]

_READ_BYTES = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_OFFSET = re.compile(r"(.+):(\d+)", re.DOTALL)


class Source(Protocol):
    """Bytes to be read.

    Args:
      name: of the file or program, for messages.
      unit: what an offset counts, for messages.
      seekable: whether `seek` works.
    """

    name: str
    unit: str
    seekable: bool

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes or somewhat more, b"" at the end."""

    def seek(self, offset: int) -> None:
        """Continue at ``offset``."""

    def close(self, *, at_end: bool) -> None:
        """Close; with ``at_end`` everything was read, and what a program says by its exit status counts."""


def open_source(name: str) -> Source:
    """Return the source called ``name``; files that begin like gzip files, or are called .gz, are decompressed.

    Raises:
      MissingInputError: there is no such file.
      LatticeError: it cannot be read.
    """
    if name in ("", "-"):
        return _Stream(sys.stdin.buffer, "standard input")
    if name.startswith("|"):
        raise LatticeError("a command to write into where one to read from is needed", found=repr(name))
    if name.endswith("|"):
        return _Pipe(name[:-1].strip())
    path, offset = split_offset(name)
    source = _open_file(path)
    if offset:
        if not source.seekable:
            source.close(at_end=False)
            raise LatticeError("an offset into a file that cannot be read from the middle", where=name)
        source.seek(offset)
    return source


def split_offset(name: str) -> tuple[str, int]:
    """Return the path and the byte offset of ``path:offset``; a file that is really called so goes first."""
    found = _OFFSET.fullmatch(name)
    return (found[1], int(found[2])) if found and not os.path.exists(name) else (name, 0)


class _Stream:
    """A binary stream that is open, as it is."""

    unit = "byte"

    def __init__(self, stream: IO[bytes], name: str, *, seekable: bool = False) -> None:
        self.name = name
        self.seekable = seekable
        self._stream = stream
        self._read = getattr(stream, "read1", stream.read)  # do not wait for a whole buffer of a pipe

    def read(self, size: int) -> bytes:
        try:
            return self._read(size)
        except OSError as error:
            raise LatticeError("cannot read", where=self.name, found=error.strerror) from error

    def seek(self, offset: int) -> None:
        self._stream.seek(offset)

    def close(self, *, at_end: bool) -> None:
        if self._stream is not sys.stdin.buffer:
            self._stream.close()


class _Gzip:
    """A gzip file of any number of members, decompressed and verified."""

    unit = "uncompressed byte"
    seekable = False

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.name = name
        self._file = _Stream(stream, name)
        self._input = b""
        self._offset = 0  # of the end of _input, in the file
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._in_member = False
        self._any_member = False

    def read(self, size: int) -> bytes:
        while True:
            if not self._input:
                self._input = self._file.read(_READ_BYTES)
                self._offset += len(self._input)
            if not self._in_member and not self._begin_member():
                return b""
            if data := self._decompress(size):
                return data

    def _begin_member(self) -> bool:
        """Go to the first byte of the next member, over padding; whether there is one."""
        while self._input and self._any_member and not self._input.lstrip(b"\0"):
            self._input = self._file.read(_READ_BYTES)
            self._offset += len(self._input)
        if self._any_member:
            self._input = self._input.lstrip(b"\0")
            if not self._input:
                return False
        self._in_member = self._any_member = True
        return True

    def _decompress(self, size: int) -> bytes:
        if not self._input:
            where = f"{self.name}:byte {self._offset}"
            raise LatticeError("the gzip file is cut off", where=where, found="end of file")
        began = self._offset - len(self._input)
        try:
            data = self._member.decompress(self._input, size)
        except zlib.error as error:
            raise LatticeError(
                "a damaged gzip member", where=f"{self.name}:byte {began} or later", found=str(error)
            ) from error
        if self._member.eof:
            self._input = self._member.unused_data
            self._member = zlib.decompressobj(_GZIP_WINDOW)
            self._in_member = False
        else:
            self._input = self._member.unconsumed_tail
        return data

    def seek(self, offset: int) -> None:
        raise NotImplementedError(f"{self.name} is compressed")

    def close(self, *, at_end: bool) -> None:
        self._file.close(at_end=at_end)


class _Pipe:
    """What a shell command writes."""

    unit = "byte"
    seekable = False

    def __init__(self, command: str) -> None:
        self.name = f"{command} |"
        self._child = subprocess.Popen(shell_command(command), stdout=subprocess.PIPE, bufsize=0)
        self._stream = _Stream(self._child.stdout, self.name)

    def read(self, size: int) -> bytes:
        return self._stream.read(size)

    def seek(self, offset: int) -> None:
        raise NotImplementedError(f"{self.name} is a pipe")

    def close(self, *, at_end: bool) -> None:
        self._child.stdout.close()
        if not at_end:  # nobody waits for the rest of its output
            self._child.terminate()
        status = self._child.wait()
        # Killed by SIGPIPE: it had more to say than the next program of its pipe, such as `head`, wanted to hear.
        if at_end and status not in (0, -signal.SIGPIPE, 128 + signal.SIGPIPE):
            raise failure(self.name, status)


def _open_file(path: str) -> Source:
    try:
        stream = open(path, "rb", buffering=0)  # noqa: SIM115  the source closes it
        regular = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
        magic = stream.read(len(_GZIP_MAGIC)) if regular else b""
    except FileNotFoundError:
        raise MissingInputError([path]) from None
    except OSError as error:
        raise LatticeError("cannot read", where=path, found=error.strerror) from error
    if not regular:
        return _Stream(stream, path)
    stream.seek(0)
    if magic == _GZIP_MAGIC:
        return _Gzip(stream, path)
    if path.endswith(".gz"):
        stream.close()
        found = magic.hex(" ") or "nothing"
        raise LatticeError("not a gzip file", where=path, expected="bytes 1f 8b first", found=found)
    return _Stream(stream, path, seekable=True)
