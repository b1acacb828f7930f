# SPDX-License-Identifier: Apache-2.0
"""Packed rescoring beside other engines, each in a process of its own, in turn; and what was aimed at.

    benchmarks/peers/make_env.sh                 # ONNX Runtime and CTranslate2; without them their rows say so
    python benchmarks/against_peers.py [--only lstm "layer, 32 rows" ...] [--repeats 5]
    python benchmarks/pictures.py                # docs/*.svg from what this wrote

Peers are at their best settings, get distinct hypotheses sorted by length, and choose sizes of batches themselves.
Seconds are of the processor, one thread each, which other jobs on the machine disturb less than the clock; two threads
are measured by the clock. A number is the median over the turns, with the least and the most. The limits of a core are
measured in the same run. LMs have random weights, lists are real (tests/data). Prints tables, writes
benchmarks/out/against_peers.json.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import kaldi_mpq  # sets MKL_DEBUG_CPU_TYPE before torch loads

# isort: split
from peers.costs import cold_start, memory
from peers.materials import Materials, Shape
from peers.process import BENCHMARKS
from peers.protocol import Skipped
from peers.roof import Roof
from peers.tables import as_table, systems_table
from peers.targets import rows_of
from peers.turns import Workers, take_turns
from peers.workloads import Scale, System, make_workloads

from kaldi_mpq.artefact import write_json

ROOT = BENCHMARKS.parent
SAMPLE = ROOT / "tests" / "data" / "ami"
QUICK = Scale(
    n=10,
    every=15,
    bits=(1, 2),
    products={"output layer, 1 row": (128, 512, 1), "layer, 32 rows": (128, 256, 32)},
    lstm=Shape("lstm", 64, 64, 1),
    transformer=Shape("transformer", 64, 64, 1, 2),
)
COSTS = ("memory", "cold start", "profile")


def main() -> None:
    """Measure, print, write the numbers."""
    options = parse()
    scale = QUICK if options.quick else Scale(every=options.every)
    workers = Workers(dict.fromkeys(("onnx_runtime", "ct2_engine"), options.peers_python))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lm").mkdir()
        materials = Materials(folder / "lm", options.decode, options.lang, 12_000 if options.quick else 30_000)
        try:
            results = measure(options, scale, materials, workers, folder)
        finally:
            workers.close()
    if not options.quick:
        rows = rows_of(results)
        print(f"\n{as_table(rows)}")
        results["targets"] = [vars(row) for row in rows]
    write_json(options.out, results)
    print(f"written: {options.out}")


def measure(
    options: argparse.Namespace, scale: Scale, materials: Materials, workers: Workers, folder: Path
) -> dict[str, Any]:
    """Return the numbers of everything that is asked for; print those of each part as they come."""
    roof = Roof(folder)
    repeats = 1 if options.quick else options.repeats
    results: dict[str, Any] = {"machine": machine(), "quick": options.quick, "repeats": repeats, "workloads": {}}
    wanted = make_workloads(materials, scale)
    check_names(options.only, [*wanted, *COSTS])
    for key, make in wanted.items():
        if options.only and key not in options.only:
            continue
        roof.measure()
        workload = make()
        turns = repeats if options.quick or workload.unit != "GMAC/s" else 2 * repeats  # these are short
        systems = take_turns(workload, workers, turns, folder)
        results["workloads"][key] = {"name": workload.name, "unit": workload.unit, "systems": systems}
        limits = {**roof.limits, "bytes": roof.byte_products}
        print(f"\n{systems_table(results['workloads'][key], limits)}", flush=True)
    roof.measure()
    results |= {"limits": roof.limits, "byte_limit": roof.byte_products}
    print(f"\nlimits of a core, 10^9 a second: {roof.limits}")
    results |= costs(options, scale, materials, workers, folder)
    return results


def costs(
    options: argparse.Namespace, scale: Scale, materials: Materials, workers: Workers, folder: Path
) -> dict[str, Any]:
    """Return memory, cold start and profile, as far as they are asked for."""
    found: dict[str, Any] = {}
    chosen = options.only or COSTS
    lm = materials.lm(scale.lstm, 2)[0] if set(chosen) & set(COSTS) else None
    if "memory" in chosen:
        found["memory"] = memory(materials, folder, lm, scale.every)
        print(f"memory, MB: {found['memory']}", flush=True)
    if "cold start" in chosen:
        found["cold start"] = cold_start(materials, folder, lm, 1 if options.quick else 3)
        print(f"cold start, s: {found['cold start']}", flush=True)
    if "profile" in chosen:
        found["profile"] = profile(materials, scale, workers, folder, lm)
        print(f"profile, s: {found['profile']}", flush=True)
    return found


def profile(materials: Materials, scale: Scale, workers: Workers, folder: Path, lm: Path) -> dict[str, Any]:
    """Return seconds of the parts of our engine, by kernel."""
    found = {}
    for kernel in ("auto", "packed8"):
        job = {"kind": "profile", "lists": str(materials.lists(scale.n, scale.every)), "lm": str(lm), "threads": 1}
        job |= {"kernel": kernel, "normalize": True, "result": str(folder / "profile.npy")}
        try:
            found[kernel] = workers[System("own", job)].prepare("profile", job)
        except Skipped as reason:
            found[kernel] = {"skipped": str(reason)}
    return found


def machine() -> dict[str, Any]:
    """Return what processor this is, and how busy it was at the start."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    versions = {"python": platform.python_version(), "kaldi_mpq": kaldi_mpq.__version__}
    return {"processor": model, "cores": os.cpu_count(), "load": os.getloadavg()[0], **versions}


def check_names(only: list[str], known: list[str]) -> None:
    """End with a message if something unknown is asked for."""
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise SystemExit(f"--only: no {', '.join(unknown)}; there are {', '.join(known)}")


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    decode = SAMPLE / "exp" / "chain" / "tdnn" / "decode_dev_tg"
    parser.add_argument("--decode", type=Path, default=decode, help="Kaldi decode directory")
    parser.add_argument("--lang", type=Path, default=SAMPLE / "data" / "lang_tg", help="its words.txt and G.fst")
    parser.add_argument("--only", nargs="*", default=[], help="parts; default: everything")
    parser.add_argument("--every", type=int, default=8, help="take every so-manieth utterance")
    parser.add_argument("--repeats", type=int, default=5, help="turns; products take twice as many")
    parser.add_argument("--quick", action="store_true", help="tiny models, one turn: whether everything runs")
    peers = ROOT / ".venv-peers" / "bin" / "python"
    parser.add_argument("--peers-python", type=Path, default=peers, help="has what peers/requirements.txt says")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "out" / "against_peers.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
