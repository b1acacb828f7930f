# SPDX-License-Identifier: Apache-2.0
"""The search is Kaldi's, path by path: lattice-lmrescore-pruned is its oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kaldi_mpq import native
from kaldi_mpq.rescore.automata import NgramAutomaton, WeightedSum
from kaldi_mpq.rescore.composition import Composer, SearchSettings
from tests.native.automata import backoff_fst
from tests.native.random_lattices import Arc, Spec, build, readable

RANDOM = 600
KALDIS = SearchSettings(acoustic_scale=0.1, beam=6.0, frontier=1)  # the program's own defaults


def random_spec(rng: np.random.Generator, key: str) -> Spec:
    """Return a lattice of a few states and up to 30 arcs, epsilons among them."""
    num_states = int(rng.integers(1, 9))
    arcs = []
    for _ in range(int(rng.integers(0, 31)) if num_states > 1 else 0):
        source, dest = sorted(int(state) for state in rng.choice(num_states, 2, replace=False))
        graph, acoustic = float(np.float32(rng.normal(2, 3))), float(np.float32(rng.normal(0, 40)))
        arcs.append(Arc(source, dest, int(rng.integers(0, 5)), graph, acoustic, (int(rng.integers(1, 9)),)))
    finals = {num_states - 1: (float(np.float32(rng.normal())), 0.5, (1,))}
    return Spec(key, num_states, tuple(arcs), finals)


def rescored(lattices, lms, weight: float, settings: SearchSettings) -> native.Lattices:
    """Return our output."""
    terms = [(NgramAutomaton(lms[0]), -weight), (NgramAutomaton(lms[1]), weight)]
    return Composer(WeightedSum(terms), 2**31 - 1, settings).compose_all(lattices).lattices


def kaldis(kaldi, folder, lattices, weight: float, options: str = "") -> dict[str, tuple[native.Lattices, int]]:
    """Return Kaldi's output of each utterance that it did not lose."""
    with native.LatticeWriter(str(folder / "in.ark")) as writer:
        writer.write(lattices)
    command = f"lattice-lmrescore-pruned --acoustic-scale=0.1 --lm-scale={weight} {options}"
    kaldi(f"{command} {folder}/old.fst {folder}/new.lm ark:{folder}/in.ark ark:{folder}/kaldi.ark")
    with native.LatticeReader(f"ark:{folder}/kaldi.ark") as reader:
        out = native.Lattices.concat(list(reader.batches()))
    return {key: (out, i) for i, key in enumerate(out.keys)}


def assert_same(ours: list[tuple], wanted: list[tuple]) -> None:
    """Words and alignments of all paths are equal, costs to what float32 leaves of them."""
    assert [row[:2] for row in ours] == [row[:2] for row in wanted]
    for column in (2, 3):
        np.testing.assert_allclose(
            [row[column] for row in ours], [row[column] for row in wanted], rtol=1e-5, atol=2e-3
        )


@pytest.mark.parametrize("seed", range(6))
def test_random_lattices_path_by_path(seed, kaldi, lm_files):
    """A hundred lattices for each of six pairs of automata: the same paths, costs and alignments."""
    rng = np.random.default_rng(seed)
    for name in ("old.fst", "new.lm"):
        lm_files.write_fst(backoff_fst(rng, int(rng.integers(1, 7))), name=name)
    lattices = build(*(random_spec(rng, f"utt-{i:03d}") for i in range(RANDOM // 6)))
    reasons = native.check(lattices, 5)
    lattices = native.prune(lattices.select(np.flatnonzero([r is None for r in reasons])), math.inf, 1.0)
    weight = float(rng.uniform(0.2, 1.0))
    theirs = kaldis(kaldi, lm_files.folder, lattices, weight)
    lms = [native.open_old_lm(lm_files.folder / name) for name in ("old.fst", "new.lm")]
    ours = rescored(lattices, lms, weight, KALDIS)
    assert len(theirs) == len(lattices) > 50
    for i, key in enumerate(ours.keys):
        assert_same(readable(ours, i), readable(*theirs[key]))


@pytest.fixture(scope="module")
def real(testbed) -> native.Lattices:
    """A hundred of the testbed's lattices."""
    with native.LatticeReader(str(testbed / "exp/chain/tdnn/decode_eval_tg/lat.4.gz")) as reader:
        return next(iter(reader.batches(max_lattices=100)))


def test_real_lattices_state_by_state(real, kaldi, testbed, tmp_path):
    """With the 3-gram inside taken out and a 4-gram put in: as many states and arcs, the same total and best costs."""
    words = {line.split()[0]: int(line.split()[1]) for line in (testbed / "data/lang_tg/words.txt").open()}
    (tmp_path / "old.fst").symlink_to((testbed / "data/lang_tg/G.fst").resolve())
    four_gram = testbed / "data/local/lm/ami.o4g.kn.arpa.gz"
    symbols = f"--bos-symbol={words['<s>']} --eos-symbol={words['</s>']} --unk-symbol={words['<unk>']}"
    kaldi(
        f"gunzip -c {four_gram} | awk -F'\\t' 'NR == FNR {{ split($0, w, \" \"); id[w[1]] = w[2]; next }} "
        "/^\\\\[0-9]-grams/ { inside = 1 } !inside || NF < 2 { print; next } "
        '{ n = split($2, w, " "); s = id[w[1]]; for (i = 2; i <= n; i++) s = s " " id[w[i]]; '
        f'print $1 "\\t" s (NF > 2 ? "\\t" $3 : "") }}\' {testbed}/data/lang_tg/words.txt - '
        f"| arpa-to-const-arpa {symbols} - {tmp_path}/new.lm"
    )
    theirs = kaldis(kaldi, tmp_path, real, 0.5, "--add-const-arpa=true")
    lms = [native.open_old_lm(tmp_path / name, words) for name in ("old.fst", "new.lm")]
    ours = rescored(real, lms, 0.5, KALDIS)
    kept = native.Lattices.concat([out.select(np.array([i])) for out, i in theirs.values()])
    assert ours.keys == kept.keys
    assert np.array_equal(ours.state_offsets, kept.state_offsets)
    assert np.array_equal(ours.arc_offsets[ours.state_offsets], kept.arc_offsets[kept.state_offsets])
    np.testing.assert_allclose(
        native.forward_backward(ours, 0.1)[2], native.forward_backward(kept, 0.1)[2], rtol=1e-6, atol=1e-3
    )
    many_at_a_time = rescored(real, lms, 0.5, SearchSettings(acoustic_scale=0.1, beam=6.0, frontier=16))
    best, fast = (native.best_paths(out, 0.1) for out in (ours, many_at_a_time))
    np.testing.assert_allclose(best.graph + 0.1 * best.acoustic, fast.graph + 0.1 * fast.acoustic, atol=1e-3)
