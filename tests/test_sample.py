# SPDX-License-Identifier: Apache-2.0
"""The sample in tests/data/ami: small, complete, and its old LM costs what the whole one costs."""

from __future__ import annotations

import numpy as np
import pytest

from kaldi_mpq import native
from kaldi_mpq.text.vocab import Vocabulary

SETS = ("dev", "eval")


def keys_of(table) -> list[str]:
    """Return the first field of each line."""
    return [line.split()[0] for line in table.read_text(encoding="utf-8").splitlines()]


def read_lattices(sample, name: str) -> native.Lattices:
    """Return all lattices of a set."""
    found = []
    for job in (1, 2):
        with native.LatticeReader(sample / f"exp/chain/tdnn/decode_{name}_tg/lat.{job}.gz") as reader:
            found += list(reader.batches())
    return native.Lattices.concat(found)


def test_it_is_at_most_a_megabyte(sample):
    """A clone stays small."""
    assert sum(path.stat().st_size for path in sample.rglob("*") if path.is_file()) <= 1_000_000


@pytest.mark.parametrize("name", SETS)
def test_lattices_and_references_are_of_the_same_utterances(sample, name):
    """Every reference has a lattice and every lattice a reference, in the same order."""
    keys = keys_of(sample / f"data/{name}/text")
    assert read_lattices(sample, name).keys == keys
    for table in ("utt2spk", "segments"):
        assert keys_of(sample / f"data/{name}/{table}") == keys
    assert len(keys) == 30
    assert len([line for line in (sample / f"data/{name}/stm").read_text().splitlines() if line[0] != ";"]) == 30


@pytest.mark.parametrize("name", SETS)
def test_all_lattices_can_be_used(sample, name):
    """The sample's lattices have no fault."""
    words = len((sample / "data/lang_tg/words.txt").read_text(encoding="utf-8").splitlines())
    assert native.check(read_lattices(sample, name), words) == [None] * 30


@pytest.mark.parametrize("file", ["lang_tg/G.fst", "local/lm/ami.o3g.kn.arpa.gz"])
@pytest.mark.parametrize("reading", ["best", "backoff"])
def test_the_small_old_lm_costs_what_the_whole_one_costs(sample, testbed, file, reading):
    """On the 20 best paths of every lattice, in both readings, to the last bit that a float32 file holds."""
    words = Vocabulary.read(sample / "data/lang_tg/words.txt", bos="<s>", eos="</s>", unk="<unk>").ids
    small, whole = (native.open_old_lm(root / "data" / file, words) for root in (sample, testbed))
    for name in SETS:
        lattices = read_lattices(sample, name)
        offsets, strings = native.nbest(lattices, 20, 0.1).words(lattices)
        mine, theirs = (lm.score(offsets, strings, reading=reading) for lm in (small, whole))
        assert np.isfinite(mine[0]).all()
        np.testing.assert_array_equal(mine[0], theirs[0])
        np.testing.assert_array_equal(mine[1], theirs[1])


@pytest.mark.parametrize("name", SETS)
def test_fst_and_arpa_are_the_same_lm(sample, name):
    """G.fst read by backing off and the ARPA file agree on every word of every reference."""
    words = Vocabulary.read(sample / "data/lang_tg/words.txt", bos="<s>", eos="</s>", unk="<unk>").ids
    texts = [line.split()[1:] for line in (sample / f"data/{name}/text").read_text(encoding="utf-8").splitlines()]
    known = [[words[word] for word in text] for text in texts if all(word in words for word in text)]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in known])]).astype(np.int64)
    strings = np.array([word for text in known for word in text], np.int32)
    files = [sample / "data/lang_tg/G.fst", sample / "data/local/lm/ami.o3g.kn.arpa.gz"]
    fst, arpa = (native.open_old_lm(file, words).score(offsets, strings, reading="backoff") for file in files)
    np.testing.assert_allclose(fst[0], arpa[0], atol=2e-5)
    np.testing.assert_allclose(fst[1], arpa[1], atol=2e-5)
    assert len(known) > 20


def test_the_notice_is_beside_it(sample):
    """AMI's words are CC BY 4.0: who gave them is said where they are."""
    text = (sample / "README.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in text
    assert "University of Edinburgh" in text
