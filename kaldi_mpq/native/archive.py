# SPDX-License-Identifier: Apache-2.0
"""Kaldi lattice archives: read in batches, whatever their size, and written so that Kaldi reads them.

All four of Kaldi's lattice types, binary and text, told apart record by record; archives, script files, gzip, pipes.
Parsing and formatting are C++ and let other Python threads run.
Not here: what is done with lattices (`paths`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from kaldi_mpq.errors import ConfigError, LatticeError, MissingInputError
from kaldi_mpq.native import _archive
from kaldi_mpq.native.sinks import GZIP_LEVEL, Sink, open_sink
from kaldi_mpq.native.sources import Source, open_source, split_offset
from kaldi_mpq.native.specifiers import ScpEntry, parse_source, parse_target, scp_entries

__all__ = ["LatticeReader", "LatticeWriter", "Lattices"]

log = logging.getLogger(__name__)

Lattices = _archive.Lattices

# Two batches are alive while a consumer still holds one and the next is read: 200 MB of memory must be enough.
_BATCH_BYTES = 24 << 20
_PIECE_BYTES = 1 << 20
_NO_LIMIT = 2**62


class LatticeReader:
    """Lattices in the order of an archive or script file; a context manager.

    Args:
      source: a path (archive, .gz or not; .scp: script file), or one of Kaldi's specifiers: ``ark:-``, ``scp:lat.scp``,
        ``ark,s,cs:gunzip -c lat.1.gz |``, ``ark,p:...``.
    Raises:
      MissingInputError: there is no such file.
      LatticeError: it cannot be opened.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self._specifier = parse_source(source)
        name, permissive = self._specifier.name, self._specifier.permissive
        self._table = _Script(name, permissive) if self._specifier.table == "scp" else _Archive(name)
        self._more = True

    def __enter__(self) -> LatticeReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, or stop the program; what was not read yet is not checked."""
        self._table.close(at_end=False)

    def batches(
        self, max_arcs: int = 2_000_000, max_lattices: int | None = None, max_bytes: int = _BATCH_BYTES
    ) -> Iterator[Lattices]:
        """Yield batches; a batch ends after the lattice with which it reaches one of the limits.

        Args:
          max_bytes: of memory.
        Raises:
          LatticeError: a record, a gzip member or a program's exit status is bad; file and place are named. With the
            option ``p`` (permissive) a warning is logged instead.
        """
        while self._more:
            batch = _archive.Batch(max_lattices or _NO_LIMIT, max_arcs, max_bytes)
            try:
                self._more = self._table.fill(batch)
                if not self._more:
                    self._table.close(at_end=True)
            except LatticeError as error:
                self._more = False
                if not self._specifier.permissive:
                    raise
                log.warning("the rest is left out: %s", error)
            if len(batch):
                yield batch.take()


class _Archive:
    """The records of one archive."""

    def __init__(self, name: str) -> None:
        self._source: Source | None = open_source(name)
        self._reader = _reader_of(self._source)
        if self._source.seekable and (offset := split_offset(name)[1]):
            self._reader.seek(offset)

    def fill(self, batch: _archive.Batch) -> bool:
        return self._reader.fill(batch)

    def close(self, *, at_end: bool) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close(at_end=at_end)


def _reader_of(source: Source) -> _archive.ArchiveReader:
    return _archive.ArchiveReader(source.read, source.name, source.unit)


class _Script:
    """The entries of one script file. A file stays open for as long as the entries are in it."""

    def __init__(self, name: str, permissive: bool) -> None:
        self._permissive = permissive
        self._entries = scp_entries(name)
        self._first = next(self._entries, None)  # so that a missing file is noticed at once
        self._path: str | None = None
        self._source: Source | None = None
        self._reader: _archive.ArchiveReader | None = None

    def fill(self, batch: _archive.Batch) -> bool:
        while not batch.full:
            entry, self._first = self._first or next(self._entries, None), None
            if entry is None:
                return False
            try:
                self._read(entry, batch)
            except LatticeError as error:
                if not self._permissive:
                    raise
                log.warning("left out: %s", error)
        return True

    def _read(self, entry: ScpEntry, batch: _archive.Batch) -> None:
        path, offset = split_offset(entry.name)
        if self._path is None or path != self._path or not self._source.seekable:
            self._open(entry, path)
        if self._source.seekable:
            if not self._reader.seek(offset):
                self._source.seek(offset)
        elif offset:
            raise LatticeError("an offset into a compressed file", where=entry.where, found=entry.name)
        self._reader.read_object(batch, entry.key)
        if not self._source.seekable:
            if not self._reader.at_end():
                raise LatticeError("more than one lattice", where=entry.where, found=entry.name)
            self._close_source(at_end=True)

    def _open(self, entry: ScpEntry, path: str) -> None:
        self._close_source(at_end=False)
        try:
            self._source = open_source(path)
        except MissingInputError as error:
            raise LatticeError("missing file", where=entry.where, found=entry.name) from error
        self._path = path
        self._reader = _reader_of(self._source)

    def _close_source(self, *, at_end: bool) -> None:
        source, self._source, self._path = self._source, None, None
        if source is not None:
            source.close(at_end=at_end)

    def close(self, *, at_end: bool) -> None:
        self._entries.close()
        self._close_source(at_end=False)


class LatticeWriter:
    """Writes an archive; a context manager.

    A file appears under its name when the context ends without an error, and not at all otherwise.

    Args:
      target: a path (compressed if it ends in .gz), or one of Kaldi's specifiers: ``ark,t:-``,
        ``ark:| gzip -c > lat.1.gz``, ``ark,scp:lat.ark,lat.scp``.
      text: Kaldi's text form, which keeps 6 digits of each cost.
      double: keep costs in float64; in text, all of their digits. Kaldi reads it, but itself writes float32.
      level: of gzip, 1 (fast) to 9 (small).
    Raises:
      LatticeError: ``target`` is nothing that can be written to.
    """

    def __init__(
        self, target: str | os.PathLike[str], text: bool = False, *, double: bool = False, level: int = GZIP_LEVEL
    ) -> None:
        if level not in range(1, 10):
            raise ConfigError("gzip level out of range", expected="1 to 9", found=level)
        self._target = parse_target(target, text)
        self._double = double
        self._level = level
        self._stack = ExitStack()
        self._archive: Sink | None = None
        self._script: Sink | None = None
        self._offset = 0

    def __enter__(self) -> LatticeWriter:
        with ExitStack() as stack:
            # What was opened last is finished first: no script file points into an archive that is not there.
            if self._target.script is not None:
                self._script = stack.enter_context(open_sink(self._target.script, self._level))
            self._archive = stack.enter_context(open_sink(self._target.archive, self._level))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, traceback)

    def write(self, lattices: Lattices, indices: Sequence[int] | NDArray[np.integer] | None = None) -> list[int]:
        """Append lattices; return where in the archive each one is, as a script file says it.

        Args:
          indices: which of ``lattices``, in which order; None: all.
        Raises:
          LatticeError: a key has white space, a state number is out of range, a cost is too large for a float32.
          MpqError: it cannot be written.
        """
        if self._archive is None:
            raise ValueError("a LatticeWriter writes inside its with block")
        chosen = np.arange(len(lattices)) if indices is None else np.asarray(indices)
        keys = lattices.keys if self._script is not None else []
        places: list[int] = []
        while len(places) < len(chosen):
            done = len(places)
            data, objects = _archive.format(lattices, chosen, done, self._target.text, self._double, _PIECE_BYTES)
            places += [self._offset + at for at in objects]
            if self._script is not None:
                self._point_to([keys[i] for i in chosen[done : len(places)]], places[done:])
            self._write_out(data)
        return places

    def _write_out(self, data: bytes) -> None:
        self._archive.write(data)
        self._offset += len(data)
        if self._target.flush:
            self._archive.flush()

    def _point_to(self, keys: list[str], places: list[int]) -> None:
        """Say in the script file where in the archive lattices are."""
        lines = (f"{key} {self._target.archive}:{place}\n" for key, place in zip(keys, places, strict=True))
        self._script.write("".join(lines).encode("utf-8", "surrogateescape"))
