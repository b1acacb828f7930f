# SPDX-License-Identifier: Apache-2.0
"""The testbed's own 3-gram, G.fst and ARPA, on AMI's texts: in agreement with each other, with Kaldi and its README."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from kaldi_mpq.native.old_lm import find_old_lm, open_old_lm
from tests.native.old_lm_files import Sentences, projected


@pytest.fixture(scope="module")
def words(testbed):
    """Ids of words.txt."""
    lines = (testbed / "data/lang_tg/words.txt").read_text(encoding="utf-8").splitlines()
    return {word: int(number) for word, number in (line.split() for line in lines)}


@pytest.fixture(scope="module")
def arpa(testbed, words):
    """The ARPA file, with the probability for unknown words that the testbed's perplexities are with."""
    return open_old_lm(testbed / "data/local/lm/ami.o3g.kn.arpa.gz", words, unk_logp=math.log(1e-7))


@pytest.fixture(scope="module")
def fst(testbed, words):
    """G.fst, found as a script finds it."""
    return open_old_lm(find_old_lm(testbed / "data/lang_tg"), words)


def read(path, words):
    """A Kaldi text file as sentences, unknown words as <unk>."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return Sentences([[words.get(word, words["<unk>"]) for word in line.split()[1:]] for line in lines])


@pytest.mark.parametrize(("name", "published"), [("dev", 99.8), ("eval", 87.5)])
def test_perplexity_is_the_published_one(shared, arpa, words, name, published):
    """Of all of AMI's dev and eval text, sentence ends counted."""
    text = read(shared / "data/ami" / f"{name}.txt", words)
    total = text.totals(arpa).sum()
    assert math.exp(total / (len(text.words) + len(text.lists))) == pytest.approx(published, abs=0.05)


def test_fst_and_arpa_agree_on_every_word(testbed, fst, arpa, words):
    """The deterministic reading of G.fst, to 1e-4 nats, on the references of the test set."""
    text = read(testbed / "data/eval/text", words)
    word, final = fst.score(text.offsets, text.words, "backoff")
    arpa_word, arpa_final = arpa.score(text.offsets, text.words)
    known = text.words != words["<unk>"]
    after_unknown = np.isin(np.arange(len(known)), np.flatnonzero(~known)[:, None] + [1, 2])
    np.testing.assert_allclose(word[known & ~after_unknown], arpa_word[known & ~after_unknown], atol=1e-4)
    assert np.isinf(word[~known]).all()
    whole = [known[b:e].all() for b, e in zip(text.offsets[:-1], text.offsets[1:])]
    np.testing.assert_allclose(final[whole], arpa_final[whole], atol=1e-4)


def test_best_reading_is_never_dearer_and_sometimes_cheaper(testbed, fst, words):
    """Kaldi's composition finds cheaper paths than backing off only where it must, in this very model."""
    text = read(testbed / "data/eval/text", words)
    best, backoff = text.totals(fst, "best"), text.totals(fst, "backoff")
    finite = np.isfinite(backoff)
    assert (best[finite] <= backoff[finite] + 1e-9).all()
    assert (best[finite] < backoff[finite] - 0.1).mean() > 0.1
    np.testing.assert_array_equal(np.isinf(best), ~finite)


def test_best_reading_word_by_word_is_that_of_whole_sentences(testbed, fst, words):
    """On 200 real references the increments add up to the cheapest paths' costs."""
    text = read(testbed / "data/eval/text", words)
    some = [s for s in text.lists if words["<unk>"] not in s][:200]
    wanted = Sentences(some).totals(fst, "best")
    rows, total = np.repeat(fst.initial("best")[None], len(some), axis=0), np.zeros(len(some))
    for step in range(max(map(len, some)) + 1):
        going = np.array([step <= len(sentence) for sentence in some])
        word = np.array([[*sentence, -1][step] for sentence in some if step <= len(sentence)], np.int32)
        rows[going], cost = fst.advance(rows[going], word, "best")
        total[going] += cost
    np.testing.assert_allclose(total, wanted, atol=1e-4)


def test_kaldi_gives_real_sentences_the_same_costs(testbed, kaldi, fst, words, tmp_path):
    """lattice-lmrescore with the testbed's G.fst on 200 references."""
    text = read(testbed / "data/eval/text", words)
    some = [s for s in text.lists if s and words["<unk>"] not in s][:200]
    lattices = ""
    for i, sentence in enumerate(some):
        arcs = "".join(f"{at}\t{at + 1}\t{word}\t0,0,1\n" for at, word in enumerate(sentence))
        lattices += f"s{i:04d} \n{arcs}{len(sentence)}\t0,0,\n\n"
    (tmp_path / "projected.fst").write_bytes(projected(fst.path.read_bytes()))
    kaldi(
        f"lattice-lmrescore --lm-scale=1.0 ark:- {tmp_path}/projected.fst ark:- | "
        f"nbest-to-linear ark:- ark:/dev/null ark:/dev/null ark,t:{tmp_path}/lm.txt",
        lattices.encode(),
    )
    expected = [float(line.split()[1]) for line in (tmp_path / "lm.txt").read_text().splitlines()]
    np.testing.assert_allclose(Sentences(some).totals(fst, "best"), expected, rtol=1e-4)


def test_loading_and_scoring_are_fast(testbed, words):
    """13 MB of G.fst in well under a second of CPU; at least 20,000 sentences a second, the slowest reading."""
    started = time.process_time()
    lm = open_old_lm(testbed / "data/lang_tg/G.fst", words)
    assert time.process_time() - started < 1.0
    text = read(testbed / "data/dev/text", words)
    repeated = Sentences(text.lists * 5)
    started = time.process_time()
    repeated.totals(lm, "best")
    assert len(repeated.lists) / (time.process_time() - started) > 20_000
