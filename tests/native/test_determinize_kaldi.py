# SPDX-License-Identifier: Apache-2.0
"""Kaldi's lattice-determinize and lattice-determinize-pruned make the same of random and of real lattices."""

from __future__ import annotations

import numpy as np
import pytest

from kaldi_mpq.native import LatticeReader, Lattices, LatticeWriter, paths
from tests.native.random_lattices import Arc, Spec, build, readable

SCALE = 0.1
PROGRAMS = ["lattice-determinize-pruned --beam=10000", "lattice-determinize"]
FIELDS = (
    "keys", "compact", "start", "state_offsets", "arc_offsets", "final_graph", "final_acoustic", "final_tid_offsets",
    "final_tids", "arc_dest", "arc_graph", "arc_acoustic", "arc_tid_offsets", "arc_tids",
)  # fmt: skip


def random_spec(rng: np.random.Generator, key: str) -> Spec:
    """Up to 7 states, few words so that strings meet again, arcs without a word or without transition-ids."""
    num_states = int(rng.integers(2, 8))
    arcs = []
    for _ in range(int(rng.integers(1, 18))):
        low, high = sorted(rng.choice(num_states, 2, replace=False).tolist())
        graph, acoustic = (float(cost) for cost in rng.integers(-16, 16, 2) / 8)
        tids = tuple(rng.integers(1, 4, rng.integers(0, 3)).tolist())
        arcs.append(Arc(low, high, int(rng.integers(0, 4)), graph, 10 * acoustic, tids))
    ends = {num_states - 1, int(rng.integers(num_states))}
    return Spec(key, num_states, tuple(arcs), {end: (0.25 * end, -1.0 * end, (9,) * (end % 3)) for end in ends})


def through_kaldi(kaldi, lattices: Lattices, program: str, folder) -> Lattices:
    """What a program makes of lattices; it is told to keep everything."""
    with LatticeWriter(str(folder / "in.ark")) as writer:
        writer.write(lattices)
    done = kaldi(f"{program} --acoustic-scale={SCALE} ark:{folder}/in.ark ark:{folder}/kaldi.ark", check=False)
    if done.returncode == 127:
        pytest.skip(f"no program {program.split()[0]}")
    assert done.returncode == 0, done.stderr.decode()
    with LatticeReader(str(folder / "kaldi.ark")) as reader:
        return Lattices.concat(list(reader.batches()))


def strings(lattices: Lattices, index: int) -> dict[tuple[int, ...], tuple]:
    """Words -> (transition-ids, graph, acoustic) of a lattice that has one path for each word string."""
    rows = readable(lattices, index)
    found = {tuple(word for word in words if word): rest for words, *rest in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.split()[0])
def test_random_lattices_become_the_same(kaldi, tmp_path, program) -> None:
    """500 lattices: the same word strings, each at the same costs with the same transition-ids."""
    rng = np.random.default_rng(7)
    lattices = build(*(random_spec(rng, f"utt-{i:03d}") for i in range(500)))
    truth = through_kaldi(kaldi, lattices, program, tmp_path)
    mine, reasons = paths.determinize(lattices, SCALE)
    usable = [i for i, reason in enumerate(reasons) if reason is None]
    number = {key: i for i, key in enumerate(truth.keys)}
    assert len(usable) > 300
    same = 0
    for index in usable:
        before = best_alignments(lattices, index)
        ours, theirs = strings(mine, index), strings(truth, number[lattices.keys[index]])
        assert before.keys() == ours.keys() == theirs.keys()
        for words, (tids, graph, acoustic) in ours.items():
            kaldi_tids, kaldi_graph, kaldi_acoustic = theirs[words]
            assert graph + SCALE * acoustic == pytest.approx(kaldi_graph + SCALE * kaldi_acoustic, abs=1e-3)
            assert {tids, kaldi_tids} <= before[words]
            if len(before[words]) == 1:
                assert (graph, acoustic) == pytest.approx((kaldi_graph, kaldi_acoustic), abs=1e-3)
                same += 1
    assert same > 1000


def best_alignments(lattices: Lattices, index: int) -> dict[tuple[int, ...], set[tuple[int, ...]]]:
    """Words -> transition-ids of the best path, and of those that tie with it."""
    found: dict[tuple[int, ...], list[tuple]] = {}
    for words, tids, graph, acoustic in readable(lattices, index):
        found.setdefault(tuple(word for word in words if word), []).append((graph + SCALE * acoustic, tids))
    return {words: {tids for cost, tids in rows if cost < min(rows)[0] + 1e-3} for words, rows in found.items()}


def merged_words(lattices: Lattices) -> Lattices:
    """The lattices with 200 words instead of thousands, and none where every fifth was: no longer deterministic."""
    words = np.where(lattices.arc_word % 5 == 0, 0, 1 + lattices.arc_word % 200)
    return Lattices.from_arrays(**{name: getattr(lattices, name) for name in FIELDS}, arc_word=words)


@pytest.mark.parametrize(
    ("job", "count", "beam"), [("lat.1.gz", 60, 8.0), ("lat.2.gz", 40, 8.0), ("lat.4.gz", 25, 5.0)]
)
def test_real_lattices_become_the_same(kaldi, testbed, tmp_path, job, count, beam) -> None:
    """Sparse and dense ones: as many states and arcs as Kaldi's, paths that lattice-equivalent finds, equal n-bests."""
    with LatticeReader(str(testbed / "exp/chain/tdnn/decode_dev_tg" / job)) as reader:
        lattices = merged_words(paths.prune(next(iter(reader.batches(max_lattices=count))), beam, SCALE))
    assert not paths.is_deterministic(lattices).all()
    truth = through_kaldi(kaldi, lattices, f"{PROGRAMS[0]} --max-mem=500000000", tmp_path)
    mine, reasons = paths.determinize(lattices, SCALE)
    assert reasons == [None] * len(lattices) and mine.keys == truth.keys
    assert np.diff(mine.state_offsets).tolist() == pytest.approx(np.diff(truth.state_offsets).tolist(), rel=0.05, abs=2)
    with LatticeWriter(str(tmp_path / "mine.ark")) as writer:
        writer.write(mine)
    log = kaldi(f"lattice-equivalent ark:{tmp_path}/kaldi.ark ark:{tmp_path}/mine.ark").stderr.decode()
    assert f"{len(lattices)} were equivalent, 0 were not" in log
    ours, theirs = paths.nbest(mine, 50, SCALE), paths.nbest(truth, 50, SCALE)
    assert ours.lattice_offsets.tolist() == theirs.lattice_offsets.tolist()
    costs, kaldis = (found.graph + SCALE * found.acoustic for found in (ours, theirs))
    np.testing.assert_allclose(costs, kaldis, atol=0.02)
