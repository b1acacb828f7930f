# SPDX-License-Identifier: Apache-2.0
"""Old language models against Kaldi's own programs: files that it makes, and costs that it puts on lattices."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from kaldi_mpq.native.old_lm import open_old_lm
from tests.native.old_lm_files import CarpaLayout, Sentences, carpa_bytes, projected


class Kaldi:
    """A folder with the toy trigram as Kaldi's programs make it, and the costs that they give sentences."""

    def __init__(self, run, lm_files):
        self.run, self.files, self.folder = run, lm_files, lm_files.folder
        self.fst, self.carpa = self.folder / "G.fst", self.folder / "G.carpa"
        words, arpa = lm_files.write_words(), lm_files.write_arpa()
        run(f"arpa2fst --disambig-symbol=#0 --read-symbol-table={words} {arpa} {self.fst}")
        ids = lm_files.words
        lines = []
        for line in lm_files.arpa.splitlines():
            fields = line.split("\t")
            if len(fields) > 1:
                fields[1] = " ".join(str(ids[word]) for word in fields[1].split())
            lines.append("\t".join(fields))
        self.projected = self.folder / "projected.fst"
        self.projected.write_bytes(projected(self.fst.read_bytes()))
        special = f"--bos-symbol={ids['<s>']} --eos-symbol={ids['</s>']}"
        self.to_carpa = f"arpa-to-const-arpa {special} --unk-symbol={{}} - {{}}"
        self.integers = ("\n".join(lines) + "\n").encode()
        run(self.to_carpa.format(ids["<unk>"], self.carpa), self.integers)

    def totals(self, command, sentences):
        """Return each sentence's cost on a linear lattice; infinite where the lattice comes out empty."""
        text = "".join(f"s{i:04d} \n{_linear(words)}\n" for i, words in enumerate(sentences.lists)).encode()
        self.run(f"{command} | nbest-to-linear ark:- ark:/dev/null ark:/dev/null ark,t:{self.folder}/lm.txt", text)
        costs = np.full(len(sentences.lists), math.inf)
        for line in (self.folder / "lm.txt").read_text().splitlines():
            key, cost = line.split()
            costs[int(key[1:])] = float(cost)
        return costs


def _linear(words):
    """A CompactLattice without costs; each arc has a frame, so that the paths stay as they are."""
    arcs = "".join(f"{i}\t{i + 1}\t{word}\t0,0,1\n" for i, word in enumerate(words))
    return f"{arcs}{len(words)}\t0,0,\n"


@pytest.fixture
def oracle(kaldi, lm_files):
    """The toy trigram made by Kaldi."""
    return Kaldi(kaldi, lm_files)


def _text(lm_files, words=(1, 2, 3, 4, 6)):
    text = lm_files.sentences(np.random.default_rng(12), 400, list(words))
    return Sentences([sentence for sentence in text.lists if sentence])


def test_three_formats_of_one_model_agree(oracle):
    """ARPA, and the G.fst and G.carpa that Kaldi makes of it, give the same total costs."""
    text, words = _text(oracle.files), oracle.files.words
    arpa = text.totals(open_old_lm(oracle.files.write_arpa(), words), "backoff")
    np.testing.assert_allclose(text.totals(open_old_lm(oracle.fst, words), "backoff"), arpa, atol=1e-5)
    np.testing.assert_allclose(text.totals(open_old_lm(oracle.carpa, words), "backoff"), arpa, atol=1e-5)


def test_best_reading_is_what_composition_gives(oracle):
    """lattice-lmrescore composes with G.fst and keeps the best path; on this model that differs from backoff."""
    text = _text(oracle.files)
    lm = open_old_lm(oracle.fst)
    expected = oracle.totals(f"lattice-lmrescore --lm-scale=1.0 ark:- {oracle.projected} ark:-", text)
    np.testing.assert_allclose(text.totals(lm, "best"), expected, rtol=1e-4)
    assert (text.totals(lm, "backoff") > expected + 0.01).any()


