# SPDX-License-Identifier: Apache-2.0
"""Lattice rescoring against Kaldi's lattice-lmrescore-kaldi-rnnlm-pruned: same lattices, same network, one thread each.

    python benchmarks/lattice_speed.py [--jobs 1 4] [--every 6] [--repeats 2]

The RNNLM of a Kaldi user is imported, and rescored with in float and packed to 4 bits; Kaldi's program rescores with
the original. Each run is a process of its own, start and imports included, on one thread; ours and Kaldi's take turns.
Seconds are of the processor, which other programs on the machine disturb less than the clock. The errors are those of
the best paths at an acoustic scale of 0.1, which shows that all did the same work. Needs KALDI_ROOT and an RNNLM
directory; without them ours is measured alone, with random weights. Prints a table, writes
benchmarks/out/lattice_speed.json.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kaldi_mpq import native
from kaldi_mpq.artefact import write_json

ROOT = Path(__file__).resolve().parent.parent
TESTBED = Path(os.environ.get("MPQ_SHARED", ROOT.parent / "shared"), "testbed", "ami")
SAMPLE = ROOT / "tests" / "data" / "ami"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def main() -> None:
    """Measure, print a table, write benchmarks/out/lattice_speed.json."""
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.tmp) as folder:
        work = Path(folder)
        count = take_lattices(options, work / "in")
        print(f"{count} lattices of {options.decode}, every {options.every} of jobs {options.jobs}; one thread")
        systems = make_systems(options, work)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
        for _ in range(options.repeats):
            for name, run in systems.items():
                times[name].append(measure(run))
        rows = {name: row(times, name, count, work, options) for name in systems}
    out = ROOT / "benchmarks" / "out" / "lattice_speed.json"
    write_json(out, {"settings": {k: str(v) for k, v in vars(options).items()}, "lattices": count, "rows": rows})
    print(f"written: {out}")


def take_lattices(options: argparse.Namespace, target: Path) -> int:
    """Write the lattices that are measured as a decode directory of one job; return how many they are."""
    target.mkdir()
    (target / "num_jobs").write_text("1\n")
    count = 0
    with native.LatticeWriter(str(target / "lat.1.gz")) as writer:
        for job in options.jobs:
            with native.LatticeReader(str(options.decode / f"lat.{job}.gz")) as reader:
                for lattices in reader.batches():
                    some = lattices.select(np.arange(-count % options.every, len(lattices), options.every))
                    count += len(lattices)
                    writer.write(some)
    with native.LatticeReader(str(target / "lat.1.gz")) as reader:
        return sum(len(lattices) for lattices in reader.batches())


def make_systems(options: argparse.Namespace, work: Path) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name; the name is also that of its output directory."""

    def mpq(*words: object) -> None:
        command = [sys.executable, "-m", "kaldi_mpq.cli", *map(str, words)]
        environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, capture_output=True, env=environment)

    def ours(name: str, lm: Path) -> Callable[[], None]:
        words = ("--lm", lm, "--old-lang", options.lang, "--old-lm", "fst", "--threads", 1, "--device", "cpu")
        return lambda: mpq("rescore", "lattice", *words, work / "in", work / name)

    lm = work / "lm"
    if options.rnnlm.exists():
        mpq("lm", "import", options.rnnlm, lm)
    else:
        random_lm(options.lang, lm)
    text, rounding = options.data / "text", ("--method", "round", "--bits", 4, "--granularity", "row")
    mpq("text", "--words", options.lang / "words.txt", "--train", text, "--dev", text, work / "text")
    mpq("fit", *rounding, "--data", work / "text", lm, work / "rounded")
    mpq("pack", work / "rounded", work / "rounded" / "model.mpq")
    systems = {"float": ours("float", lm), "packed": ours("packed", work / "rounded" / "model.mpq")}
    program = kaldi_program()
    if program and options.rnnlm.exists():
        systems["Kaldi"] = lambda: kaldi(program, options, work)
    return systems


