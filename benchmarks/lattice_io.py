# SPDX-License-Identifier: Apache-2.0
"""Reading and writing Kaldi lattice archives: megabytes of uncompressed archive per second, and memory.

    python benchmarks/lattice_io.py [--archive lat.1.gz] [--levels 1 3 6] [--repeats 3]

Each row is a process of its own: it streams the archive through kaldi_mpq.native in batches, and times the reading or
the writing alone. MB/s is given per second of processor time (one core) and per second on the clock; peak memory is the
whole process's, Python and numpy included. Of several repeats the fastest counts, since other programs can only slow
one down. Where KALDI_ROOT is set, Kaldi's lattice-copy does the same work in the same run. Prints a table, writes
benchmarks/out/lattice_io.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kaldi_mpq.artefact import write_json

ROOT = Path(__file__).resolve().parent.parent
TESTBED = Path(os.environ.get("MPQ_SHARED", ROOT.parent / "shared"), "testbed", "ami")
ARCHIVE = TESTBED / "exp" / "chain" / "tdnn" / "decode_dev_tg" / "lat.4.gz"
TARGET_MB_PER_S, TARGET_MEMORY_MB = 50, 200


def main() -> None:
    """Measure, print a table, write benchmarks/out/lattice_io.json."""
    options = parse()
    if options.child:
        print(json.dumps(child(options.child, options.source, options.target, options.level)))
        return
    with tempfile.TemporaryDirectory(dir=options.tmp) as folder:
        files = prepare(options.archive, Path(folder))
        print(f"{options.archive}: {files['mb']:.1f} MB uncompressed, best of {options.repeats}")
        rows = {}
        for name, command, mb, target in cases(files, options.levels):
            runs = [run(command) for _ in range(options.repeats)]
            rows[name] = summarize(runs, mb) | {"file_mb": size(target) if target else None}
            print(line(name, rows[name]))
    out = ROOT / "benchmarks" / "out" / "lattice_io.json"
    settings = {key: str(value) for key, value in vars(options).items()}
    write_json(out, {"settings": settings, "uncompressed_mb": files["mb"], "rows": rows})
    print(json.dumps({"written": str(out), "goals_met": goals_met(rows)}))


def child(what: str, source: str, target: str, level: int) -> dict[str, float]:
    """Read ``source``, write it to ``target`` if ``what`` says so; return the times of ``what`` and the peak memory."""
    from kaldi_mpq.native import LatticeReader, LatticeWriter

    spent = {"read": [0.0, 0.0], "write": [0.0, 0.0]}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        began = time.process_time(), time.perf_counter()
        yield
        for i, clock in enumerate((time.process_time, time.perf_counter)):
            spent[part][i] += clock() - began[i]

    with LatticeReader(source) as reader:
        batches = reader.batches()
        writer = LatticeWriter(target, level=level) if what == "write" else None
        if writer:
            writer.__enter__()
        while True:
            with timed("read"):
                lattices = next(batches, None)
            if lattices is None:
                break
            if writer:
                with timed("write"):
                    writer.write(lattices)
        if writer:
            with timed("write"):
                writer.__exit__(None, None, None)
    return {"cpu_s": spent[what][0], "wall_s": spent[what][1], "memory_mb": peak_memory_mb()}


def peak_memory_mb() -> float:
    """Return this process's own peak; what getrusage says starts with the size of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def prepare(archive: Path, folder: Path) -> dict[str, object]:
    """Return the names of the archive, compressed and not, in binary and in text, and their sizes in MB."""
    from kaldi_mpq.native import LatticeReader, LatticeWriter

    plain, text, packed = folder / "plain.ark", folder / "text.ark", folder / "packed.gz"
    with LatticeReader(archive) as reader, LatticeWriter(plain) as as_binary, LatticeWriter(text, text=True) as as_text:
        for lattices in reader.batches():
            as_binary.write(lattices)
            as_text.write(lattices)
    with open(packed, "wb") as out:
        subprocess.run(["gzip", "-c", str(plain)], stdout=out, check=True)
    names = {"plain": plain, "text": text, "packed": packed, "out": folder / "out"}
    return names | {"mb": size(plain), "text_mb": size(text)}


