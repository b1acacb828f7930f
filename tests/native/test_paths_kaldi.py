# SPDX-License-Identifier: Apache-2.0
"""Kaldi's own programs find the same paths in real lattices, and read the trees of paths that we make."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kaldi_mpq.native import LatticeReader, Lattices, LatticeWriter, paths

N = 100
SCALE = 0.1
# Kaldi adds float32 costs, some thousands each.
CLOSE = {"rel": 1e-5, "abs": 0.01}


@pytest.fixture(scope="module")
def real(testbed) -> Lattices:
    """Sparse lattices (20 arcs a frame) and dense ones (400 arcs a frame)."""
    parts = []
    for job, count in (("decode_dev_tg/lat.1.gz", 25), ("decode_dev_tg/lat.4.gz", 10)):
        with LatticeReader(str(testbed / "exp/chain/tdnn" / job)) as reader:
            parts.append(next(iter(reader.batches(max_lattices=count))))
    return Lattices.concat(parts)


@pytest.fixture(scope="module")
def archive(real, tmp_path_factory) -> Path:
    """The same lattices for Kaldi."""
    path = tmp_path_factory.mktemp("lattices") / "real.ark"
    write(path, real)
    return path


def write(path: Path, lattices: Lattices) -> None:
    """Write an archive."""
    with LatticeWriter(str(path)) as writer:
        writer.write(lattices)


def kaldi_nbest(kaldi, archive: Path, folder: Path, n: int = N) -> dict[str, list[tuple[float, float, list[int]]]]:
    """Kaldi's list of (graph cost, acoustic cost, words) of each utterance, best first."""
    kaldi(
        f"lattice-to-nbest --acoustic-scale={SCALE} --n={n} ark:{archive} ark:- | "
        f"nbest-to-linear ark:- ark:/dev/null ark,t:{folder}/words ark,t:{folder}/graph ark,t:{folder}/acoustic"
    )
    words, graph, acoustic = (read_table(folder / name) for name in ("words", "graph", "acoustic"))
    lists: dict[str, list[tuple[float, float, list[int]]]] = {}
    for key in words:  # utterance-rank, in order
        row = (float(graph[key][0]), float(acoustic[key][0]), [int(word) for word in words[key]])
        lists.setdefault(key.rpartition("-")[0], []).append(row)
    return lists


def read_table(path: Path) -> dict[str, list[str]]:
    """Kaldi's text table: key -> fields."""
    return table(path.read_bytes())


def table(text: bytes) -> dict[str, list[str]]:
    """Kaldi's text table: key -> fields."""
    return {fields[0]: fields[1:] for fields in map(str.split, text.decode().splitlines())}


def our_words(found: paths.Paths, lattices: Lattices) -> dict[str, list[int]]:
    """The words of the best path of each utterance."""
    offsets, words = found.words(lattices)
    first = found.lattice_offsets[:-1]
    return {key: words[offsets[p] : offsets[p + 1]].tolist() for key, p in zip(lattices.keys, first, strict=True)}


def test_lattice_to_nbest_finds_the_same_costs_at_every_rank(kaldi, real, archive, tmp_path) -> None:
    """100-best lists: the same number of paths and the same total cost at each rank; the same set of word strings."""
    found = paths.nbest(real, N, SCALE)
    truth = kaldi_nbest(kaldi, archive, tmp_path)
    offsets, words = found.words(real)
    for index, key in enumerate(real.keys):
        mine = range(found.lattice_offsets[index], found.lattice_offsets[index + 1])
        costs = [found.graph[p] + SCALE * found.acoustic[p] for p in mine]
        assert sorted(graph + SCALE * acoustic for graph, acoustic, _ in truth[key]) == pytest.approx(costs, **CLOSE)
        strings = {tuple(words[offsets[p] : offsets[p + 1]].tolist()) for p in mine}
        # The last ranks may tie in float32.
        assert len(strings ^ {tuple(row[2]) for row in truth[key]}) <= 2


