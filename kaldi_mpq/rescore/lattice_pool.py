# SPDX-License-Identifier: Apache-2.0
"""Lattices on disk that can be read in any order, however many there are.

Not here: archives that a user sees; a pool is one plain file that is removed when it has served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kaldi_mpq import native
from kaldi_mpq.errors import LatticeError

__all__ = ["LatticePool"]


class LatticePool:
    """Lattices by name; filled once, then read.

    Args:
      path: of the file, which is nobody else's; its directory exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._places

    @contextmanager
    def filling(self) -> Iterator[Callable[[native.Lattices], None]]:
        """Yield the function that puts lattices in.

        It raises LatticeError for an utterance that is in already.
        """
        with native.LatticeWriter(self._path, double=True) as writer:

            def add(lattices: native.Lattices) -> None:
                for key, place in zip(lattices.keys, writer.write(lattices), strict=True):
                    if key in self._places:
                        raise LatticeError("an utterance is there twice", found=key)
                    self._places[key] = place

            yield add

    def read(self, keys: Iterable[str], max_arcs: int) -> Iterator[native.Lattices]:
        """Yield batches of lattices in the order of ``keys``; each ends after that with which it has ``max_arcs``."""
        script = self._path.with_suffix(".scp")
        with open(script, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.writelines(f"{key} {self._path}:{self._places[key]}\n" for key in keys)
        with native.LatticeReader(script) as reader:
            yield from reader.batches(max_arcs=max_arcs)
