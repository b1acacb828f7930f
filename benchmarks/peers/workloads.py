# SPDX-License-Identifier: Apache-2.0
"""What is measured: tables of systems that do the same work, ours and theirs. Not here: targets for it (`targets`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peers.materials import LSTM, TRANSFORMER, Materials, Shape

__all__ = ["BITS", "PRODUCTS", "Scale", "System", "Workload", "make_workloads"]

BITS = (1, 2, 4, 8)
PRODUCTS = {  # columns, words, rows
    "output layer, 1 row": (1024, 30080, 1),
    "layer, 1 row": (512, 2048, 1),
    "layer, 32 rows": (512, 2048, 32),
    "layer, 256 rows": (512, 2048, 256),
}
WEIGHT_BITS = 2  # of the LMs


@dataclass(frozen=True)
class System:
    """Who does what.

    Args:
      engine: a module of `peers`.
      job: what it is asked to do.
      macs: multiplications of one evaluation; how many there are, the engine says.
      limit: what they are held against: ``bytes``, products of bytes, or ``fp32 FMA``.
      environment: variables of the engine's process.
      same: the result is that of the workload's other systems, up to rounding.
    """

    engine: str
    job: Mapping[str, Any]
    macs: float = 0.0
    limit: str = "bytes"
    environment: Mapping[str, str] = field(default_factory=dict)
    same: bool = True


@dataclass(frozen=True)
class Workload:
    """Systems that take turns at the same work.

    Args:
      name: as in the results.
      unit: of speed.
      amount: what is done in a run, in that unit times a second.
      systems: by label.
      by_clock: seconds are of the clock, not of the processor: where several threads are at work.
    """

    name: str
    unit: str
    amount: float
    systems: Mapping[str, System]
    by_clock: bool = False


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Args:
      n: paths per lattice.
      every: of the utterances of the sample, in N-best lists.
      bits: widths of the products.
      products: their shapes.
      lstm, transformer: shapes of the LMs.
    """

    n: int = 100
    every: int = 8
    bits: tuple[int, ...] = BITS
    products: Mapping[str, tuple[int, int, int]] = field(default_factory=lambda: PRODUCTS)
    lstm: Shape = LSTM
    transformer: Shape = TRANSFORMER


def make_workloads(materials: Materials, scale: Scale) -> Mapping[str, Callable[[], Workload]]:
    """Return what makes each workload, by a short name: some need models that take seconds to make."""
    made: dict[str, Callable[[], Workload]] = {
        "lstm": lambda: _lstm(materials, scale),
        "transformer": lambda: _transformer(materials, scale),
        "n": lambda: _paths(materials, scale),
        "threads": lambda: _threads(materials, scale),
    }
    for name, shape in scale.products.items():
        made[name] = lambda shape=shape: _product(scale, *shape)
    return made


def _lstm(materials: Materials, scale: Scale) -> Workload:
    job, tokens = _nbest_job(materials, scale.lstm, scale.n, scale.every)
    whole, alone = scale.lstm.macs_per_word(materials.vocabulary), scale.lstm.macs_per_word(1)
    systems = {
        "ours": System("own", job, whole),
        "ours, 8-bit activations": System("own", job | {"kernel": "packed8"}, whole),
        "ours, cheap denominator": System("own", job | {"denominator": "cheap"}, whole),
        "ours, unpacked to float32": System("own", job | {"kernel": "torch"}, whole, "fp32 FMA"),
        "ours, no shared prefixes": System("own", job | {"share": False}, whole),
        "ours, self-normalised": System("own", job | {"normalize": False}, alone, same=False),
        "ONNX Runtime int8": System("onnx_runtime", job, whole),
        "ONNX Runtime int8, self-normalised": System("onnx_runtime", job | {"normalize": False}, alone, same=False),
        "torch int8": System("torch_engine", job | {"way": "int8"}, whole),
        "torch fp32": System("torch_engine", job | {"way": "fp32"}, whole, "fp32 FMA"),
    }
    shape = f"{scale.lstm.layers}x{scale.lstm.hidden_dim}"
    name = f"N-best {scale.n}, LSTM {shape}, {materials.vocabulary} words, {WEIGHT_BITS} bits"
    return Workload(name, "words/s", tokens, systems)