def kaldi(program: str, options: argparse.Namespace, work: Path) -> None:
    """Run Kaldi's program as rnnlm/lmrescore_pruned.sh does, normalised."""
    (work / "Kaldi").mkdir(exist_ok=True)
    symbols = (options.rnnlm / "special_symbol_opts.txt").read_text().split()
    flags = ["--lm-scale=0.5", "--acoustic-scale=0.1", "--max-ngram-order=4", "--lattice-compose-beam=8"]
    models = [options.lang / "G.fst", options.rnnlm / "word_embedding.final.mat", options.rnnlm / "final.raw"]
    tables = [f"ark:gunzip -c {work}/in/lat.1.gz |", f"ark:{work}/Kaldi/lat.1.ark"]
    command = [program, *flags, "--normalize-probs=true", *symbols, *map(str, models), *tables]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **ONE_THREAD})


def random_lm(lang: Path, target: Path) -> None:
    """Write an LSTM LM of 2x512 with random weights, which cost the same time."""
    from kaldi_mpq.lm.checkpoint import save_lm
    from kaldi_mpq.lm.model import ModelConfig, build
    from kaldi_mpq.text.vocab import Vocabulary

    words = Vocabulary.read(lang / "words.txt")
    save_lm(target, build(ModelConfig("lstm", len(words), words.bos, words.eos, words.unk, 512, 512, 2)), {})
    shutil.copy(lang / "words.txt", target / "words.txt")


def measure(run: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of processor and clock that child processes took."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - began


def row(times: dict, name: str, count: int, work: Path, options: argparse.Namespace) -> dict[str, float]:
    """Print a system's row of the table, and return it."""
    cpu, wall = (statistics.median(values) for values in zip(*times[name], strict=True))
    found = {"lattices_per_cpu_s": count / cpu, "cpu_s": cpu, "wall_s": wall, "errors": errors(work / name, options)}
    text = f"{name:<8} {count / cpu:7.2f} lattices per second of one core ({cpu:.1f} s; {wall:.1f} s on the clock)"
    if "Kaldi" in times and name != "Kaldi":
        ratios = [theirs[0] / own[0] for theirs, own in zip(times["Kaldi"], times[name], strict=True)]
        found["faster_by"] = statistics.median(ratios)
        text += f"   {found['faster_by']:.1f} x Kaldi"
    print(f"{text}   {found['errors']} word errors")
    return found


def errors(directory: Path, options: argparse.Namespace) -> int:
    """Return the word errors of the best paths at an acoustic scale of 0.1."""
    from kaldialign import edit_distance

    ids = {word: i for i, word in enumerate(line.split()[0] for line in (options.lang / "words.txt").open())}
    references = {}
    for line in (options.data / "text").open():
        key, *words = line.split()
        references[key] = [ids.get(word, -1) for word in words]
    archive = next(directory.glob("lat.1.*"))
    total = 0
    with native.LatticeReader(str(archive)) as reader:
        for lattices in reader.batches():
            best = native.best_paths(lattices, 0.1)
            offsets, words = best.words(lattices)
            for i, key in enumerate(lattices.keys):
                said = words[offsets[i] : offsets[i + 1]].tolist()
                total += edit_distance(references[key], said)["total"]
    return total


def kaldi_program() -> str | None:
    """Return Kaldi's program, None where there is no KALDI_ROOT."""
    root, name = os.environ.get("KALDI_ROOT"), "lattice-lmrescore-kaldi-rnnlm-pruned"
    return shutil.which(name, path=f"{root}/src/latbin") if root else None


def parse() -> argparse.Namespace:
    """Return the options."""
    place = TESTBED if TESTBED.exists() else SAMPLE
    name = "eval" if place == TESTBED else "dev"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decode", type=Path, default=place / f"exp/chain/tdnn/decode_{name}_tg")
    parser.add_argument("--data", type=Path, default=place / "data" / name, help="with the references")
    parser.add_argument("--lang", type=Path, default=place / "data" / "lang_tg")
    parser.add_argument("--rnnlm", type=Path, default=place / "exp" / "rnnlm_lstm", help="a Kaldi RNNLM directory")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 4] if place == TESTBED else [1])
    parser.add_argument("--every", type=int, default=1, help="take every so many lattices")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--tmp", type=Path, help="folder for temporary files")
    return parser.parse_args()


if __name__ == "__main__":
    main()
