# SPDX-License-Identifier: Apache-2.0
"""Packed kernels beside torch's float32 and dynamic int8 products, and packed models beside the same models unpacked.

    python benchmarks/packed_speed.py [--decode exp/chain/tdnn/decode_dev_tg] [--lm model.mpq ...] [--threads 1]

Ours and theirs take turns in one process on the same random weights; a row has the median of the time of each and of
the ratio within a turn, and its share of what AVX2 could multiply from registers alone, measured in the same run where
there is g++. Then N-best lists (those of --decode, as benchmarks/nbest_speed.py makes them) are scored with each packed
LM, its denominator exact and cheap, and with the same LM unpacked; the largest difference of a word's cost is beside
it. Last, what opening the LM and scoring a word adds to a process's resident memory, pages of the mapped file included.
With one thread seconds are of the processor, which other jobs on the machine disturb less than the clock. Prints
tables, writes benchmarks/out/packed_speed.json.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kaldi_mpq  # noqa: F401  sets MKL_DEBUG_CPU_TYPE before torch loads

# isort: split
import numpy as np
import torch
from nbest_speed import hypotheses
from peers.own import packed_matrix
from torch import nn

from kaldi_mpq.artefact import write_json
from kaldi_mpq.native.packed import kernel_names
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.rescore.tree_scores import SentenceCosts, score_hypotheses

SHAPES = ((512, 2048), (1024, 30080))
BITS = (1, 2, 4, 8)
SAMPLE = Path(__file__).resolve().parent.parent / "tests" / "data" / "ami" / "exp" / "chain" / "tdnn" / "decode_dev_tg"
MEMORY = """
import sys, torch
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.lm.normalizer import make_normalizer

def kilobytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

torch.set_num_threads(1)
torch.ones(9, 9) @ torch.ones(9, 9)  # what the first product takes is not the model's
before = kilobytes("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here on
model = open_lm(*sys.argv[1:])
normalizer = make_normalizer(model)
zero = torch.zeros(1, dtype=torch.int64)
hidden, _ = model.advance(model.start(1), zero, zero)
normalizer.logps(hidden, zero, zero)
print(before, kilobytes("VmRSS"), kilobytes("VmHWM"))
"""


def main() -> None:
    """Measure, print, write the numbers."""
    options = parse()
    torch.set_num_threads(options.threads)
    print(f"kernels {kernel_names()}, torch {torch.__version__}, {options.threads} thread(s)")
    result: dict[str, Any] = {"kernels": kernel_names(), "torch": torch.__version__, "threads": options.threads}
    most = limits()
    result["limits"] = most
    result["products"] = [
        row for shape in SHAPES for rows in options.rows for row in products(shape, rows, most, options)
    ]
    lists = hypotheses(options.decode, options.n, options.every) if options.lm else None
    result["nbest"] = [nbest(path, lists, options) for path in options.lm]
    result["memory"] = [memory(path) for path in options.lm]
    write_json(Path(__file__).parent / "out" / "packed_speed.json", result)


def limits() -> dict[int, float]:
    """Return GMAC/s that AVX2 could do with 8- and 16-bit activations on one thread; nothing without g++."""
    compiler = shutil.which("g++")
    if compiler is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "limit"
        subprocess.run([compiler, "-O2", Path(__file__).parent / "multiply_limit.cpp", "-o", program], check=True)
        done = subprocess.run([program], capture_output=True, text=True, check=True)
    found = dict(zip((8, 16), map(float, done.stdout.split()), strict=True))
    print(f"from registers alone: {found[8]:.0f} GMAC/s of bytes, {found[16]:.0f} of 16-bit numbers")
    return found


def products(
    shape: tuple[int, int], rows: int, most: dict[int, float], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure one product in all ways; return a row for each."""
    columns, words = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, columns)).astype(np.float32)
    linear = nn.Linear(columns, words, bias=False)
    small = torch.ao.quantization.quantize_dynamic(nn.Sequential(linear), {nn.Linear}, dtype=torch.qint8)
    inputs = torch.from_numpy(x)
    systems: dict[str, Callable[[], object]] = {}
    widths: dict[str, int] = {}  # of activations
    systems |= {"torch fp32": lambda: linear(inputs), "torch int8": lambda: small(inputs)}
    for bits in BITS:
        for activation_bits in (8, 16):
            job = {"bits": bits, "columns": columns, "words": words, "activation_bits": activation_bits}
            matrix = packed_matrix(job)
            name = f"{bits}-bit weights, {activation_bits}-bit activations"
            systems[name] = lambda matrix=matrix: matrix.multiply(x, threads=options.threads)
            widths[name] = activation_bits
    with torch.inference_mode():
        times = take_turns(systems, options.repeats, options.threads)
    found = []
    for name, seconds in times.items():
        row = {"product": f"{columns} x {words}, {rows} row(s)", "system": name, "seconds": statistics.median(seconds)}
        row["gmac_per_second"] = 1e-9 * rows * columns * words / row["seconds"]
        for peer in ("torch fp32", "torch int8"):
            row[f"times {peer}"] = statistics.median(a / b for a, b in zip(times[peer], seconds, strict=True))
        found.append(row)
        share = ""
        if name in widths and most:
            row["share_of_limit"] = row["gmac_per_second"] / (options.threads * most[widths[name]])
            share = f"{100 * row['share_of_limit']:>4.0f}% of limit"
        print(f"{row['product']:<26} {name:<36} {1e6 * row['seconds']:>9.0f} us {row['gmac_per_second']:>6.1f} GMAC/s "
              f"{row['times torch fp32']:>6.2f} x fp32 {row['times torch int8']:>6.2f} x int8 {share}",
              flush=True)  # fmt: skip
    return found