def _transformer(materials: Materials, scale: Scale) -> Workload:
    job, tokens = _nbest_job(materials, scale.transformer, scale.n, 2 * scale.every)
    whole = scale.transformer.macs_per_word(materials.vocabulary)
    systems = {
        "ours": System("own", job, whole),
        "ours, 8-bit activations": System("own", job | {"kernel": "packed8"}, whole),
        "ours, cheap denominator": System("own", job | {"denominator": "cheap"}, whole),
        "ours, unpacked to float32": System("own", job | {"kernel": "torch"}, whole, "fp32 FMA"),
        "CTranslate2 int8": System("ct2_engine", job, whole),  # its own choice on AMD; its sums saturate without VNNI
        "CTranslate2 int8, MKL": System("ct2_engine", job, whole, environment={"CT2_USE_MKL": "1"}),
    }
    shape = f"{scale.transformer.layers}x{scale.transformer.embedding_dim}"
    name = f"N-best {scale.n}, Transformer {shape}, {materials.vocabulary} words, {WEIGHT_BITS} bits"
    return Workload(name, "words/s", tokens, systems)


def _paths(materials: Materials, scale: Scale) -> Workload:
    job, _ = _nbest_job(materials, scale.lstm, scale.n, scale.every)
    job |= {"kind": "nbest search", "archive": str(materials.archive(2 * scale.every))}
    counts = (scale.n // 10, scale.n, 10 * scale.n)
    systems = {f"N = {n}": System("own", job | {"n": n}, same=False) for n in counts}
    return Workload("from lattices to scores, LSTM", "jobs/s", 1, systems)


def _threads(materials: Materials, scale: Scale) -> Workload:
    job, tokens = _nbest_job(materials, scale.lstm, scale.n, scale.every)
    systems = {f"{threads} thread(s)": System("own", job | {"threads": threads}) for threads in (1, 2)}
    return Workload("threads, LSTM", "words/s", tokens, systems, by_clock=True)


def _product(scale: Scale, columns: int, words: int, rows: int) -> Workload:
    job = {"kind": "product", "columns": columns, "words": words, "rows": rows, "threads": 1}
    macs = columns * words * rows
    systems = {}
    for bits in scale.bits:
        for activations in (8, 16):
            label = f"ours, {bits} bits, {activations}-bit activations"
            systems[label] = System("own", job | {"bits": bits, "activation_bits": activations}, macs, same=bits == 2)
    job |= {"bits": 2}  # of the values; how they are held is the peer's
    for width in (2, 4, 8):
        label = f"ONNX Runtime {width} bits"
        systems[label] = System("onnx_runtime", job | {"way": "nbits", "width": width, "tables": False}, macs)
    tables = job | {"way": "nbits", "width": 2, "tables": True}
    systems["ONNX Runtime 2 bits, look-up tables"] = System("onnx_runtime", tables, macs)
    systems["ONNX Runtime int8"] = System("onnx_runtime", job | {"way": "dynamic"}, macs)
    systems["torch int8"] = System("torch_engine", job | {"way": "int8"}, macs)
    systems["torch fp32"] = System("torch_engine", job | {"way": "fp32"}, macs, "fp32 FMA")
    return Workload(f"{columns} x {words}, {rows} row(s)", "GMAC/s", 1e-9 * macs, systems)


def _nbest_job(materials: Materials, shape: Shape, n: int, every: int) -> tuple[dict[str, Any], int]:
    """Return a job and its words, sentence ends counted."""
    lists = materials.lists(n, every)
    packed, floats = materials.lm(shape, WEIGHT_BITS)
    with np.load(lists) as stored:
        tokens = len(stored["words"]) + len(stored["word_offsets"]) - 1
    job = {"kind": f"nbest {shape.model}", "lists": str(lists), "lm": str(packed), "weights": str(floats)}
    job |= {"layers": shape.layers, "heads": shape.heads}
    return job | {"kernel": "auto", "normalize": True, "share": True, "threads": 1}, tokens