def test_backoff_reading_is_what_the_pruned_program_gives(oracle):
    """lattice-lmrescore-pruned reads G.fst deterministically; the model taken away costs nothing."""
    text = _text(oracle.files)
    nothing = oracle.files.write_fst([{"final": 0.0, "arcs": [(w, w, 0.0, 0) for w in range(1, 7)]}], name="0.fst")
    command = f"lattice-lmrescore-pruned --lm-scale=1.0 {nothing} {oracle.fst} ark:- ark:-"
    expected = oracle.totals(command, text)
    np.testing.assert_allclose(text.totals(open_old_lm(oracle.fst), "backoff"), expected, rtol=1e-4)


def test_carpa_costs_are_those_of_kaldi_with_unknown_words_too(oracle):
    """lattice-lmrescore-const-arpa, on sentences a third of which have words without a unigram."""
    text = _text(oracle.files, (1, 2, 3, 4, 5, 6))
    expected = oracle.totals(f"lattice-lmrescore-const-arpa ark:- {oracle.carpa} ark:-", text)
    np.testing.assert_allclose(text.totals(open_old_lm(oracle.carpa)), expected, rtol=1e-4)


def test_words_unknown_to_the_model_empty_the_lattice(oracle):
    """A sentence that costs infinity is one that Kaldi's composition loses."""
    text = _text(oracle.files, (1, 2, 3, 4, 5, 6))
    expected = oracle.totals(f"lattice-lmrescore --lm-scale=1.0 ark:- {oracle.projected} ark:-", text)
    assert 0 < np.isinf(expected).sum() < len(expected)
    for reading in ("best", "backoff"):
        found = text.totals(open_old_lm(oracle.fst), reading)
        np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))


def test_our_carpa_is_kaldis_byte_for_byte(oracle):
    """The tests' writer of the present layout makes the file that Kaldi makes; so its variants are to be trusted."""
    assert carpa_bytes(oracle.files.arpa, oracle.files.words) == oracle.carpa.read_bytes()


@pytest.mark.parametrize("layout", [CarpaLayout(old=True), CarpaLayout(overflow_beyond=3)])
def test_kaldi_reads_the_old_layout_and_the_overflow_table_alike(oracle, layout):
    """The variants that Kaldi no longer writes, or writes for huge models only, mean to it what they mean to us."""
    text = _text(oracle.files, (1, 2, 3, 4, 5, 6))
    variant = oracle.folder / "variant.carpa"
    variant.write_bytes(carpa_bytes(oracle.files.arpa, oracle.files.words, layout))
    expected = oracle.totals(f"lattice-lmrescore-const-arpa ark:- {variant} ark:-", text)
    np.testing.assert_allclose(text.totals(open_old_lm(variant)), expected, rtol=1e-4)


def test_symbol_tables_that_kaldi_leaves_in_are_skipped(oracle):
    """arpa2fst --keep-symbols writes them into G.fst."""
    kept = oracle.folder / "kept.fst"
    words, arpa = oracle.folder / "words.txt", oracle.folder / "lm.arpa"
    oracle.run(f"arpa2fst --disambig-symbol=#0 --keep-symbols=true --read-symbol-table={words} {arpa} {kept}")
    text = _text(oracle.files)
    assert kept.stat().st_size > oracle.fst.stat().st_size
    assert text.costs(open_old_lm(kept)) == text.costs(open_old_lm(oracle.fst))


def test_what_kaldi_refuses_we_refuse(oracle):
    """A G.fst and a G.carpa that are cut off."""
    for good, kaldi_reads in (
        (oracle.fst, "fstcopy scp:<(echo k {}) ark:/dev/null"),
        (oracle.carpa, "lattice-lmrescore-const-arpa 'ark:echo s; echo 0|' {} ark:/dev/null"),
    ):
        bad = oracle.folder / f"bad{good.suffix}"
        bad.write_bytes(good.read_bytes()[:-30])
        assert oracle.run(kaldi_reads.format(bad), check=False).returncode != 0
        assert oracle.run(kaldi_reads.format(good), check=False).returncode == 0
        with pytest.raises(Exception, match=re.escape(str(bad))):
            open_old_lm(bad)
