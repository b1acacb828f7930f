# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of archives go to: files, gzip files, standard output and child processes.

A name is what Kaldi calls an extended file name: a path, ``-`` or ``| command``. Faults of the outside world (a full
disk, a program that failed) are raised with that name.
Not here: what the bytes mean (`archive`), and Kaldi's ``ark:`` and ``scp:`` (`specifiers`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from kaldi_mpq.artefact import writing
from kaldi_mpq.errors import LatticeError
from kaldi_mpq.native.shell import failure, shell_command

__all__ = ["GZIP_LEVEL", "Sink", "open_sink"]

# The zlib level with the smallest files that still writes 50 MB/s: benchmarks/lattice_io.py --levels 1 2 3 4 6
GZIP_LEVEL = 3

_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class Sink(Protocol):
    """Bytes to be written."""

    def write(self, data: bytes) -> None:
        """Write all of ``data``."""

    def flush(self) -> None:
        """Pass on what was written."""


def open_sink(name: str, level: int = GZIP_LEVEL) -> AbstractContextManager[Sink]:
    """Return a context manager that gives the sink called ``name``.

    A file appears under its name when the context ends without an error, and not at all otherwise; it is compressed if
    it is called .gz. A program is waited for, or stopped after an error.

    Args:
      level: of compression, 1 (fast) to 9 (small).
    Raises:
      MpqError: something could not be written, or the program failed.
    """
    if name in ("", "-"):
        return _to_stream()
    if name.startswith("|"):
        return _to_pipe(name[1:].strip())
    if name.endswith("|"):
        raise LatticeError("a command to read from where one to write into is needed", found=repr(name))
    return _opened(name, name, level) if _is_device(name) else _to_file(name, level)


class _Writer:
    """A binary stream that is open, as it is."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, data: bytes) -> None:
        with _reporting(self._name):
            self._stream.write(data)

    def flush(self) -> None:
        with _reporting(self._name):
            self._stream.flush()

    def finish(self) -> None:
        self.flush()


class _Compressor(_Writer):
    """One gzip member."""

    def __init__(self, stream: IO[bytes], name: str, level: int) -> None:
        super().__init__(stream, name)
        self._member = zlib.compressobj(level, zlib.DEFLATED, _GZIP_WINDOW)

    def write(self, data: bytes) -> None:
        super().write(self._member.compress(data))

    def flush(self) -> None:
        """Do nothing: a gzip file is not read while it is written, and would grow."""

    def finish(self) -> None:
        super().write(self._member.flush())
        super().flush()


class _PipeWriter(_Writer):
    """The input of a child process."""

    def __init__(self, child: subprocess.Popen[bytes], name: str) -> None:
        super().__init__(child.stdin, name)
        self._child = child

    def write(self, data: bytes) -> None:
        with self._noticing_its_end():
            self._stream.write(data)

    def flush(self) -> None:
        with self._noticing_its_end():
            self._stream.flush()

    def finish(self) -> None:
        """Close its input and wait for it."""
        with self._noticing_its_end():
            self._stream.close()
        if status := self._child.wait():
            raise failure(self._name, status)

    @contextmanager
    def _noticing_its_end(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise failure(self._name, self._child.wait(), "the command ended before it had read everything") from None


def _is_device(name: str) -> bool:
    """Whether ``name`` is something that must not be replaced by a file: /dev/null, a named pipe, ..."""
    folder = os.path.realpath(os.path.dirname(name) or ".")
    if folder == "/dev" or folder.startswith("/proc/"):  # /dev/stdout and /dev/fd/3 may lead to a regular file
        return True
    return os.path.exists(name) and not os.path.isfile(name)


@contextmanager
def _to_file(name: str, level: int) -> Iterator[Sink]:
    # A link stays a link: the file that it leads to is replaced.
    with writing(Path(os.path.realpath(name))) as temporary, _opened(temporary, name, level) as sink:
        yield sink


@contextmanager
def _opened(path: str | Path, name: str, level: int) -> Iterator[Sink]:
    with _reporting(name):
        stream = open(path, "wb")  # noqa: SIM115  closed below, where a full disk may show too
    sink = _Compressor(stream, name, level) if name.endswith(".gz") else _Writer(stream, name)
    try:
        yield sink
        sink.finish()
    finally:
        with _reporting(name):
            stream.close()


@contextmanager
def _to_stream() -> Iterator[Sink]:
    sink = _Writer(sys.stdout.buffer, "standard output")
    yield sink
    sink.finish()


@contextmanager
def _to_pipe(command: str) -> Iterator[Sink]:
    # A group of its own, so that after an error no program in it takes the end of its input for success.
    child = subprocess.Popen(shell_command(command), stdin=subprocess.PIPE, start_new_session=True)
    sink = _PipeWriter(child, f"| {command}")
    try:
        yield sink
        sink.finish()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        with suppress(OSError):
            child.stdin.close()
        child.wait()
        raise


@contextmanager
def _reporting(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LatticeError("cannot write", where=name, found=error.strerror, hint="is the disk full?") from error