def take_turns(systems: dict[str, Callable[[], object]], repeats: int, threads: int) -> dict[str, list[float]]:
    """Return the seconds of each system, one number a turn: the least of three runs."""
    clock = time.process_time if threads == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(repeats):
        for name, run in systems.items():
            tries = []
            for _ in range(3):
                start = clock()
                run()
                tries.append(clock() - start)
            times[name].append(min(tries))
    return times


def nbest(path: Path, lists: tuple[np.ndarray, np.ndarray, np.ndarray], options: argparse.Namespace) -> dict[str, Any]:
    """Score the lists with a packed model and with the same one unpacked."""
    models = {kernel: open_lm(path, kernel) for kernel in ("torch", "packed", "packed8")}
    models["packed, cheap"] = open_lm(path, "packed", "cheap")
    costs: dict[str, SentenceCosts] = {}

    def score(kernel: str) -> None:
        costs[kernel] = score_hypotheses(models[kernel], *lists, 8192)

    systems = {kernel: lambda kernel=kernel: score(kernel) for kernel in models}
    times = take_turns(systems, max(1, options.repeats // 3), options.threads)
    words = len(lists[2]) + len(lists[1]) - 1
    row: dict[str, Any] = {"lm": str(path), "words": words, "evaluations": costs["torch"].evaluations}
    print(f"{path}: {words} words of {len(lists[1]) - 1} hypotheses, {row['evaluations']} evaluations")
    for kernel, seconds in times.items():
        difference = np.abs(np.r_[costs[kernel].word - costs["torch"].word, costs[kernel].final - costs["torch"].final])
        row[kernel] = {
            "words_per_second": words / statistics.median(seconds),
            "times_torch": statistics.median(a / b for a, b in zip(times["torch"], seconds, strict=True)),
            "largest_difference": float(difference.max()),
            "mean_difference": float(difference.mean()),
        }
        speed, ratio = row[kernel]["words_per_second"], row[kernel]["times_torch"]
        print(f"  {kernel:<15} {speed:>8.0f} words/s {ratio:>5.2f} x torch; |difference| of a word's cost "
              f"{difference.max():.1e}, mean {difference.mean():.1e} nats")  # fmt: skip
    return row


def memory(path: Path) -> dict[str, Any]:
    """Return megabytes of resident memory that a model adds to the interpreter's, unpacked and packed."""
    row: dict[str, Any] = {"lm": str(path)}
    for kernel in ("torch", "packed"):
        command = [sys.executable, "-c", MEMORY, str(path), kernel]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        before, after, peak = (int(kilobytes) / 1024 for kilobytes in done.stdout.split())
        row |= {"imports_mb": before, f"{kernel}_mb": after - before, f"{kernel}_peak_mb": peak - before}
        print(f"{path}, {kernel}: imports {before:.0f} MB, the model {after - before:+.1f}, at its peak "
              f"{peak - before:+.1f}")  # fmt: skip
    return row


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decode", type=Path, default=SAMPLE, help="Kaldi decode directory, for --lm")
    parser.add_argument("--lm", type=Path, nargs="*", default=[], help="packed LMs")
    parser.add_argument("--n", type=int, default=100, help="paths per lattice")
    parser.add_argument("--every", type=int, default=3, help="take every so-manieth utterance")
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 32, 256], help="rows of the products")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
