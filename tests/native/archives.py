# SPDX-License-Identifier: Apache-2.0
"""What the tests of archives share: reading and writing in one call, lattices compared, records built by hand."""

from __future__ import annotations

import os
import struct

import numpy as np

from kaldi_mpq.native import LatticeReader, Lattices, LatticeWriter

ARRAYS = (
    "compact", "start", "state_offsets", "arc_offsets",
    "final_graph", "final_acoustic", "final_tid_offsets", "final_tids",
    "arc_word", "arc_dest", "arc_graph", "arc_acoustic", "arc_tid_offsets", "arc_tids",
)  # fmt: skip
COSTS = ("final_graph", "final_acoustic", "arc_graph", "arc_acoustic")
MAGIC = bytes.fromhex("d6fdb27e")


def read(source: str | os.PathLike[str], **limits: int) -> Lattices:
    """Return all lattices of ``source``."""
    with LatticeReader(source) as reader:
        return Lattices.concat(list(reader.batches(**limits)))


def write(target: str | os.PathLike[str], lattices: Lattices, **options) -> None:
    """Write all of ``lattices`` to ``target``."""
    with LatticeWriter(target, **options) as writer:
        writer.write(lattices)


def arrays_of(lattices: Lattices) -> dict[str, np.ndarray]:
    """Return the arrays and keys of a batch, as `Lattices.from_arrays` takes them."""
    return {"keys": lattices.keys, **{name: getattr(lattices, name) for name in ARRAYS}}


def assert_same(found: Lattices, expected: Lattices, costs=lambda values: values) -> None:
    """Fail unless the batches are equal in everything, costs after ``costs`` was applied to the expected ones."""
    assert found.keys == expected.keys
    for array in ARRAYS:
        values = getattr(expected, array)
        np.testing.assert_array_equal(getattr(found, array), costs(values) if array in COSTS else values, array)


def as_text_tells(lattices: Lattices) -> Lattices:
    """Return what the text form keeps: no arcs of infinite cost, and no type where there are only bare numbers."""
    has_tids = np.diff(lattices.arc_tid_offsets) > 0
    compact_arc = np.repeat(lattices.compact, np.diff(lattices.arc_offsets[lattices.state_offsets])).astype(bool)
    keep = np.isfinite(lattices.arc_graph) | np.isfinite(lattices.arc_acoustic) | (has_tids & compact_arc)
    arrays = arrays_of(lattices)
    before = np.r_[0, np.cumsum(keep)]
    arrays["arc_offsets"] = before[lattices.arc_offsets]
    arrays["arc_tids"] = lattices.arc_tids[np.repeat(keep, np.diff(lattices.arc_tid_offsets))]
    arrays["arc_tid_offsets"] = np.r_[0, np.cumsum(np.diff(lattices.arc_tid_offsets)[keep])]
    for name in ("arc_word", "arc_dest", "arc_graph", "arc_acoustic"):
        arrays[name] = arrays[name][keep]
    compact = arrays["compact"] = lattices.compact.copy()
    for i, (begin, end) in enumerate(zip(lattices.state_offsets[:-1], lattices.state_offsets[1:])):
        no_arcs = arrays["arc_offsets"][begin] == arrays["arc_offsets"][end]
        if no_arcs and not lattices.final_graph[begin:end].any() and not lattices.final_acoustic[begin:end].any():
            compact[i] = 1
    return Lattices.from_arrays(**arrays)


def six_digits(values: np.ndarray) -> np.ndarray:
    """Return what Kaldi's text form keeps of costs."""
    return np.array([float(f"{value:.6g}") for value in values.astype(np.float32)])


def name(text: str) -> bytes:
    """Return a string as OpenFst writes it."""
    data = text.encode()
    return struct.pack("<i", len(data)) + data


def header(
    arc_type: str = "compactlattice44",
    *,
    fst_type: str = "vector",
    version: int = 2,
    flags: int = 0,
    properties: int = 3,
    start: int = 0,
    num_states: int = 1,
    num_arcs: int = 0,
) -> bytes:
    """Return the header of a binary lattice."""
    counts = struct.pack("<iiQqqq", version, flags, properties, start, num_states, num_arcs)
    return MAGIC + name(fst_type) + name(arc_type) + counts


def compact_weight(graph: float, acoustic: float, tids: tuple[int, ...] = (), real: str = "f") -> bytes:
    """Return a weight of a binary CompactLattice; ``real="d"`` for float64 costs."""
    return struct.pack(f"<2{real}i{len(tids)}i", graph, acoustic, len(tids), *tids)


def symbol_table(*symbols: str) -> bytes:
    """Return a symbol table as OpenFst writes it."""
    table = struct.pack("<i", 2125658996) + name("words.txt") + struct.pack("<qq", len(symbols), len(symbols))
    return table + b"".join(name(symbol) + struct.pack("<q", number) for number, symbol in enumerate(symbols))
