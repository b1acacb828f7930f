# SPDX-License-Identifier: Apache-2.0
"""N-best rescoring of lattices in memory and of archives, against every path of small lattices."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaldi_mpq import native
from kaldi_mpq.errors import LatticeError
from kaldi_mpq.rescore.lattice import lattice_ops
from kaldi_mpq.rescore.nbest import NbestRescorer, Tally
from kaldi_mpq.rescore.tree_scores import SentenceCosts
from tests.native.random_lattices import Arc, Spec, batches, build, parse, readable

ALL = 100_000  # more paths than any lattice here has
VOCAB = 10


def cost(previous: int, word: int, salt: int) -> float:
    """Return a made-up bigram cost, a multiple of 1/8 so that sums are exact."""
    return ((previous * 7 + word * 3 + salt) % 16) / 8


class MadeUpLm:
    """A bigram language model in the shape of both an old and a new one; ``forbidden`` has no probability."""

    def __init__(self, salt: int, forbidden: int | None = None, saving: float = 0.0) -> None:
        self.salt, self.forbidden, self.saving = salt, forbidden, saving

    def sentence(self, words: list[int]) -> list[float]:
        """Return the costs of the words and of the end."""
        costs = [
            np.inf if w == self.forbidden else cost(p, w, self.salt) for p, w in zip([0, *words], words, strict=False)
        ]
        return [*costs, cost(words[-1] if words else 0, 99, self.salt)]

    def score(self, word_offsets, words, reading="best"):
        """Return costs as an old LM does."""
        sentences = [self.sentence(words[a:b].tolist()) for a, b in itertools.pairwise(word_offsets)]
        final = np.array([costs[-1] for costs in sentences])
        return np.array([c for costs in sentences for c in costs[:-1]]), final - (
            self.saving if reading == "best" else 0.0
        )

    def __call__(self, lattice_offsets, word_offsets, words):
        """Return costs as a new LM does."""
        return SentenceCosts(*self.score(word_offsets, words, "backoff"), evaluations=len(words))


def rescorer(**changes) -> NbestRescorer:
    """Return a rescorer of all paths with made-up language models."""
    usual = NbestRescorer(ALL, 0.1, VOCAB, 0.5, MadeUpLm(1), MadeUpLm(5), lattice_ops("native"))
    return dataclasses.replace(usual, **changes)


def expected(lattices: native.Lattices, index: int, old: MadeUpLm, new: MadeUpLm, weight: float) -> list[tuple]:
    """Return what `readable` must show of a rescored lattice: every path with its new graph cost."""
    rows = []
    for words, tids, graph, acoustic in readable(lattices, index):
        real = [word for word in words if word]
        change = weight * (sum(new.sentence(real)) - sum(old.sentence(real)))
        rows.append((words, tids, round(graph + change, 6), acoustic))
    return sorted(rows)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches(), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_every_path_gets_the_new_language_model_for_the_old_one(lattices, weight):
    """With N large enough all paths come out, with graph cost g - w OLD + w NEW; words, tids, acoustics as before."""
    old, new = MadeUpLm(1), MadeUpLm(5)
    result, tally = rescorer(weight=weight, old_lm=old, new_lm=new).rescore(lattices)
    assert result.keys == lattices.keys
    assert tally.utterances == len(lattices)
    for i, reason in enumerate(native.check(lattices, VOCAB)):
        wanted = readable(lattices, i) if reason else expected(lattices, i, old, new, weight)
        assert readable(result, i) == wanted


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches())
def test_new_equal_to_old_changes_nothing(lattices):
    """Where both language models are the same, every path keeps its cost at any weight."""
    result, _ = rescorer(new_lm=MadeUpLm(1), weight=0.75).rescore(lattices)
    assert [readable(result, i) for i in range(len(lattices))] == [readable(lattices, i) for i in range(len(lattices))]


def test_cheapest_reading_of_the_old_lm_is_subtracted_whole():
    """What the best path through G saves over backing off is taken out at the sentence end."""
    lattices = build(parse("0 1 3 1.0,2.0,4\n1 0.5,0,\n"))
    plain, _ = rescorer(weight=1.0, reading="backoff", old_lm=MadeUpLm(1, saving=0.25)).rescore(lattices)
    best, _ = rescorer(weight=1.0, reading="best", old_lm=MadeUpLm(1, saving=0.25)).rescore(lattices)
    assert readable(best, 0)[0][2] == pytest.approx(readable(plain, 0)[0][2] + 0.25)


CYCLE = Spec("cyclic", 2, (Arc(0, 1, 1, 0.0, 0.0, (1,)), Arc(1, 0, 2, 0.0, 0.0, (2,))), {1: (0.0, 0.0, ())})
EMPTY = Spec("empty", 0, (), {})
BEYOND = Spec("beyond", 2, (Arc(0, 1, VOCAB, 0.0, 0.0, (1,)),), {1: (0.0, 0.0, ())})
NOT_A_NUMBER = Spec("nan", 2, (Arc(0, 1, 1, float("nan"), 0.0, (1,)),), {1: (0.0, 0.0, ())})
UNKNOWN = Spec("unknown", 2, (Arc(0, 1, 7, 1.0, 0.0, (1,)),), {1: (0.0, 0.0, ())})
NO_WORDS = Spec("no-words", 2, (Arc(0, 1, 0, 1.0, 2.0, (1, 2)),), {1: (0.5, 0.0, ())})
GOOD = Spec("good", 2, (Arc(0, 1, 3, 1.0, 2.0, (1, 2)),), {1: (0.5, 0.0, ())})


@pytest.mark.parametrize("bad", [CYCLE, EMPTY, BEYOND, NOT_A_NUMBER, UNKNOWN], ids=lambda spec: spec.key)
def test_bad_utterance_goes_through_unchanged_and_loses_no_other(bad, caplog):
    """The utterances around a bad one are rescored; the bad one is counted, named, and the same as before."""
    lattices = build(GOOD, bad, dataclasses.replace(GOOD, key="also-good"))
    result, tally = rescorer(old_lm=MadeUpLm(1, forbidden=7)).rescore(lattices)
    alone, _ = rescorer().rescore(build(GOOD))
    assert result.keys == ["good", bad.key, "also-good"]
    assert (tally.utterances, tally.passed_through) == (3, 1)
    assert readable(result, 0) == readable(result, 2) == readable(alone, 0)
    for name in ("arc_word", "arc_graph", "arc_acoustic", "arc_tids", "final_graph"):
        np.testing.assert_array_equal(getattr(result.select([1]), name), getattr(lattices.select([1]), name))
    assert f"utterance {bad.key} goes through unchanged" in caplog.text


def test_lattice_without_words_gets_the_sentence_end_only():
    """An utterance of silence is a sentence too: its end is scored, and it is not lost."""
    result, tally = rescorer(weight=1.0).rescore(build(NO_WORDS))
    change = cost(0, 99, 5) - cost(0, 99, 1)
    assert readable(result, 0) == [((0,), (1, 2), 1.5 + change, 2.0)]
    assert tally.passed_through == 0


def test_dropping_alignments_keeps_words_and_costs():
    """keep_ali=False leaves everything but the transition-ids."""
    kept, _ = rescorer().rescore(build(GOOD))
    dropped, _ = rescorer(keep_ali=False).rescore(build(GOOD))
    assert len(dropped.arc_tids) == len(dropped.final_tids) == 0
    assert [(row[0], *row[2:]) for row in readable(dropped, 0)] == [(row[0], *row[2:]) for row in readable(kept, 0)]


def test_without_language_models_the_n_best_come_out_unchanged(tmp_path):
    """The plumbing check: no LM, n = 2, an archive in, an archive out, the two best paths as they were."""
    spec = parse("0 1 1 0,1,1\n0 1 2 0,2,2\n0 1 3 0,3,3\n1 0,0,\n", key="utt")
    with native.LatticeWriter(str(tmp_path / "in.gz")) as writer:
        writer.write(build(spec))
    plain = rescorer(n=2, old_lm=None, new_lm=None)
    share = (np.exp(-0.1) + np.exp(-0.2)) / (np.exp(-0.1) + np.exp(-0.2) + np.exp(-0.3))
    tally = Tally(utterances=1, hypotheses=2, words=2, frames=1, coverage=pytest.approx(share))
    assert plain.rescore_archive(tmp_path / "in.gz", tmp_path / "out.gz") == tally
    with native.LatticeReader(str(tmp_path / "out.gz")) as reader:
        (result,) = reader.batches()
    assert readable(result, 0) == readable(build(spec), 0)[:2]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_archive_is_refused_and_leaves_no_output(tmp_path, damage):
    """A lattice cut off in the middle or a corrupt gz member ends the job with an error that names the file."""
    with native.LatticeWriter(str(tmp_path / "in.gz")) as writer:
        for i in range(200):
            writer.write(build(dataclasses.replace(GOOD, key=f"utt-{i}")))
    data = bytearray((tmp_path / "in.gz").read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 0x10
    (tmp_path / "in.gz").write_bytes(bytes(data))
    with pytest.raises(LatticeError, match=r"in\.gz"):
        rescorer().rescore_archive(tmp_path / "in.gz", tmp_path / "out.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["in.gz"]
