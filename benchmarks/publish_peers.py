# SPDX-License-Identifier: Apache-2.0
"""What against_peers.py measured, into docs/performance.md: its tables and two pictures.

    python benchmarks/publish_peers.py

Reads benchmarks/out/against_peers.json; replaces what stands between the two marks of the page. The sentences around
it are written by hand, so read them again afterwards.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peers.pictures import draw_bits, draw_roofline
from peers.tables import as_table, profile_table, systems_table
from peers.targets import Row

from kaldi_mpq.artefact import writing

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- against_peers: begin -->", "<!-- against_peers: end -->"


def main() -> None:
    """Draw, and write the page."""
    options = parse()
    results = json.loads(options.results.read_text(encoding="utf-8"))
    page = options.docs / "performance.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    draw_roofline(results, options.docs / "roofline.svg")
    draw_bits(results, options.docs / "speed_bits.svg")
    with writing(page) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{tables(results)}\n{END}{after}", encoding="utf-8")
    print(f"written: {page}, roofline.svg, speed_bits.svg")


def tables(results: Mapping[str, Any]) -> str:
    """Return the tables of the page."""
    limits = {**results["limits"], "bytes": results["byte_limit"]}
    parts = [as_table([Row(**row) for row in results["targets"]])]
    measured = ", ".join(_limit(name, value) for name, value in results["limits"].items())
    parts.append(f"Limits of a core, measured in the same run: {measured}.")
    parts += [systems_table(workload, limits) for workload in results["workloads"].values()]
    parts.append(profile_table(results["profile"]))
    memory, cold = results["memory"], results["cold start"]
    parts.append(
        f"Memory of a rescoring job beside the interpreter's and its imports' {memory['imports']:.0f} MB: "
        f"{memory['auto']:.1f} MB packed, {memory['torch']:.1f} MB unpacked. A job of one utterance: "
        f"{cold['seconds']:.2f} s of the processor, {cold['by the clock']:.2f} s by the clock, from the imports' end "
        "until it is written."
    )
    return "\n\n".join(parts)


def _limit(name: str, value: float) -> str:
    return f"{name} {value:.0f} {'GB/s' if name.startswith('reads') else 'GMAC/s'}"


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "out" / "against_peers.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
