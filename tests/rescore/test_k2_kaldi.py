# SPDX-License-Identifier: Apache-2.0
"""What k2 decoded as Kaldi lattices: path by path, and as Kaldi's programs read it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.rescore.k2_kaldi import to_kaldi
from tests.native.random_lattices import enumerate_paths, readable
from tests.rescore.decoded import FRAMES, decode, paths_of

k2 = pytest.importorskip("k2", reason="k2 cannot be imported", exc_type=ImportError)
torch = pytest.importorskip("torch")

KEYS = ["a", "b"]


def fsa_of(text: str, **attributes):
    """One FSA of k2's text form (without aux_labels) as an FsaVec, with attributes of its arcs."""
    fsas = k2.create_fsa_vec([k2.Fsa.from_str(text.strip())])
    for name, value in attributes.items():
        setattr(fsas, name, value)
    return fsas


def path_rows(lattices, index: int) -> list[tuple]:
    """Sorted (transition-ids, words, graph + acoustic cost) of one lattice's paths."""
    return sorted(
        (tids, tuple(word for word in words if word), round(graph + acoustic, 3))
        for words, tids, graph, acoustic in readable(lattices, index)
    )


@pytest.mark.parametrize("ragged", [False, True], ids=["tensor", "ragged"])
@pytest.mark.parametrize("lm_scores", [False, True], ids=["scores", "lm_scores"])
def test_every_path_of_the_fsa_is_a_path_of_the_lattice(ragged, lm_scores) -> None:
    """Words, one transition-id a frame (token + 1), and -score as total cost; the frames are those of the network."""
    fsas = decode(ragged, lm_scores)
    lattices = to_kaldi(fsas, KEYS)
    assert lattices.keys == KEYS and native.check(lattices, 4) == [None, None]
    for index, frames in enumerate(FRAMES):
        truth = [
            (tuple(label + 1 for label in labels), words, round(-score, 3))
            for labels, words, score in paths_of(fsas[index], "aux_labels")
        ]
        rows = path_rows(lattices, index)
        assert [row[:2] for row in rows] == [row[:2] for row in sorted(truth)]
        assert [row[2] for row in rows] == pytest.approx([row[2] for row in sorted(truth)], abs=2e-3)
        assert {len(tids) for tids, *_ in rows} == {frames}


def test_graph_costs_are_the_lm_scores() -> None:
    """-lm_scores of the words and of the end; the rest is acoustic, divided by the scale. Without: all is acoustic."""
    split = to_kaldi(decode(lm_scores=True), KEYS, acoustic_scale=0.1)
    for words, _, graph, _ in readable(split, 0):
        assert graph == pytest.approx(0.7 * sum(word > 0 for word in words) + 0.1, abs=1e-5)
    joint = to_kaldi(decode(lm_scores=False), KEYS)
    assert not joint.arc_graph.any() and not np.signbit(joint.arc_graph).any()
    costs = [np.sort([p.graph + scale * p.acoustic for p in enumerate_paths(lattices, 1)])
             for lattices, scale in ((split, 0.1), (joint, 1.0))]  # fmt: skip
    np.testing.assert_allclose(*costs, atol=1e-4)


def test_am_scores_count_where_they_are_there() -> None:
    """am_scores and lm_scores as they are; am_scores alone leave the rest of the scores to the graph."""
    both = {"am_scores": torch.tensor([-2.0, -1.0]), "lm_scores": torch.tensor([-5.0, -7.0])}
    text = "0 1 3 -10\n1 2 -1 -20\n2"
    assert readable(to_kaldi(fsa_of(text, **both), ["a"], words="labels"), 0) == [((3,), (4,), 12.0, 3.0)]
    del both["lm_scores"]
    assert readable(to_kaldi(fsa_of(text, **both), ["a"], words="labels"), 0) == [((3,), (4,), 27.0, 3.0)]


def test_several_words_on_an_arc_and_words_at_the_end() -> None:
    """Each word has an arc of its own; the costs and the frame are on the first; states stay in topological order."""
    words = k2.RaggedTensor([[4, 5, 6], [], [7, -1], [8, 9], [-1]], dtype=torch.int32)
    fsas = fsa_of("0 1 1 -1\n0 1 2 -2\n0 2 -1 -3\n1 2 -1 -4\n1 2 -1 -5\n2", aux_labels=words)
    lattices = to_kaldi(fsas, ["a"])
    assert [(row[0], row[1], row[3]) for row in readable(lattices, 0)] == [
        ((0,), (3,), 7.0), ((0, 8, 9), (3,), 6.0), ((4, 5, 6), (2,), 6.0), ((4, 5, 6, 8, 9), (2,), 5.0), ((7,), (), 3.0)
    ]  # fmt: skip
    states = np.repeat(np.arange(lattices.num_states), np.diff(lattices.arc_offsets))
    assert (lattices.arc_dest > states).all()


