# SPDX-License-Identifier: Apache-2.0
"""N-best rescoring of lattices in memory and of archives, against every path of small lattices."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaldi_mpq import native
from kaldi_mpq.errors import LatticeError
from kaldi_mpq.rescore.fusion import Fusion, Term
from kaldi_mpq.rescore.lattice import lattice_ops
from kaldi_mpq.rescore.nbest import Hypotheses, NbestRescorer, Tally
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

    def costs(self, found: Hypotheses) -> SentenceCosts:
        """Return costs as a new LM does."""
        return SentenceCosts(*self.score(found.word_offsets, found.words, "backoff"), evaluations=len(found.words))


NEW = (MadeUpLm(5),)


def rescorer(*, new=NEW, weights=(0.5,), old_weight=None, word_bonus=0.0, **changes) -> NbestRescorer:
    """Return a rescorer of all paths with made-up language models; w_old is the sum of the weights by default."""
    terms = tuple(Term(Path(f"lm{i}"), weight) for i, weight in enumerate(weights))
    fusion = Fusion(sum(weights) if old_weight is None else old_weight, terms, word_bonus)

    def score(found: Hypotheses) -> list[SentenceCosts]:
        return [lm.costs(found) for lm in new]

    usual = NbestRescorer(ALL, 0.1, VOCAB, fusion, MadeUpLm(1), score, lattice_ops("native"))
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
    result, tally, _ = rescorer(weights=(weight,), old_lm=old, new=(new,)).rescore(lattices)
    assert result.keys == lattices.keys
    assert tally.utterances == len(lattices)
    for i, reason in enumerate(native.check(lattices, VOCAB)):
        wanted = readable(lattices, i) if reason else expected(lattices, i, old, new, weight)
        assert readable(result, i) == wanted


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches())
def test_new_equal_to_old_changes_nothing(lattices):
    """Where both language models are the same, every path keeps its cost at any weight."""
    result, *_ = rescorer(new=(MadeUpLm(1),), weights=(0.75,)).rescore(lattices)
    assert [readable(result, i) for i in range(len(lattices))] == [readable(lattices, i) for i in range(len(lattices))]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches(), st.sampled_from([0.0, 0.5]), st.sampled_from([-0.25, 0.75]), st.sampled_from([-0.5, 0.0, 1.0]))
def test_every_path_gets_what_the_fusion_says(lattices, old_weight, second, bonus):
    """Graph cost of every path is g - w_old OLD + sum w NEW - rho words; a weight may be below 0; scores are kept."""
    old, new = MadeUpLm(1), (MadeUpLm(5), MadeUpLm(9))
    fused = rescorer(new=new, weights=(0.5, second), old_weight=old_weight, word_bonus=bonus, keep_scores=True)
    result, _, kept = fused.rescore(lattices)
    for i, reason in enumerate(native.check(lattices, VOCAB)):
        rows = []
        for words, tids, graph, acoustic in readable(lattices, i):
            real = [word for word in words if word]
            costs = [sum(lm.sentence(real)) for lm in (old, *new)]
            change = -old_weight * costs[0] + 0.5 * costs[1] + second * costs[2] - bonus * len(real)
            rows.append((words, tids, round(graph + change, 6), acoustic))
        assert readable(result, i) == (readable(lattices, i) if reason else sorted(rows))
    assert list(kept.keys) == lattices.keys
    total = kept.graph - old_weight * kept.old + 0.5 * kept.terms[0] + second * kept.terms[1] - bonus * kept.num_words
    for i in np.flatnonzero(~kept.unchanged):
        here = slice(kept.lattice_offsets[i], kept.lattice_offsets[i + 1])
        mine = sorted(round(cost, 6) for cost in total[here].tolist())
        np.testing.assert_allclose(mine, sorted(row[2] for row in readable(result, i)), atol=2e-6)


def test_cheapest_reading_of_the_old_lm_is_subtracted_whole():
    """What the best path through G saves over backing off is taken out at the sentence end."""
    lattices = build(parse("0 1 3 1.0,2.0,4\n1 0.5,0,\n"))
    plain, *_ = rescorer(weights=(1.0,), reading="backoff", old_lm=MadeUpLm(1, saving=0.25)).rescore(lattices)
    best, *_ = rescorer(weights=(1.0,), reading="best", old_lm=MadeUpLm(1, saving=0.25)).rescore(lattices)
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
    result, tally, _ = rescorer(old_lm=MadeUpLm(1, forbidden=7)).rescore(lattices)
    alone, *_ = rescorer().rescore(build(GOOD))
    assert result.keys == ["good", bad.key, "also-good"]
    assert (tally.utterances, tally.passed_through) == (3, 1)
    assert readable(result, 0) == readable(result, 2) == readable(alone, 0)
    for name in ("arc_word", "arc_graph", "arc_acoustic", "arc_tids", "final_graph"):
        np.testing.assert_array_equal(getattr(result.select([1]), name), getattr(lattices.select([1]), name))
    assert f"utterance {bad.key} goes through unchanged" in caplog.text


def test_a_word_that_a_new_lm_lacks_loses_one_utterance_only(caplog):
    """Where an n-gram among the new LMs has no probability, the utterance goes through, and its costs are kept."""
    lattices = build(GOOD, dataclasses.replace(UNKNOWN, key="unknown"), dataclasses.replace(GOOD, key="also-good"))
    result, tally, kept = rescorer(new=(MadeUpLm(5, forbidden=7),), keep_scores=True).rescore(lattices)
    alone, *_ = rescorer().rescore(build(GOOD))
    assert readable(result, 0) == readable(result, 2) == readable(alone, 0)
    assert readable(result, 1) == readable(lattices, 1)
    assert "unknown goes through unchanged: a new LM gives a path no probability" in caplog.text
    assert tally.passed_through == 1
    assert kept.unchanged.tolist() == [False, True, False]
    assert (kept.graph[1], kept.terms[0, 1], kept.old[1]) == (1.0, 0.0, 0.0)


def test_lattice_without_words_gets_the_sentence_end_only():
    """An utterance of silence is a sentence too: its end is scored, and it is not lost."""
    result, tally, _ = rescorer(weights=(1.0,)).rescore(build(NO_WORDS))
    change = cost(0, 99, 5) - cost(0, 99, 1)
    assert readable(result, 0) == [((0,), (1, 2), 1.5 + change, 2.0)]
    assert tally.passed_through == 0


def test_dropping_alignments_keeps_words_and_costs():
    """keep_ali=False leaves everything but the transition-ids."""
    kept, *_ = rescorer().rescore(build(GOOD))
    dropped, *_ = rescorer(keep_ali=False).rescore(build(GOOD))
    assert len(dropped.arc_tids) == len(dropped.final_tids) == 0
    assert [(row[0], *row[2:]) for row in readable(dropped, 0)] == [(row[0], *row[2:]) for row in readable(kept, 0)]


def test_without_language_models_the_n_best_come_out_unchanged(tmp_path):
    """The plumbing check: no LM, n = 2, an archive in, an archive out, the two best paths as they were."""
    spec = parse("0 1 1 0,1,1\n0 1 2 0,2,2\n0 1 3 0,3,3\n1 0,0,\n", key="utt")
    with native.LatticeWriter(str(tmp_path / "in.gz")) as writer:
        writer.write(build(spec))
    plain = rescorer(n=2, old_lm=None, score_terms=None, fusion=None)
    share = (np.exp(-0.1) + np.exp(-0.2)) / (np.exp(-0.1) + np.exp(-0.2) + np.exp(-0.3))
    tally = Tally(utterances=1, hypotheses=2, words=2, frames=1, coverage=pytest.approx(share))
    assert plain.rescore_archive(tmp_path / "in.gz", tmp_path / "out.gz") == (tally, [])
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