@pytest.mark.parametrize(("inverse_scale", "penalty"), [(7, 0.0), (10, 0.5), (17, 1.0)])
def test_lattice_best_path_finds_the_same_words(kaldi, real, archive, inverse_scale, penalty) -> None:
    """Kaldi's scoring pipe (scale, penalty, best path) and ours give the same words."""
    done = kaldi(
        f"lattice-scale --inv-acoustic-scale={inverse_scale} ark:{archive} ark:- | "
        f"lattice-add-penalty --word-ins-penalty={penalty} ark:- ark:- | lattice-best-path ark:- ark,t:-"
    )
    truth = {key: [int(word) for word in row] for key, row in table(done.stdout).items()}
    assert our_words(paths.best_paths(real, 1.0 / inverse_scale, word_penalty=penalty), real) == truth


def test_lattice_prune_keeps_the_same_arcs(kaldi, real, archive, tmp_path) -> None:
    """The words and transition-ids of the arcs that are left, but for arcs whose distance is the beam in float32."""
    kaldi(f"lattice-prune --acoustic-scale={SCALE} --beam=4 ark:{archive} ark:{tmp_path}/pruned.ark")
    with LatticeReader(str(tmp_path / "pruned.ark")) as reader:
        truth = Lattices.concat(list(reader.batches()))
    narrow, wide = (paths.prune(real, beam, SCALE) for beam in (3.999, 4.001))
    assert truth.keys == real.keys
    assert wide.num_arcs < real.num_arcs / 2
    for index in range(len(real)):
        few, kaldis, many = (arcs_of(lattices, index) for lattices in (narrow, truth, wide))
        assert few <= kaldis <= many


def arcs_of(lattices: Lattices, index: int) -> Counter:
    """How often each (word, transition-ids) is on an arc of one lattice."""
    states = lattices.state_offsets[index : index + 2]
    return Counter(
        (int(lattices.arc_word[arc]), lattices.arc_tids[slice(*lattices.arc_tid_offsets[arc : arc + 2])].tobytes())
        for arc in range(*lattices.arc_offsets[states])
    )


def test_kaldi_reads_the_tree_of_paths(kaldi, real, testbed, tmp_path) -> None:
    """Trees of the 100 best with new graph costs: Kaldi lists the same costs, and aligns the words of all of them."""
    found = paths.nbest(real, N, SCALE)
    arc_graph = 0.5 * real.arc_graph[found.arcs] + 0.25 * (real.arc_word[found.arcs] != 0)
    final_graph = 0.5 * real.final_graph[found.final_state] + 2.0
    tree = paths.path_lattices(real, found, arc_graph, final_graph)
    write(tmp_path / "tree.ark", tree)
    totals = np.add.reduceat(arc_graph, found.arc_offsets[:-1]) + final_graph
    truth = kaldi_nbest(kaldi, tmp_path / "tree.ark", tmp_path, n=2 * N)
    for index, key in enumerate(real.keys):
        mine = slice(*found.lattice_offsets[index : index + 2])
        costs = sorted(totals[mine] + SCALE * found.acoustic[mine])
        assert sorted(graph + SCALE * acoustic for graph, acoustic, _ in truth[key]) == pytest.approx(costs, **CLOSE)

    best = kaldi(f"lattice-best-path --acoustic-scale={SCALE} ark:{tmp_path}/tree.ark ark,t:-").stdout
    ours = our_words(paths.best_paths(tree, SCALE), tree)
    assert {key: [int(word) for word in row] for key, row in table(best).items()} == ours
    model = testbed / "exp/chain/tdnn"
    log = kaldi(
        f"lattice-align-words {model}/graph_tg/phones/word_boundary.int {model}/final.mdl "
        f"ark:{tmp_path}/tree.ark ark:/dev/null"
    ).stderr.decode()
    assert f"Successfully aligned {len(real)} lattices" in log
