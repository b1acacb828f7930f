# SPDX-License-Identifier: Apache-2.0
"""SCTK, real pairs of a reference and a hypothesis, and random ones."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from kaldi_mpq.score.sctk import Sctk

Pair = tuple[tuple[str, ...], tuple[str, ...]]


@pytest.fixture(scope="session")
def sctk(sclite: Path) -> Sctk:
    """An installed SCTK."""
    found = Sctk.find()
    assert found is not None
    return found


@pytest.fixture(scope="session")
def real_pairs(shared: Path) -> list[tuple[str, Pair, Pair]]:
    """(utterance, (reference, best hypothesis), (reference, fifth)) of real 10-best lists; 500 of them."""
    rows = []
    with gzip.open(shared / "data" / "librispeech_nbest" / "librispeech_dev_other.jsonl.gz", "rt") as stream:
        for line, _ in zip(stream, range(500)):
            entry = json.loads(line)
            ref, hyps = tuple(entry["ref"].split()), [tuple(hyp["text"].split()) for hyp in entry["hyps"]]
            rows.append((entry["utt"], (ref, hyps[0]), (ref, hyps[min(4, len(hyps) - 1)])))
    return rows


@pytest.fixture(scope="session")
def random_pairs() -> list[Pair]:
    """Pairs over small vocabularies, where alignments of equal weight are common; empty ones among them."""
    source = random.Random(20)
    pairs = []
    for _ in range(1500):
        vocabulary = "abcdefghijklmnopqrst"[: source.choice([2, 3, 5, 8, 20])]
        pairs.append(tuple(tuple(source.choices(vocabulary, k=source.randint(0, 12))) for _ in range(2)))
    return pairs
