# SPDX-License-Identifier: Apache-2.0
"""An FsaVec rescored, and the example of docs/pipeline.md, which runs as it stands there."""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from kaldi_mpq import native
from kaldi_mpq.errors import LatticeError
from kaldi_mpq.rescore.k2_fsas import to_fsas
from kaldi_mpq.rescore.k2_kaldi import to_kaldi
from kaldi_mpq.rescore.k2_rescore import rescore_fsas
from tests.conftest import ROOT
from tests.native.random_lattices import readable
from tests.rescore.decoded import decode, paths_of

k2 = pytest.importorskip("k2", reason="k2 cannot be imported", exc_type=ImportError)
torch = pytest.importorskip("torch")


def best_of_words(rows) -> dict[tuple[int, ...], float]:
    """Words -> best score, of the rows of `paths_of`."""
    found: dict[tuple[int, ...], float] = {}
    for _, words, score in rows:
        found[words] = max(score, found.get(words, -np.inf))
    return found


def longer_is_better(lattices: native.Lattices) -> native.Lattices:
    """A language model that likes every word by 3 nats."""
    lattices.arc_graph[:] -= 3.0 * (lattices.arc_word > 0)
    return lattices


@pytest.mark.parametrize("ragged", [False, True], ids=["tensor", "ragged"])
def test_every_word_string_gets_its_new_score(ragged) -> None:
    """Scores change by what the rescorer gave; one path for each word string; order, keys and frames stay."""
    fsas = decode(ragged)
    done = rescore_fsas(fsas, longer_is_better, ["x", "y"])
    assert done.shape[0] == 2 and done.kaldi_keys == ("x", "y") and done.device == fsas.device
    for index in range(2):
        before = best_of_words(paths_of(fsas[index], "aux_labels"))
        rows = paths_of(done[index], "aux_labels")
        after = best_of_words(rows)
        assert len(rows) == len(after) > 5
        assert after.keys() == before.keys()
        for words, score in after.items():
            assert score == pytest.approx(before[words] + 3.0 * len(words), abs=0.02)  # delta of determinization
        best = k2.shortest_path(done, use_double_scores=True)[index]
        assert tuple(word for word in best.aux_labels.tolist() if word > 0) == max(after, key=after.get)


def test_a_rescorer_may_return_more_than_lattices() -> None:
    """The first of a tuple, an attribute; keys are made up where there are none; a beam leaves fewer paths."""
    fsas = decode()
    named = rescore_fsas(fsas, lambda lattices: SimpleNamespace(lattices=longer_is_better(lattices)), beam=2.0)
    done = rescore_fsas(fsas, lambda lattices: (longer_is_better(lattices), "tally"), beam=2.0)
    assert named.scores.tolist() == done.scores.tolist()
    assert done.kaldi_keys == ("utt-0", "utt-1")
    assert 0 < done.num_arcs < rescore_fsas(fsas, longer_is_better).num_arcs


def test_kaldi_lattices_go_through(decode_sample) -> None:
    """What came from Kaldi keeps its keys, costs and transition-ids through the identity."""
    fsas = rescore_fsas(to_fsas(decode_sample, 0.1), lambda lattices: lattices, acoustic_scale=0.1)
    back = to_kaldi(fsas)
    assert back.keys == decode_sample.keys
    assert native.is_deterministic(decode_sample).all()
    best, truth = native.best_paths(back, 0.1), native.best_paths(decode_sample, 0.1)
    assert best.graph.tolist() == truth.graph.tolist()
    assert np.sort(back.arc_tids).tolist() == np.sort(decode_sample.arc_tids).tolist()


@pytest.fixture
def decode_sample(sample) -> native.Lattices:
    """Some real lattices."""
    with native.LatticeReader(str(sample / "exp/chain/tdnn/decode_dev_tg/lat.1.gz")) as reader:
        return native.prune(next(iter(reader.batches(max_lattices=5))), 10.0, 0.1)


def test_a_lost_lattice_is_noticed() -> None:
    """A rescorer that drops or swaps utterances would give its results to others."""
    for order in ([0], [1, 0]):
        with pytest.raises(LatticeError, match="order"):
            rescore_fsas(decode(), lambda lattices, order=order: lattices.select(order), ["x", "y"])


def test_what_cannot_be_determinized_is_rescored_all_the_same(caplog) -> None:
    """An FSA without a path comes through, named in the log."""
    fsas = k2.create_fsa_vec([k2.Fsa.from_str("0 1 1 0\n1 2 -1 0\n2"), k2.Fsa.from_str("0 1 1 0\n2 3 -1 0\n3")])
    done = rescore_fsas(fsas, longer_is_better, ["x", "dead"], words="labels")
    assert done.shape[0] == 2
    assert "utterance dead is not determinized" in caplog.text
    assert readable(to_kaldi(done), 0) == [((1,), (2,), -3.0, 0.0)]


def test_the_example_of_the_documentation_runs(lm, tmp_path, monkeypatch, capsys) -> None:
    """Every line of docs/pipeline.md's section for k2 users, in a folder with an LM; the archive is a Kaldi archive."""
    page = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    section = page.split("## From k2 and icefall\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) >= 2
    shutil.copytree(lm, tmp_path / "exp" / "lstm")
    monkeypatch.chdir(tmp_path)
    names = {"lattice": decode(), "cut_ids": ["cut-1", "cut-2"]}
    for block in blocks:
        exec(compile(block, "docs/pipeline.md", "exec"), names)
    with native.LatticeReader("lat.1.gz") as reader:
        assert next(iter(reader.batches())).keys == ["cut-1", "cut-2"]
    assert names["rescored"].shape[0] == 2
    assert "cut-1" in capsys.readouterr().out