def cases(files: dict, levels: list[int]) -> Iterator[tuple[str, list[str], float, Path | None]]:
    """Yield a name, a command line, the megabytes that it handles and the file that it writes."""

    def own(what: str, source: object, target: object = "", level: int = 1) -> list[str]:
        words = ["--child", what, "--source", source, "--target", target, "--level", level]
        return [sys.executable, __file__, *map(str, words)]

    mb, text_mb, plain, out = files["mb"], files["text_mb"], files["plain"], files["out"]
    out_gz = out.with_suffix(".gz")
    yield "read", own("read", plain), mb, None
    yield "read .gz", own("read", files["packed"]), mb, None
    yield "read gunzip -c |", own("read", f"ark:gunzip -c {files['packed']} |"), mb, None
    yield "read text", own("read", files["text"]), text_mb, None
    yield "write", own("write", plain, out), mb, out
    for level in levels:
        yield f"write .gz, level {level}", own("write", plain, out_gz, level), mb, out_gz
    yield "write text", own("write", plain, f"ark,t:{out}"), text_mb, out
    if program := kaldi_program():
        yield "Kaldi: read and write", [program, f"ark:{plain}", f"ark:{out}"], mb, out
        yield "Kaldi: read and write text", [program, f"ark:{plain}", f"ark,t:{out}"], text_mb, out


def run(command: list[str]) -> dict[str, float]:
    """Return the times and the peak memory that a child reports, or that the system reports of a foreign program."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if b"cpu_s" in done.stdout:
        return json.loads(done.stdout)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu_s, "wall_s": time.perf_counter() - began, "memory_mb": float("nan")}


def summarize(runs: list[dict[str, float]], mb: float) -> dict[str, float]:
    """Return the fastest run's megabytes per second and the largest peak memory."""
    return {
        "mb_per_cpu_s": mb / min(run["cpu_s"] for run in runs),
        "mb_per_s": mb / min(run["wall_s"] for run in runs),
        "memory_mb": max(run["memory_mb"] for run in runs),
    }


def line(name: str, row: dict) -> str:
    """Return a row of the table."""
    memory = "" if math.isnan(row["memory_mb"]) else f"   {row['memory_mb']:4.0f} MB memory"
    file = "" if row["file_mb"] is None else f"   file {row['file_mb']:.1f} MB"
    speed = f"{row['mb_per_cpu_s']:7.0f} MB/s per core {row['mb_per_s']:7.0f} MB/s on the clock"
    return f"{name:<28} {speed}{memory}{file}"


def goals_met(rows: dict[str, dict]) -> bool:
    """Whether each of our rows is fast and small enough; of the gzip levels, the default one."""
    from kaldi_mpq.native.sinks import GZIP_LEVEL

    other_levels = {name for name in rows if "level" in name and not name.endswith(f" {GZIP_LEVEL}")}
    ours = [row for name, row in rows.items() if name not in other_levels and not name.startswith("Kaldi")]
    return all(row["mb_per_cpu_s"] >= TARGET_MB_PER_S and row["memory_mb"] < TARGET_MEMORY_MB for row in ours)


def kaldi_program() -> str | None:
    """Return Kaldi's lattice-copy, None where there is no KALDI_ROOT."""
    root = os.environ.get("KALDI_ROOT")
    return shutil.which("lattice-copy", path=f"{root}/src/latbin") if root else None


def size(path: Path) -> float:
    """Return a file's size in megabytes."""
    return path.stat().st_size / 1e6


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--archive", type=Path, default=ARCHIVE, help="lattice archive, .gz or not (default: the testbed's)"
    )
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2, 3, 4, 6], help="of gzip, to write with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tmp", type=Path, help="folder for temporary files, four times the uncompressed size")
    for name in ("--child", "--source", "--target"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    parser.add_argument("--level", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