def test_frames_from_elsewhere_and_none() -> None:
    """After an inversion words are labels and tokens aux_labels; without frames no transition-ids are written."""
    tokens = k2.RaggedTensor([[1, 0, 1], [0], [-1]], dtype=torch.int32)
    fsas = fsa_of("0 1 5 -1\n1 2 6 -2\n2 3 -1 0\n3", aux_labels=tokens)
    inverted = to_kaldi(fsas, ["a"], words="labels", frames="aux_labels")
    assert readable(inverted, 0) == [((5, 6), (2, 1, 2, 1), 0.0, 3.0)]
    assert readable(to_kaldi(fsas, ["a"], words="labels", frames=None), 0) == [((5, 6), (), 0.0, 3.0)]
    shifted = to_kaldi(fsas, ["a"], words="labels", frames="aux_labels", frame_offset=10)
    assert shifted.arc_tids.tolist() == [11, 10, 11, 10]


def test_impossible_arcs_and_empty_fsas() -> None:
    """A score of -inf is an infinite cost, also beside lm_scores; an FSA without states is an empty lattice."""
    scores = torch.tensor([-torch.inf, -1.0, 0.0])
    fsas = fsa_of("0 1 1 0\n0 1 2 0\n1 2 -1 0\n2", lm_scores=torch.tensor([-torch.inf, -0.5, 0.0]))
    fsas.scores = scores
    empty = k2.index_fsa(k2.connect(fsa_of("0 1 1 0\n2 3 -1 0\n3")), torch.zeros(1, dtype=torch.int32))
    lattices = to_kaldi(fsas, ["a"], words="labels")
    assert lattices.arc_graph.tolist() == [np.inf, 0.5] and lattices.arc_acoustic.tolist() == [np.inf, 0.5]
    assert native.check(to_kaldi(empty, ["b"], words="labels"), 9) == ["empty"]


def test_what_is_missing_is_named() -> None:
    """Keys, attributes, scales and offsets that make no lattice."""
    fsas = decode()
    for keys, options, match in [
        (None, {}, r"keys=\[\.\.\.\]"),
        (["a"], {}, "expected 2 keys, found 1"),
        (KEYS, {"words": "phones"}, "no attribute phones"),
        (KEYS, {"frame_offset": 0}, "frame_offset"),
        (KEYS, {"acoustic_scale": 0.0}, "acoustic_scale"),
    ]:
        with pytest.raises(Exception, match=match) as caught:
            to_kaldi(fsas, keys, **options)
        assert caught.type.__module__ == "kaldi_mpq.errors"
    with pytest.raises(ConfigError, match="no attribute aux_labels"):
        to_kaldi(fsa_of("0 1 -1 0\n1"), ["a"])


def test_kaldis_programs_read_it(kaldi, tmp_path) -> None:
    """lattice-copy, lattice-best-path, lattice-to-nbest, nbest-to-ctm: k2's best path, its frames, its times."""
    fsas = decode()
    archive, scale = f"ark:{tmp_path}/lat.ark", "--acoustic-scale=0.1"
    with native.LatticeWriter(str(tmp_path / "lat.ark")) as writer:
        writer.write(to_kaldi(fsas, KEYS, acoustic_scale=0.1))
    assert "Done copying 2 lattices" in kaldi(f"lattice-copy {archive} ark:/dev/null").stderr.decode()
    done = kaldi(f"lattice-best-path {scale} {archive} ark,t:{tmp_path}/words ark,t:{tmp_path}/ali")
    best = k2.shortest_path(fsas, use_double_scores=True)
    words, ali = (
        dict(line.split(maxsplit=1) for line in (tmp_path / name).read_text().splitlines()) for name in ("words", "ali")
    )
    ctm = kaldi(f"lattice-1best {scale} {archive} ark:- | nbest-to-ctm --frame-shift=1 ark:- -").stdout.decode()
    begins = {key: [float(row.split()[2]) for row in ctm.splitlines() if row.split()[0] == key] for key in KEYS}
    for index, key in enumerate(KEYS):
        fsa = best[index]
        aux, labels = fsa.aux_labels.tolist(), fsa.labels.tolist()
        assert [int(w) for w in words[key].split()] == [w for w in aux if w > 0]
        assert [int(t) for t in ali[key].split()] == [label + 1 for label in labels[:-1]]
        assert begins[key] == [at for at, word in enumerate(aux) if word > 0]
        total = re.search(rf"utterance {key}, best cost \S+ \+ \S+ = (\S+) over (\d+) frames", done.stderr.decode())
        assert float(total[1]) == pytest.approx(-float(fsa.scores.sum()), abs=1e-3)
        assert int(total[2]) == FRAMES[index]
    listed = kaldi(f"lattice-to-nbest {scale} --n=10 {archive} ark:- | nbest-to-linear ark:- ark:/dev/null ark,t:-")
    assert len(listed.stdout.splitlines()) == 20
