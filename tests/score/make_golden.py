# SPDX-License-Identifier: Apache-2.0
"""Write ``golden_sclite.json``: alignments that sclite itself made, for machines without it.

Run: python tests/score/make_golden.py  (with Debian's sctk installed)
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

from kaldi_mpq.score.aligned import Utterance
from kaldi_mpq.score.sclite import ScliteScorer
from kaldi_mpq.score.sctk import Sctk

GOLDEN = Path(__file__).with_name("golden_sclite.json")


def main() -> None:
    """Align 300 random pairs over small vocabularies."""
    source = random.Random(1)
    pairs = []
    for _ in range(300):
        words = "abcdefgh"[: source.choice([2, 4, 8])]
        pairs.append([tuple(source.choices(words, k=source.randint(0, 10))) for _ in range(2)])
    sctk = Sctk.find()
    if sctk is None:
        raise SystemExit("no sclite")
    utterances = [Utterance(str(number), "all", ref, hyp) for number, (ref, hyp) in enumerate(pairs)]
    with tempfile.TemporaryDirectory() as directory:
        aligned = ScliteScorer(sctk).report(utterances, Path(directory))
    rows = [[" ".join(one.ref), " ".join(one.hyp), one.ops] for one in aligned]
    text = ",\n".join(json.dumps(row) for row in rows)
    GOLDEN.write_text(f'{{"made_by": "sclite {sctk.version}, Debian sctk 2.4.10", "aligned": [\n{text}\n]}}\n')


if __name__ == "__main__":
    main()
