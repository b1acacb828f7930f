# SPDX-License-Identifier: Apache-2.0
"""What `mpq rescore nbest` costs a process: memory with packed and with unpacked weights, and how soon it is at work.

Each number is of a process of its own, which rescores lattices of the sample as the command does. Linux only: it reads
/proc. Not here: speed (`turns`).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from peers.materials import Materials
from peers.process import BENCHMARKS, environment_of

__all__ = ["cold_start", "memory"]

CHILD = """
import json, sys, time
from pathlib import Path
import torch
import kaldi_mpq.rescore.run as run
from kaldi_mpq import native
from kaldi_mpq.rescore.settings import NbestSettings
import kaldi_mpq.pack.packed_load, kaldi_mpq.lm.lstm
import kaldi_mpq.native.archive, kaldi_mpq.native.paths, kaldi_mpq.native.old_lm

def megabytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024

native._packed, native._archive, native._paths, native._ngram  # imports too: extensions load at their first use
values = json.loads(sys.argv[1])
paths = {name: Path(values.pop(name)) for name in ("in_dir", "out_dir", "old_lang", "lm")}
settings = NbestSettings(**paths, **values)
before = megabytes("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here on
start = time.perf_counter(), time.process_time()
run.rescore_nbest(settings)
took = time.perf_counter() - start[0], time.process_time() - start[1]
print(json.dumps({"imports_mb": before, "peak_mb": megabytes("VmHWM"), "clock": took[0], "cpu": took[1]}))
"""


def memory(materials: Materials, folder: Path, lm: Path, every: int) -> dict[str, Any]:
    """Return megabytes that a job adds to the interpreter with its imports, at its peak, by kernel; and their ratio."""
    found: dict[str, Any] = {}
    for kernel in ("auto", "torch"):
        measured = _job(materials, folder, lm, every, kernel)
        found[kernel] = measured["peak_mb"] - measured["imports_mb"]
        found["imports"] = measured["imports_mb"]
    found["ratio"] = found["auto"] / found["torch"]
    return found


def cold_start(materials: Materials, folder: Path, lm: Path, repeats: int) -> dict[str, Any]:
    """Return seconds from the imports' end until the only utterance of a job is rescored and written: opening LMs."""
    every = 1_000_000  # one utterance
    runs = [_job(materials, folder, lm, every, "auto") for _ in range(repeats)]
    found = {name: sorted(run[name] for run in runs) for name in ("clock", "cpu")}
    return {**found, "seconds": statistics.median(found["cpu"]), "by the clock": statistics.median(found["clock"])}


def _job(materials: Materials, folder: Path, lm: Path, every: int, kernel: str) -> dict[str, float]:
    source = folder / f"decode_{every}"
    if not source.exists():
        source.mkdir()
        (source / "num_jobs").write_text("1\n")
        with (source / "lat.1.gz").open("wb") as packed:
            subprocess.run(["gzip", "-c", str(materials.archive(every))], stdout=packed, check=True)
    values = {"in_dir": source, "out_dir": folder / "rescored", "old_lang": materials.lang, "lm": lm}
    settings = {name: str(path) for name, path in values.items()} | {"kernel": kernel, "n": 100, "threads": 1}
    command = [sys.executable, "-c", CHILD, json.dumps(settings | {"backend": "native", "device": "cpu"})]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=BENCHMARKS, env=environment_of())
    return json.loads(done.stdout.splitlines()[-1])
